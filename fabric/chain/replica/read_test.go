package replica_test

import (
	"errors"
	"testing"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

func strong(token replica.Token, key string) replica.Read {
	return replica.Read{Token: token, Key: []byte(key)}
}

// ask asks for a permission.
func (p *place) ask(q replica.Read) {
	p.t.Helper()
	p.do(p.Read(p.now, q))
}

// queries removes what was sent, and returns the questions.
func (p *place) queries() []replica.Message {
	var all []replica.Message
	for _, m := range p.take() {
		if m.Kind == replica.KindQuery {
			all = append(all, m)
		}
	}
	return all
}

// dirtyChain is a chain in which an entry of the key k came everywhere and is durable nowhere.
func dirtyChain(t *testing.T, set func(*replica.Config)) (a, b, c *place) {
	t.Helper()
	all := chainOf(t, set, "a", "b", "c")
	all[0].send(1, 1, put(1, "k", "v"))
	pass(nil, all...)
	return all[0], all[1], all[2]
}

// TestOneQuestion: one question is under way; it answers what had come before it left, and nothing else.
func TestOneQuestion(t *testing.T) {
	_, b, c := dirtyChain(t, usual)
	b.ask(strong(1, "k"))
	first := b.queries()
	b.ask(strong(2, "k"))
	b.ask(strong(3, "other"))
	if len(first) != 1 || len(b.queries()) != 0 || len(b.reads) != 1 || b.reads[0].Token != 3 {
		t.Fatalf("%v, %v", first, b.reads)
	}
	c.do(c.Receive(c.now, &first[0]))
	answers := c.take()
	b.do(b.Receive(b.now, &answers[0]))
	if len(b.reads) != 2 || b.reads[1].Token != 1 || b.reads[1].Err != nil {
		t.Fatalf("%v", b.reads)
	}
	second := b.queries()
	if len(second) != 1 || second[0].Query <= first[0].Query {
		t.Fatalf("%v after %v", second, first)
	}
	b.do(b.Receive(b.now, &answers[0])) // a second time
	if len(b.reads) != 2 {
		t.Fatalf("an old answer counts: %v", b.reads)
	}
	c.do(c.Receive(c.now, &second[0]))
	pass(nil, b, c)
	if len(b.reads) != 3 || b.reads[2].Token != 2 {
		t.Fatalf("%v", b.reads)
	}
}

// TestAnswerCommits: the answer tells what is committed before the acknowledgement does.
func TestAnswerCommits(t *testing.T) {
	a, b, c := dirtyChain(t, usual)
	for _, p := range []*place{a, b, c} { // the watermark goes down, and what comes back is lost
		p.sync()
		pass(func(m *replica.Message) bool { return m.Kind == replica.KindAck }, a, b, c)
	}
	if c.Status().Committed != 1 || a.Status().Committed != 0 {
		t.Fatalf("%+v, %+v", c.Status(), a.Status())
	}
	a.ask(strong(2, "k"))
	pass(func(m *replica.Message) bool { return m.Kind == replica.KindAck }, a, b, c)
	if len(a.reads) != 1 || a.reads[0].Applied != 1 || string(a.disk.keys["k"].Value) != "v" {
		t.Fatalf("%v, %v", a.reads, a.disk.keys)
	}
	if r := a.replied(1); r.Err != nil {
		t.Fatalf("%+v", r)
	}
}

// TestLostQuestion: a question that got lost is asked again, with a new number.
func TestLostQuestion(t *testing.T) {
	a, b, c := dirtyChain(t, usual)
	b.ask(strong(1, "k"))
	lost := b.queries()
	b.later()
	again := b.queries()
	if len(again) != 1 || again[0].Query <= lost[0].Query {
		t.Fatalf("%v after %v", again, lost)
	}
	c.do(c.Receive(c.now, &again[0]))
	pass(nil, a, b, c)
	if len(b.reads) != 1 || b.reads[0].Err != nil {
		t.Fatalf("%v", b.reads)
	}
}

// TestNewConfigAsksAgain: a question of an epoch that is over is asked of the new tail.
func TestNewConfigAsksAgain(t *testing.T) {
	a, b, c := dirtyChain(t, usual)
	a.ask(strong(2, "k"))
	lost := a.queries()
	members := serving("a", "b")
	a.configure(2, members...)
	b.configure(2, members...)
	c.do(c.Receive(c.now, &lost[0]))
	for _, m := range c.take() { // of the old tail, which has not heard of it
		a.do(a.Receive(a.now, &m))
	}
	if len(a.reads) != 0 {
		t.Fatalf("the old tail's answer counts: %v", a.reads)
	}
	pass(nil, a, b)
	if len(a.reads) != 0 {
		t.Fatalf("the new tail answers what it may not know: %v", a.reads)
	}
	a.sync()
	b.sync()
	pass(nil, a, b)
	if len(a.reads) != 1 || a.reads[0].Err != nil || a.reads[0].Applied != 1 {
		t.Fatalf("%v", a.reads)
	}
}

// TestTailWithoutLease: it answers nobody.
func TestTailWithoutLease(t *testing.T) {
	_, b, c := dirtyChain(t, usual)
	c.lease(time.Minute, 0)
	b.ask(strong(1, "k"))
	pass(nil, b, c)
	c.ask(strong(2, "k"))
	if len(b.reads) != 0 || len(c.reads) != 1 || !errors.Is(c.reads[0].Err, chain.ErrNotServing) {
		t.Fatalf("%v, %v", b.reads, c.reads)
	}
	c.lease(0, time.Minute)
	b.later()
	pass(nil, b, c)
	if len(b.reads) != 1 || b.reads[0].Err != nil {
		t.Fatalf("%v", b.reads)
	}
}

// TestRanges: a range is as dirty as its keys.
func TestRanges(t *testing.T) {
	_, b, _ := dirtyChain(t, usual)
	for _, c := range []struct {
		start, end string
		now        bool
	}{
		{"", "", false}, {"k", "", false}, {"k", "k\x00", false}, {"a", "k", true}, {"l", "", true}, {"k\x00", "", true}, {"", "l", false},
	} {
		keys := chain.Range{Start: []byte(c.start), End: []byte(c.end)}
		if _, ok := b.CanRead(b.now, replica.Read{Keys: &keys}); ok != c.now {
			t.Errorf("[%q, %q): %v", c.start, c.end, ok)
		}
	}
}

// TestPlainReads: as in chain replication only the tail answers, whatever is clean.
func TestPlainReads(t *testing.T) {
	a, b, c := dirtyChain(t, func(c *replica.Config) { c.PlainReads = true })
	for _, p := range []*place{a, b} {
		p.ask(strong(1, "other"))
		if len(p.reads) != 1 || !errors.Is(p.reads[0].Err, chain.ErrNotServing) || len(p.queries()) != 0 {
			t.Errorf("%v", p.reads)
		}
	}
	if applied, ok := c.CanRead(c.now, strong(1, "k")); !ok || applied != 0 {
		t.Error("the tail does not answer")
	}
}

// TestBounds: how old answers may be.
func TestBounds(t *testing.T) {
	a, b, c := dirtyChain(t, usual)
	a.send(2, 1, put(2, "k", "w"))
	pass(nil, a, b, c)
	b.now += time.Second // the entries' age
	bound := func(age time.Duration, versions uint64) replica.Read {
		return replica.Read{Key: []byte("k"), Consistency: chain.Bounded, Bound: chain.Bound{Age: age, Versions: versions}}
	}
	check := func(what string, q replica.Read, want bool) {
		t.Helper()
		if _, ok := b.CanRead(b.now, q); ok != want {
			t.Errorf("%s, %+v: %v", what, q.Bound, ok)
		}
	}
	b.lease(100*time.Millisecond, time.Second)
	check("lease", bound(0, 0), false)
	check("lease", bound(0, 1), false)
	check("lease", bound(0, 2), true)
	check("lease", bound(time.Second, 0), true)
	check("lease", bound(time.Second-1, 0), false)
	check("lease", bound(time.Second, 2), true)
	check("lease", bound(time.Second, 1), false)
	check("lease", bound(time.Second-1, 2), false)
	b.lease(1500*time.Millisecond, 0) // it ended
	check("no lease", bound(2*time.Second, 0), true)
	check("no lease", bound(1499*time.Millisecond, 0), false)
	check("no lease", bound(0, 9), false)
	// Removed since, it knows of no writes, and there may be many.
	check("no lease", bound(2*time.Second, 9), false)
}

// TestOutside: who is no member, or syncs, answers eventual reads at the most.
func TestOutside(t *testing.T) {
	a, b := newPlace(t, "a", 1, entry(1, 1)), newPlace(t, "b", 0)
	eventual := replica.Read{Key: []byte("k"), Consistency: chain.Eventual}
	if _, ok := b.CanRead(b.now, eventual); ok {
		t.Error("never linked, and answers")
	}
	members := append(serving("a"), chain.Member{Replica: named("b"), State: chain.Syncing})
	a.configure(2, members...)
	b.configure(2, members...)
	b.lease(0, time.Minute)
	settle(a, b)
	for _, q := range []replica.Read{strong(1, "k"), strong(1, "other"), eventual} {
		if _, ok := b.CanRead(b.now, q); ok || b.Status().Last != 1 {
			t.Errorf("syncing, and answers %+v", q)
		}
	}
	members[1].State = chain.Joining
	a.configure(3, members...)
	b.configure(3, members...)
	settle(a, b)
	if _, ok := b.CanRead(b.now, strong(1, "k")); !ok {
		t.Error("joined, and does not answer")
	}
	b.configure(4, serving("a")...)
	if _, ok := b.CanRead(b.now, strong(1, "other")); ok {
		t.Error("removed, and answers")
	}
	if _, ok := b.CanRead(b.now, eventual); !ok {
		t.Error("knows enough for an eventual read")
	}
}

// TestFloorIsReached: the floor of a tail whose log was cut.
func TestFloorIsReached(t *testing.T) {
	a, b := newPlace(t, "a", 0, entry(1, 1)), newPlace(t, "b", 0, entry(1, 1), entry(1, 2), entry(1, 3))
	a.configure(2, serving("a", "b")...)
	b.configure(2, serving("a", "b")...)
	pass(nil, a, b)
	b.lease(0, time.Second)
	b.do(b.Read(b.now, replica.Read{Token: 7, Key: []byte("k")}))
	if len(b.reads) != 1 || b.reads[0].Err != nil || b.reads[0].Applied != 1 {
		t.Fatalf("%v, %+v", b.reads, b.Status())
	}
}

// TestDirtyRead: a dirty key's read asks the tail; bounded ones of enough age need not.
func TestDirtyRead(t *testing.T) {
	a, b := newPlace(t, "a", 0), newPlace(t, "b", 0)
	a.configure(1, serving("a", "b")...)
	b.configure(1, serving("a", "b")...)
	pass(nil, a, b)
	a.lease(300*time.Millisecond, time.Second)
	b.lease(0, time.Second)
	a.put()
	pass(nil, a, b)
	key := []byte("k")
	aged := func(age time.Duration) replica.Read {
		return replica.Read{Key: key, Consistency: chain.Bounded, Bound: chain.Bound{Age: age}}
	}
	for _, c := range []struct {
		read replica.Read
		now  bool
	}{
		{replica.Read{Key: key}, false},
		{replica.Read{Key: []byte("other")}, true},
		{replica.Read{Key: key, Consistency: chain.Eventual}, true},
		{aged(time.Minute), true},
		{aged(time.Millisecond), false}, // less than the lease's age: as a strong one
		{replica.Read{Key: key, Consistency: chain.Bounded, Bound: chain.Bound{Versions: 1}}, true},
	} {
		if _, ok := a.CanRead(a.now, c.read); ok != c.now {
			t.Errorf("%+v: at once %v", c.read, ok)
		}
	}
	a.do(a.Read(a.now, aged(time.Millisecond)))
	pass(nil, a, b)
	if len(a.reads) != 1 || a.reads[0].Err != nil {
		t.Fatalf("%v", a.reads)
	}
}

// TestWithoutLease: nothing but eventual reads.
func TestWithoutLease(t *testing.T) {
	a := newPlace(t, "a", 0)
	a.configure(1, serving("a")...)
	a.lease(2*time.Second, 0)
	a.do(a.Read(a.now, replica.Read{Key: []byte("k")}))
	a.do(a.Read(a.now, replica.Read{Key: []byte("k"), Consistency: chain.Eventual}))
	if len(a.reads) != 2 || !errors.Is(a.reads[0].Err, chain.ErrNotServing) || a.reads[1].Err != nil {
		t.Fatalf("%v", a.reads)
	}
}
