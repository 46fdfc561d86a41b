package replica_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// naive is what a chain is for its clients: keys, and one command after the other.
type naive struct {
	keys     map[string]string
	versions map[string]uint64
	count    uint64
}

// do does a command at once.
func (n *naive) do(c *chain.Command) chain.Result {
	n.count++
	for i, f := range c.If {
		if now := n.versions[string(f.Key)]; now != f.Version {
			return chain.Result{Outcome: chain.Conflict, Index: i, Version: now}
		}
	}
	r := chain.Result{Version: n.count}
	keys, versions := map[string]string{}, map[string]uint64{}
	for k, v := range n.keys {
		keys[k], versions[k] = v, n.versions[k]
	}
	for i, w := range c.Do {
		k := string(w.Key)
		now, there := keys[k]
		switch w.Op {
		case chain.OpPut:
			now = string(w.Value)
		case chain.OpAppend:
			now += string(w.Value)
		case chain.OpIncrement:
			if there && len(now) != 8 {
				return chain.Result{Outcome: chain.BadValue, Index: i}
			}
			if there {
				r.Number = int64(binary.BigEndian.Uint64([]byte(now)))
			} else {
				r.Number = 0
			}
			r.Number += w.Delta
			now = string(binary.BigEndian.AppendUint64(nil, uint64(r.Number)))
		case chain.OpDelete:
			delete(keys, k)
			delete(versions, k)
			continue
		}
		keys[k], versions[k] = now, n.count
	}
	n.keys, n.versions = keys, versions
	return r
}

func someCommand(t *rapid.T, request uint64, n *naive) chain.Command {
	key := rapid.SampledFrom([]string{"a", "b", "c"})
	c := chain.Command{Client: 1, Request: request, Floor: 1}
	if rapid.IntRange(0, 2).Draw(t, "conditional") == 0 {
		k := key.Draw(t, "condition")
		c.If = append(c.If, chain.Condition{Key: []byte(k), Version: n.versions[k]})
		if rapid.IntRange(0, 3).Draw(t, "wrong") == 0 {
			c.If[0].Version += 7
		}
	}
	for range rapid.IntRange(0, 3).Draw(t, "writes") {
		w := chain.Write{Op: chain.Op(rapid.IntRange(1, 4).Draw(t, "op")), Key: []byte(key.Draw(t, "key"))}
		switch w.Op {
		case chain.OpIncrement:
			w.Delta = int64(rapid.IntRange(-3, 3).Draw(t, "delta"))
		case chain.OpPut, chain.OpAppend:
			w.Value = []byte(rapid.SampledFrom([]string{"", "x", "12345678"}).Draw(t, "value"))
		case chain.OpDelete:
		}
		c.Do = append(c.Do, w)
	}
	return c
}

// storm is a chain whose messages come late, twice, in another order, or not.
type storm struct {
	all   []*place
	queue []replica.Message
}

func (s *storm) gather() {
	for _, p := range s.all {
		s.queue = append(s.queue, p.take()...)
	}
}

func (s *storm) deliver(m *replica.Message) {
	for _, p := range s.all {
		if p.self == m.To {
			p.do(p.Receive(p.now, m))
		}
	}
	s.gather()
}

// step lets something happen.
func (s *storm) step(t *rapid.T) {
	s.gather()
	what := rapid.IntRange(0, 9).Draw(t, "step")
	if what < 7 && len(s.queue) > 0 {
		i := 0
		if what < 2 {
			i = rapid.IntRange(0, len(s.queue)-1).Draw(t, "message")
		}
		m := s.queue[i]
		if what != 6 { // otherwise it comes again
			s.queue = append(s.queue[:i:i], s.queue[i+1:]...)
		}
		if what != 5 { // otherwise it is lost
			s.deliver(&m)
		}
		return
	}
	p := s.all[rapid.IntRange(0, len(s.all)-1).Draw(t, "place")]
	if what < 9 {
		p.sync()
	} else {
		p.later()
	}
}

// TestModel: whatever happens to messages, commands end as if done one after the other as they came, and all replicas agree.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s := &storm{}
		names := []string{"a", "b", "c"}[:rapid.IntRange(1, 3).Draw(rt, "replicas")]
		for _, n := range names {
			s.all = append(s.all, newPlace(t, n, 0))
		}
		for _, p := range s.all {
			p.configure(1, serving(names...)...)
			p.lease(0, 24*time.Hour)
		}
		head, model := s.all[0], &naive{keys: map[string]string{}, versions: map[string]uint64{}}
		var want []chain.Result
		for request := range uint64(rapid.IntRange(1, 12).Draw(rt, "commands")) {
			c := someCommand(rt, request+1, model)
			head.send(replica.Token(request), 1, c)
			want = append(want, model.do(&c))
			for range rapid.IntRange(0, 6).Draw(rt, "steps") {
				s.step(rt)
				agree(rt, s.all)
			}
		}
		for range 12 {
			settle(s.all...)
			for _, p := range s.all {
				p.later()
			}
		}
		check(rt, s.all, model, want)
	})
}

// agree checks what holds at any time: who commits what others have durably, and logs that continue each other.
func agree(t *rapid.T, all []*place) {
	for i, p := range all {
		for _, other := range all[i+1:] {
			if s, o := p.Status(), other.Status(); s.Committed > o.Durable || o.Committed > s.Durable || o.Last > s.Last {
				t.Fatalf("%+v, %+v", s, o)
			}
		}
	}
}

func check(t *rapid.T, all []*place, model *naive, want []chain.Result) {
	if len(all[0].replies) != len(want) {
		t.Fatalf("%d of %d commands ended", len(all[0].replies), len(want))
	}
	for _, r := range all[0].replies {
		if r.Err != nil || r.Result != want[r.Token] {
			t.Fatalf("command %d ends as %+v, %v; want %+v", r.Token, r.Result, r.Err, want[r.Token])
		}
	}
	for _, p := range all {
		got := map[string]string{}
		for k, v := range p.disk.keys {
			got[k] = string(v.Value)
			if v.Version != model.versions[k] {
				t.Fatalf("%s has version %d of %s, want %d", p.self.Node, v.Version, k, model.versions[k])
			}
		}
		if fmt.Sprint(got) != fmt.Sprint(model.keys) {
			t.Fatalf("%s has %q, want %q", p.self.Node, got, model.keys)
		}
	}
}
