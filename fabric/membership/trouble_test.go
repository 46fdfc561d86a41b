package membership_test

import (
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/memberlist"

	"orrery/fabric"
	"orrery/fabric/membership"
)

// nobodyDied fails if anybody was taken for dead.
func nobodyDied(t *testing.T, all []*view) {
	t.Helper()
	for _, v := range all {
		if n := v.Stats().Deaths; n > 0 {
			t.Errorf("%s took %d for dead", v.Self().Name, n)
		}
	}
}

// TestLoss: a quarter of all datagrams is lost, and nobody is taken for dead.
func TestLoss(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var lost atomic.Int64
	var all []*view
	for i := range 5 {
		c := w.config(i + 1)
		c.Profile = membership.LAN
		c.Lose = func() bool {
			lose := rand.IntN(4) == 0
			if lose {
				lost.Add(1)
			}
			return lose
		}
		all = append(all, w.start(c))
	}
	for _, v := range all[1:] {
		v.Found(all[0].beacon())
	}
	w.complete(all)
	began := lost.Load()
	until(t, "lost probes", func() bool { return lost.Load() > began+40 })
	w.complete(all)
	nobodyDied(t, all)
}

// TestStarved: the processors have better things to do, and nobody is taken for dead.
func TestStarved(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var all []*view
	for i := range 4 {
		c := w.config(i + 1)
		c.Profile = membership.LAN
		all = append(all, w.start(c))
	}
	for _, v := range all[1:] {
		v.Found(all[0].beacon())
	}
	w.complete(all)
	var stop atomic.Bool
	var busy sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		busy.Go(func() {
			for x := 1; !stop.Load(); x = x*31 + 7 {
			}
		})
	}
	sent := all[0].Traffic().Sent
	until(t, "probes", func() bool { return all[0].Traffic().Sent > sent+1500 })
	stop.Store(true)
	busy.Wait()
	nobodyDied(t, all)
}

// TestStopped: a node that stands still for longer than anybody has patience is dead, and back under its identity when it goes on.
func TestStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.cluster(4)
	stopped := all[3]
	at := stopped.Gossip()
	w.mute(stopped)
	for _, v := range all[:3] {
		until(t, "its death", func() bool { return v.state(stopped.Self().ID) == fabric.MemberDead })
	}
	w.heal()
	w.complete(all)
	for _, v := range all[:3] {
		for _, b := range v.Beacons() {
			if b.ID == stopped.Self().ID && b.Gossip != at {
				t.Errorf("it is at %s, and known at %s", at, b.Gossip)
			}
		}
	}
}

// TestMassRestart ends all nodes but one and starts them again at once, with the same identities and other ports.
func TestMassRestart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.cluster(5)
	for _, v := range all[1:] {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range all[1:] {
		all[i+1] = w.start(w.config(i + 2))
		all[i+1].Found(all[0].beacon())
	}
	w.complete(all)
	for _, v := range all {
		until(t, "the new addresses", func() bool {
			known := v.Beacons()
			for i, other := range all {
				if len(known) != len(all) || known[i].Gossip != other.Gossip() {
					return false
				}
			}
			return true
		})
	}
}

// TestPartition cuts a cluster into halves until each is dead to the other, restarts a node of one of them meanwhile, and
// unites them; nobody is told of anybody.
func TestPartition(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	all := w.cluster(6)
	w.part(1, all[3:]...)
	for i, v := range all {
		until(t, "the cut", func() bool {
			for j, other := range all {
				if (i < 3) != (j < 3) && v.state(other.Self().ID) != fabric.MemberDead {
					return false
				}
			}
			return v.alive() == 3
		})
	}
	if err := all[5].Close(); err != nil {
		t.Fatal(err)
	}
	all[5] = w.start(w.config(6))
	w.part(1, all[5])
	all[5].Found(all[3].beacon())
	for _, v := range all[3:] {
		until(t, "the restart", func() bool { return v.alive() == 3 })
	}
	w.heal()
	w.complete(all)
}

// TestGarbage sends what is not gossip. It hurts nobody and is counted, each as what it is.
func TestGarbage(t *testing.T) {
	t.Parallel()
	var told atomic.Uint64
	watched := config("c1", 1, key)
	watched.Garbage = func() { told.Add(1) }
	a, b := start(t, watched), start(t, config("c1", 2, key))
	b.Found(a.beacon())
	until(t, "two members", func() bool { return a.alive() == 2 && b.alive() == 2 })
	send := func(network string, content []byte) {
		t.Helper()
		c, err := (&net.Dialer{}).DialContext(t.Context(), network, a.Gossip())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(content) // it may hang up in the middle
		_ = c.Close()
	}
	labelled := func(label string, content ...byte) []byte {
		t.Helper()
		out, err := memberlist.AddLabelHeaderToPacket(content, label)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	noise := make([]byte, 1400)
	for i := range noise {
		noise[i] = byte(rand.IntN(240)) // not the mark of a label
	}
	for _, c := range []struct {
		what    string
		network string
		content []byte
		count   func(membership.Stats) uint64
	}{
		{"noise", "udp", noise, func(s membership.Stats) uint64 { return s.OtherCluster }},
		{"another cluster's", "udp", labelled("c2", noise...), func(s membership.Stats) uint64 { return s.OtherCluster }},
		{"another key's", "udp", labelled("c1", append([]byte{1}, noise...)...), func(s membership.Stats) uint64 { return s.WrongKey }},
		{"a label that ends too early", "udp", []byte{244, 200, 'c'}, func(s membership.Stats) uint64 { return s.Malformed }},
		{"a stream of noise", "tcp", noise, func(s membership.Stats) uint64 { return s.OtherCluster }},
		{"another cluster's stream", "tcp", labelled("c2", noise...), func(s membership.Stats) uint64 { return s.OtherCluster }},
		{"a stream in the clear", "tcp", labelled("c1", 6, 1, 2, 3), func(s membership.Stats) uint64 { return s.Malformed }},
		{"a stream of four gigabytes", "tcp", labelled("c1", 10, 255, 255, 255, 255, 1), func(s membership.Stats) uint64 { return s.Malformed }},
	} {
		before := c.count(a.Stats())
		send(c.network, c.content) // once: a second one could be counted as the next case's
		until(t, c.what, func() bool { return c.count(a.Stats()) > before })
	}
	if err := b.Broadcast("still", nil); err != nil {
		t.Fatal(err)
	}
	until(t, "an event after all that", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return len(a.events) == 1 })
	nobodyDied(t, []*view{a, b})
	if s := a.Stats(); told.Load() < s.OtherCluster {
		t.Errorf("%d times told, of %+v", told.Load(), s)
	}
}
