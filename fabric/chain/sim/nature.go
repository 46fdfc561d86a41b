package sim

import (
	"time"

	"orrery/fabric/chain/placement"
)

// nature is how a run's world is, drawn from its seed. Each run has some kinds of faults only, so that each kind happens often in some runs.
type nature struct {
	nodes, factor, clients, pipeline int
	length                           time.Duration // until the last fault
	think                            time.Duration
	rates                            []float64
	loss, twice, late                float64 // of messages
	delay, lateness                  time.Duration
	sync                             time.Duration
	batch, maxPending                int
	every                            time.Duration // between faults
	faults                           []fault
	trim                             float64 // that a log is cut at a tick
	lag                              time.Duration
	plain                            bool
	expire                           bool
	unsynced                         bool
	lazy                             time.Duration // between syncs of an unsynced chain
	direct                           float64       // reads that ask for permission without a step
	several                          bool          // the bucket has several chains in the end
	watch                            time.Duration // between questions of a watch
	placement                        placement.Config
}

func (w *world) draw() nature {
	r := w.rng
	n := nature{nodes: 3 + r.IntN(3), factor: 3, clients: 3 + r.IntN(4), pipeline: 1 + r.IntN(3)}
	if r.IntN(4) == 0 {
		n.factor = 1 + r.IntN(min(4, n.nodes))
	}
	n.length = w.between(800*time.Millisecond, 2*time.Second)
	n.think = w.between(time.Millisecond, 40*time.Millisecond)
	spread := chainSkew / 2.1
	if w.options.Mode == Skewed {
		spread = 0.75
	}
	for range n.nodes {
		n.rates = append(n.rates, 1+spread*(2*r.Float64()-1))
	}
	n.loss, n.twice, n.late = pick(w, []float64{0, 0, 0.02, 0.1}), pick(w, []float64{0, 0, 0.05, 0.2}), pick(w, []float64{0, 0.02, 0.2})
	n.delay, n.lateness = w.between(100*time.Microsecond, 3*time.Millisecond), w.between(time.Millisecond, 150*time.Millisecond)
	n.sync = pick(w, []time.Duration{300 * time.Microsecond, 2 * time.Millisecond, 15 * time.Millisecond})
	n.batch, n.maxPending = pick(w, []int{1, 200, 1 << 20}), pick(w, []int{300, 4000, 1 << 20})
	n.every = w.between(10*time.Millisecond, 200*time.Millisecond)
	n.trim = pick(w, []float64{0, 0.05, 0.5})
	n.lag = w.between(time.Millisecond, 30*time.Millisecond)
	n.plain = r.IntN(16) == 0
	n.expire = r.IntN(3) == 0
	n.unsynced, n.lazy = r.IntN(3) == 0, w.between(0, 100*time.Millisecond)
	n.direct = r.Float64()
	n.faults = w.drawFaults()
	n.placement = placement.Config{
		Lease: chainLease, Skew: chainSkew, Grace: w.between(100*time.Millisecond, 1500*time.Millisecond), Near: uint64(1 + r.IntN(20)), Stall: 500 * time.Millisecond, Reserve: 1,
	}
	if w.options.Mode == Splitting {
		n.several, n.watch = true, w.between(2*time.Millisecond, 60*time.Millisecond)
	}
	return n
}
