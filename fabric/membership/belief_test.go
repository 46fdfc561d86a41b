package membership_test

import (
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/membership"
)

// TestSuspect: whom memberlist suspects is a suspect, also for those who were told of it only, and alive once it could
// refute that. It is the test of what belief.go rests on.
func TestSuspect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := func(i int) membership.Config {
		c := w.config(i)
		c.Patience(time.Minute)
		return c
	}
	a, b, c := w.start(long(1)), w.start(long(2)), w.start(long(3))
	b.Found(a.beacon())
	c.Found(a.beacon())
	for _, v := range []*view{a, b, c} {
		until(t, "three members", func() bool { return v.alive() == 3 })
	}
	id := c.Self().ID
	w.mute(c)
	for _, v := range []*view{a, b} {
		until(t, "suspicion", func() bool { return v.state(id) == fabric.MemberSuspect })
	}
	if n := len(a.Beacons()); n != 3 {
		t.Errorf("%d beacons: a suspect is not out of reach yet", n)
	}
	a.Forget(id)
	if a.state(id) == "" {
		t.Error("a suspect was forgotten")
	}
	w.heal()
	for _, v := range []*view{a, b, c} {
		until(t, "refutation", func() bool { return v.alive() == 3 })
		if v.died(id) {
			t.Error("it was dead in between")
		}
	}
}

// TestSuspectDies: what does not refute in time is dead, by way of suspicion.
func TestSuspectDies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.cluster(3)
	id := all[2].Self().ID
	w.mute(all[2])
	for _, v := range all[:2] {
		until(t, "death", func() bool { return v.state(id) == fabric.MemberDead })
		if !v.was(id, fabric.MemberSuspect) {
			t.Error("it was never suspect")
		}
	}
}
