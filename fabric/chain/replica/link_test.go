package replica_test

import (
	"testing"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// Scripted scenarios: mostly schedules in which an earlier version of the protocol broke. ../sim looks for others.

// TestLateLink: an answer to an earlier hello comes when entries have followed.
func TestLateLink(t *testing.T) {
	a, b := newPlace(t, "a", 0), newPlace(t, "b", 0)
	a.configure(1, serving("a", "b")...)
	b.configure(1, serving("a", "b")...)
	var late replica.Message
	pass(func(m *replica.Message) bool {
		if m.Kind == replica.KindLink && late.Kind == 0 {
			late = *m
			return true
		}
		return false
	}, a, b)
	b.later()
	pass(nil, a, b)
	a.put()
	pass(nil, a, b)
	b.sync()
	b.do(b.Receive(b.now, &late))
	if s := b.Status(); s.Last != 1 || s.Durable != 1 || !s.Linked {
		t.Fatalf("%+v", s)
	}
}

// TestLateHello: an earlier hello comes again when the log does not reach back to it any more. And if the predecessor has lost the
// link, the successor hears of it.
func TestLateHello(t *testing.T) {
	var log []chain.Entry
	for n := range uint64(9) {
		log = append(log, entry(1, n+1))
	}
	a, b := newPlace(t, "a", 9, log...), newPlace(t, "b", 0)
	members := append(serving("a"), chain.Member{Replica: named("b"), State: chain.Syncing})
	a.configure(2, members...)
	b.configure(2, members...)
	late := b.sent[0]
	pass(nil, a, b)
	a.disk.first, a.disk.log = 9, a.disk.log[8:]
	a.do(a.Receive(a.now, &late))
	if len(a.copies) != 0 {
		t.Fatal("a copy for who has everything")
	}
	a.put()
	a.sync()
	pass(func(m *replica.Message) bool { return m.Kind == replica.KindAppend }, a, b)
	a.put()
	a.disk.first, a.disk.log = 10, a.disk.log[1:]
	late.Query = uint64(b.now) + 5 // newer than any, so that the link is lost
	a.do(a.Receive(a.now, &late))
	if len(a.copies) != 1 {
		t.Fatalf("copies %v", a.copies)
	}
	a.Copied(b.self)
	b.now += 3 * time.Second
	for range 3 {
		a.later()
		pass(nil, a, b)
	}
	if b.Status().Last != a.Status().Last {
		t.Fatalf("%+v, %+v", a.Status(), b.Status())
	}
}

// TestCommonEntries: b does not know what is committed, and has an entry that a does not have. It must keep all others.
func TestCommonEntries(t *testing.T) {
	a := newPlace(t, "a", 1, entry(1, 1), entry(1, 2), entry(2, 3), entry(2, 4), entry(4, 5), entry(4, 6))
	b := newPlace(t, "b", 1, entry(1, 1), entry(1, 2), entry(2, 3), entry(2, 4), entry(3, 5), entry(3, 6), entry(3, 7))
	a.configure(5, serving("a", "b")...)
	b.configure(5, serving("a", "b")...)
	least := uint64(7)
	for range 20 {
		pass(func(m *replica.Message) bool { return m.Kind == replica.KindAppend }, a, b)
		least = min(least, b.Status().Last)
		b.later()
	}
	if least != 4 {
		t.Fatalf("cut to %d, the logs are the same up to 4", least)
	}
	a.later()
	pass(nil, a, b)
	b.sync()
	pass(nil, a, b)
	if s := a.Status(); s.Committed != 6 || b.Status().Committed != 6 {
		t.Fatalf("%+v, %+v", s, b.Status())
	}
}

// TestLinkedIsDurable: who says that it is linked may become the last one that serves.
func TestLinkedIsDurable(t *testing.T) {
	a, b := newPlace(t, "a", 2, entry(1, 1), entry(1, 2)), newPlace(t, "b", 0)
	members := append(serving("a"), chain.Member{Replica: named("b"), State: chain.Joining})
	a.configure(2, members...)
	b.configure(2, members...)
	pass(nil, a, b)
	if s := b.Status(); s.Last != 2 || s.Linked {
		t.Fatalf("%+v", s)
	}
	b.sync()
	if !b.Status().Linked {
		t.Fatalf("%+v", b.Status())
	}
}

// TestWindow: who is far behind is not sent everything at once, and gets a copy if the log does not reach back.
func TestWindow(t *testing.T) {
	var log []chain.Entry
	for n := range uint64(50) {
		log = append(log, entry(1, n+1))
	}
	a, b := newPlace(t, "a", 50, log...), newPlace(t, "b", 0)
	members := append(serving("a"), chain.Member{Replica: named("b"), State: chain.Syncing})
	a.configure(2, members...)
	b.configure(2, members...)
	for _, m := range b.take() {
		a.do(a.Receive(a.now, &m))
	}
	if n := len(a.sent); n > 10 {
		t.Fatalf("%d messages at once", n)
	}
	pass(nil, a, b)
	if b.Status().Last != 50 || b.Status().Committed != 50 {
		t.Fatalf("%+v", b.Status())
	}
	a.disk.first, a.disk.log = 30, a.disk.log[29:]
	c := newPlace(t, "c", 0)
	members[1].Replica = named("c")
	a.configure(3, members...)
	c.configure(3, members...)
	pass(nil, a, c)
	if len(a.copies) != 1 || a.copies[0].To != named("c") {
		t.Fatalf("copies %v", a.copies)
	}
}
