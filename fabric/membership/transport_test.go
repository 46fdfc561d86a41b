package membership_test

import (
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"orrery/fabric/membership"
)

// TestLostDatagrams: a network that loses every fourth datagram is one on which members find each other.
func TestLostDatagrams(t *testing.T) {
	t.Parallel()
	var lost atomic.Int64
	lossy := func(i int) *view {
		c := config("c1", i, key)
		c.Lose = func() bool {
			if rand.IntN(4) > 0 {
				return false
			}
			lost.Add(1)
			return true
		}
		return start(t, c)
	}
	a, b := lossy(1), lossy(2)
	b.Found(a.beacon())
	until(t, "two members", func() bool { return a.alive() == 2 && b.alive() == 2 })
	until(t, "a lost datagram", func() bool { return lost.Load() > 0 })
	for _, v := range []*view{a, b} {
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if x, y := a.Traffic(), b.Traffic(); x.Received == 0 || y.Received == 0 || x.Received+y.Received >= x.Sent+y.Sent {
		t.Errorf("%+v and %+v, with %d datagrams lost", x, y, lost.Load())
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	first := start(t, config("c1", 1, key))
	c := config("c1", 2, key)
	c.Bind = first.Gossip()
	if _, err := membership.Start(t.Context(), c); err == nil {
		t.Error("two members share a port")
	}
}
