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

// TestLostRefutation: a refutation that did not reach one of those who suspect a node is made again, before that one takes it for dead.
func TestLostRefutation(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all [3]*view
	for i := range all {
		c := w.config(i + 1)
		c.Patience(time.Hour)
		all[i] = w.start(c)
		all[i].Found(all[0].beacon())
	}
	w.complete(all[:])
	suspect, first, late := all[0], all[1], all[2]
	id := suspect.Self().ID
	w.mute(suspect)
	for _, v := range all[1:] {
		until(t, "suspicion", func() bool { return v.state(id) == fabric.MemberSuspect })
	}
	w.datagramsOnly() // or else a full exchange would do it, at some time
	w.heal()
	w.mute(late)
	until(t, "refutation", func() bool { return first.state(id) == fabric.MemberAlive })
	sent := suspect.Traffic().Sent
	until(t, "its loss", func() bool { return suspect.Traffic().Sent > sent+3000 })
	if s := late.state(id); s != fabric.MemberSuspect {
		t.Fatalf("it is %s to who was cut off", s)
	}
	w.heal()
	w.complete(all[:])
	nobodyDied(t, all[:])
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
