package replica_test

import (
	"testing"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// Scripted scenarios: mostly schedules in which an earlier version of the protocol broke. ../sim looks for others.

func TestWrite(t *testing.T) {
	a, b, c := newPlace(t, "a", 0), newPlace(t, "b", 0), newPlace(t, "c", 0)
	for _, p := range []*place{a, b, c} {
		p.configure(1, serving("a", "b", "c")...)
	}
	pass(nil, a, b, c)
	a.put()
	pass(nil, a, b, c)
	for _, p := range []*place{c, a} {
		p.sync()
		pass(nil, a, b, c)
		if len(a.replies) > 0 {
			t.Fatal("acknowledged before it was durable everywhere")
		}
	}
	b.sync()
	pass(nil, a, b, c)
	if len(a.replies) != 1 || a.replies[0].Err != nil || a.replies[0].Result.Version != 1 {
		t.Fatalf("replies %v; %+v, %+v, %+v", a.replies, a.Status(), b.Status(), c.Status())
	}
	a.put() // again
	if len(a.replies) != 2 || a.replies[1].Result != a.replies[0].Result || a.Status().Last != 1 {
		t.Fatalf("the second time: %v, log to %d", a.replies, a.Status().Last)
	}
}

// TestLost: each message of a write in turn is lost, and everything comes right nevertheless.
func TestLost(t *testing.T) {
	for n := range 16 {
		a, b := newPlace(t, "a", 0), newPlace(t, "b", 0)
		a.configure(1, serving("a", "b")...)
		b.configure(1, serving("a", "b")...)
		count := 0
		lost := func(*replica.Message) bool { count++; return count == n+1 }
		pass(lost, a, b)
		a.put()
		for range 4 {
			pass(lost, a, b)
			a.sync()
			pass(lost, a, b)
			b.sync()
			pass(lost, a, b)
			a.later()
			b.later()
		}
		if a.Status().Committed != 1 || b.Status().Committed != 1 || len(a.replies) != 1 {
			t.Fatalf("message %d lost: %+v, %+v, %v", n, a.Status(), b.Status(), a.replies)
		}
	}
}

// TestEpochs: what is of another epoch changes nothing.
func TestEpochs(t *testing.T) {
	a, b := newPlace(t, "a", 0), newPlace(t, "b", 0)
	a.configure(1, serving("a", "b")...)
	b.configure(2, serving("a", "b")...)
	m := replica.Message{Kind: replica.KindAppend, Chain: 1, Epoch: 1, From: named("a"), To: named("b"), Entries: []chain.Entry{entry(1, 1)}, Committed: 1, Durable: 1}
	b.take()
	b.do(b.Receive(b.now, &m))
	if sent := b.take(); b.Status().Last != 0 || len(sent) != 1 || sent[0].Kind != replica.KindRefused || sent[0].Epoch != 2 {
		t.Fatalf("%+v, %v", b.Status(), sent)
	}
}
