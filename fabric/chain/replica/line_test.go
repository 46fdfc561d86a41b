package replica_test

import (
	"testing"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// TestOtherLine: a replica comes back whose log was given up. Nothing of it is continued, also where it has as many committed entries.
func TestOtherLine(t *testing.T) {
	a := newPlace(t, "a", 2, entry(4, 1), entry(4, 2)) // as after the beginning of the line
	b := newPlace(t, "b", 2, entry(1, 1), entry(2, 2))
	c := chain.Config{ID: 1, Epoch: 4, Members: append(serving("a"), chain.Member{Replica: named("b"), State: chain.Syncing}), Line: chain.Line{Epoch: 4, Sequence: 1}}
	for _, p := range []*place{a, b} {
		p.do(p.Configure(p.now, c))
	}
	a.put()
	pass(nil, a, b)
	for range 5 {
		a.later()
		b.later()
		pass(nil, a, b)
	}
	if s := b.Status(); s.Linked || s.Last != 2 || len(a.copies) == 0 || a.copies[0].To != b.self {
		t.Fatalf("%+v, copies %v", s, a.copies)
	}
	// With a copy it is as any other.
	a.Copied(b.self)
	b = newPlaceAs(t, "b", func(c *replica.Config) { c.Applied, c.AppliedEpoch, c.Pending = 2, 4, nil }, 0)
	b.disk.first = 3
	b.now += time.Hour
	b.do(b.Configure(b.now, c))
	pass(nil, a, b)
	if s := b.Status(); s.Last != 3 {
		t.Fatalf("%+v", s)
	}
}
