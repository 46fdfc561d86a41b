package replica_test

import (
	"errors"
	"testing"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// chainOf are replicas that are a chain, linked, of leases that hold.
func chainOf(t *testing.T, set func(*replica.Config), names ...string) []*place {
	t.Helper()
	var all []*place
	for _, n := range names {
		all = append(all, newPlaceAs(t, n, set, 0))
	}
	for _, p := range all {
		p.configure(1, serving(names...)...)
		p.lease(0, time.Minute)
	}
	pass(nil, all...)
	return all
}

// settle makes everything durable everywhere, and known.
func settle(all ...*place) {
	for range len(all) + 1 {
		pass(nil, all...)
		for _, p := range all {
			p.sync()
		}
	}
	pass(nil, all...)
}

func usual(*replica.Config) {}

// send proposes a command with a token.
func (p *place) send(token replica.Token, date int64, c chain.Command) {
	p.t.Helper()
	p.do(p.Propose(p.now, date, token, &c))
}

func put(request uint64, key, value string) chain.Command {
	return chain.Command{Client: 1, Request: request, Floor: 1, Do: []chain.Write{{Op: chain.OpPut, Key: []byte(key), Value: []byte(value)}}}
}

// replied removes and returns the reply to a token.
func (p *place) replied(token replica.Token) replica.Reply {
	p.t.Helper()
	for i, r := range p.replies {
		if r.Token == token {
			p.replies = append(p.replies[:i:i], p.replies[i+1:]...)
			return r
		}
	}
	p.t.Fatalf("no reply to %d in %+v", token, p.replies)
	return replica.Reply{}
}

// TestPendingTwice: a command that comes again while it is under way is done once, and both are answered.
func TestPendingTwice(t *testing.T) {
	all := chainOf(t, usual, "a", "b", "c")
	a := all[0]
	c := chain.Command{Client: 1, Request: 1, Floor: 1, Do: []chain.Write{{Op: chain.OpIncrement, Key: []byte("n"), Delta: 1}}}
	a.send(1, 1, c)
	a.send(2, 1, c)
	if len(a.replies) != 0 {
		t.Fatalf("answered before it is committed: %+v", a.replies)
	}
	settle(all...)
	one, two := a.replied(1), a.replied(2)
	if one.Err != nil || one.Result.Number != 1 || two.Err != nil || two.Result != one.Result || a.Status().Last != 1 {
		t.Fatalf("%+v, %+v, log to %d", one, two, a.Status().Last)
	}
	a.send(3, 1, c)
	if three := a.replied(3); three.Err != nil || three.Result != one.Result {
		t.Fatalf("%+v", three)
	}
}

// TestNewestDecides: conditions see what is pending; one that does not hold is told only when what it saw is committed.
func TestNewestDecides(t *testing.T) {
	all := chainOf(t, usual, "a", "b")
	a := all[0]
	swap := func(request, version uint64) chain.Command {
		c := put(request, "k", "v")
		c.If = []chain.Condition{{Key: []byte("k"), Version: version}}
		return c
	}
	a.send(1, 1, swap(1, 0))
	a.send(2, 1, swap(2, 1))
	a.send(3, 1, swap(3, 1))
	gone := put(4, "k", "")
	gone.Do[0].Op = chain.OpDelete
	a.send(4, 1, gone)
	a.send(5, 1, swap(5, 0))
	if len(a.replies) != 0 {
		t.Fatalf("answered before they are committed: %+v", a.replies)
	}
	settle(all...)
	for token, want := range map[replica.Token]chain.Result{
		1: {Version: 1}, 2: {Version: 2}, 3: {Outcome: chain.Conflict, Version: 2}, 4: {Version: 4}, 5: {Version: 5},
	} {
		if r := a.replied(token); r.Err != nil || r.Result != want {
			t.Errorf("%d: %+v, want %+v", token, r, want)
		}
	}
}

// TestForgotten: below what a client still waits for nothing is done, nor known.
func TestForgotten(t *testing.T) {
	all := chainOf(t, usual, "a", "b")
	a := all[0]
	c := put(5, "k", "v")
	c.Floor = 4
	a.send(1, 1, c)
	settle(all...)
	late := put(3, "k", "late")
	a.send(2, 1, late)
	if r := a.replied(2); r.Err != nil || r.Result.Outcome != chain.Superseded {
		t.Fatalf("%+v", r)
	}
	if a.Status().Last != 1 {
		t.Fatal("it became an entry")
	}
}

func TestRefused(t *testing.T) {
	all := chainOf(t, func(c *replica.Config) { c.MaxPending = 300 }, "a", "b")
	a, b := all[0], all[1]
	b.send(1, 1, put(1, "k", "v"))
	if r := b.replied(1); !errors.Is(r.Err, chain.ErrNotServing) {
		t.Errorf("not the head: %+v", r)
	}
	a.send(2, 1, put(2, string(make([]byte, chain.MaxKey+1)), "v"))
	if r := a.replied(2); !errors.Is(r.Err, chain.ErrTooLarge) {
		t.Errorf("large key: %+v", r)
	}
	a.send(3, 1, chain.Command{Client: 1, Do: put(3, "k", "v").Do})
	if r := a.replied(3); !errors.Is(r.Err, chain.ErrBadValue) {
		t.Errorf("no number: %+v", r)
	}
	taken := uint64(0)
	for n := range uint64(20) {
		a.send(replica.Token(10+n), 1, put(10+n, "k", "v"))
		if len(a.replies) > 0 {
			break
		}
		taken++
	}
	if r := a.replied(replica.Token(10 + taken)); !errors.Is(r.Err, chain.ErrBusy) || taken == 0 {
		t.Fatalf("after %d: %+v", taken, r)
	}
	a.send(40, 1, put(10, "k", "v")) // is under way, and takes no room
	settle(all...)
	a.replied(40)
	a.send(41, 1, put(41, "k", "v"))
	settle(all...)
	if r := a.replied(41); r.Err != nil || a.Status().Pending != 0 {
		t.Fatalf("with room again: %+v, %d bytes pending", r, a.Status().Pending)
	}
}

// TestOutOfRange: keys of another chain.
func TestOutOfRange(t *testing.T) {
	a := newPlace(t, "a", 0)
	c := chain.Config{ID: 1, Epoch: 1, Range: chain.Range{End: []byte("m")}, Members: serving("a")}
	a.do(a.Configure(a.now, c))
	a.send(1, 1, put(1, "z", "v"))
	a.send(2, 1, put(2, "b", "v"))
	a.sync()
	if r := a.replied(1); r.Result.Outcome != chain.OutOfRange {
		t.Fatalf("%+v", r)
	}
	if r := a.replied(2); r.Result.Outcome != chain.Done {
		t.Fatalf("%+v", r)
	}
}

// TestHeadGoes: what its clients are told when it is head no more.
func TestHeadGoes(t *testing.T) {
	all := chainOf(t, usual, "a", "b", "c")
	a, b, c := all[0], all[1], all[2]
	a.send(1, 1, put(1, "k", "v"))
	pass(nil, all...)
	a.configure(2, serving("b", "c")...)
	if r := a.replied(1); !errors.Is(r.Err, chain.ErrUnknown) {
		t.Fatalf("out of the chain: %+v", r)
	}
	b.configure(2, serving("b", "c")...)
	c.configure(2, serving("b", "c")...)
	b.send(2, 1, put(1, "k", "v")) // the client asks the new head
	settle(b, c)
	if r := b.replied(2); r.Err != nil || r.Result.Version != 1 || b.Status().Last != 1 {
		t.Fatalf("%+v, log to %d", r, b.Status().Last)
	}
}

// TestHeadStays: a head that becomes another member tells its clients once it sees the commit; of what is cut off, that nobody knows.
func TestHeadStays(t *testing.T) {
	all := chainOf(t, usual, "a", "b")
	a, b := all[0], all[1]
	a.send(1, 1, put(1, "k", "v"))
	pass(nil, all...)
	a.send(2, 1, put(2, "k", "w"))
	a.take() // never arrives
	a.configure(2, serving("b", "a")...)
	b.configure(2, serving("b", "a")...)
	settle(a, b)
	if r := a.replied(1); r.Err != nil || r.Result.Version != 1 {
		t.Fatalf("%+v", r)
	}
	if r := a.replied(2); !errors.Is(r.Err, chain.ErrUnknown) || a.Status().Last != 1 {
		t.Fatalf("%+v, %+v", r, a.Status())
	}
}

// TestExpiry: the head deletes what is over, and nothing that somebody wrote meanwhile. The chain's time does not go back.
func TestExpiry(t *testing.T) {
	all := chainOf(t, usual, "a", "b")
	a, b := all[0], all[1]
	for n, key := range []string{"k", "l"} {
		c := put(uint64(n+1), key, "v")
		c.Do[0].TTL = time.Second
		a.send(replica.Token(n+1), 1000, c)
	}
	settle(all...)
	a.do(a.Tick(a.now, 1999))
	if a.Status().Last != 2 {
		t.Fatal("too early")
	}
	a.send(3, 1500, put(3, "l", "w"))
	a.do(a.Tick(a.now, 2000))
	if b.do(b.Tick(b.now, 9000)); b.Status().Last != 2 {
		t.Fatal("not the head's")
	}
	a.do(a.Tick(a.now, 2000)) // it is under way
	settle(all...)
	if a.Status().Last != 4 {
		t.Fatalf("log to %d", a.Status().Last)
	}
	for _, p := range all {
		if _, ok := p.disk.keys["k"]; ok || string(p.disk.keys["l"].Value) != "w" {
			t.Fatalf("%v", p.disk.keys)
		}
	}
	a.send(4, 500, put(4, "m", "v"))
	settle(all...)
	if got := a.disk.log[len(a.disk.log)-1].Time; got != 2000 {
		t.Fatalf("the chain's time goes back to %d", got)
	}
}

// TestDiskFails: after an error of the disk nothing is done and nothing answered, whatever comes.
func TestDiskFails(t *testing.T) {
	all := chainOf(t, usual, "a", "b")
	a := all[0]
	a.send(1, 1, put(1, "k", "v"))
	settle(all...)
	broken := errors.New("broken")
	read := replica.Read{Key: []byte("k"), Consistency: chain.Eventual}
	if _, ok := a.CanRead(a.now, read); !ok {
		t.Fatal("refused while it is whole")
	}
	a.disk.err = broken
	c := put(2, "k", "w")
	if _, err := a.Propose(a.now, 1, 2, &c); !errors.Is(err, broken) {
		t.Fatalf("%v", err)
	}
	a.disk.err = nil
	steps := map[string]func() (replica.Output, error){
		"propose": func() (replica.Output, error) { return a.Propose(a.now, 1, 3, &c) },
		"read":    func() (replica.Output, error) { return a.Read(a.now, read) },
		"configure": func() (replica.Output, error) {
			return a.Configure(a.now, chain.Config{ID: 1, Epoch: 2, Members: serving("a")})
		},
		"old config": func() (replica.Output, error) {
			return a.Configure(a.now, chain.Config{ID: 1, Epoch: 1, Members: serving("a")})
		},
		"receive": func() (replica.Output, error) {
			return a.Receive(a.now, &replica.Message{Kind: replica.KindHello, Chain: 1, Epoch: 1, From: named("b"), To: named("a"), Query: 1 << 60})
		},
		"persisted": func() (replica.Output, error) { return a.Persisted(a.now, 9) },
		"lease":     func() (replica.Output, error) { return a.SetLease(a.now, replica.Lease{Until: 2 * time.Hour}) },
		"tick":      func() (replica.Output, error) { return a.Tick(a.now+time.Hour, 1) },
	}
	for name, step := range steps {
		out, err := step()
		if !errors.Is(err, broken) || len(out.Messages)+len(out.Replies)+len(out.Reads)+len(out.Append)+len(out.Apply)+len(out.Copies) > 0 {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
	for _, q := range []replica.Read{read, {Key: []byte("k")}, {Key: []byte("other")}} {
		if _, ok := a.CanRead(a.now, q); ok {
			t.Errorf("%+v is permitted", q)
		}
	}
	if s := a.Status(); s.State != 0 || s.Linked {
		t.Errorf("%+v", s)
	}
}
