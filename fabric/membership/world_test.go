package membership_test

import (
	"sync"
	"testing"

	"orrery/fabric"
	"orrery/fabric/membership"
)

// world is a network on loopback on which ways can be cut.
type world struct {
	t *testing.T

	mu        sync.Mutex
	noStreams bool
	sides     map[string]int // by address; different sides do not reach each other, the first is zero
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, sides: map[string]int{}}
}

// config is that of a node of this world.
func (w *world) config(i int) membership.Config { return config("c1", i, key) }

// start starts a node of this world.
func (w *world) start(c membership.Config) *view {
	w.t.Helper()
	var own string
	c.Cut(func(network, to string) bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.sides[own] != w.sides[to] || w.noStreams && network == "tcp"
	})
	w.mu.Lock()
	v := start(w.t, c)
	own = v.Gossip()
	w.mu.Unlock()
	return v
}

// cluster starts n nodes that know the first, and waits until all see all.
func (w *world) cluster(n int) []*view {
	w.t.Helper()
	var all []*view
	for i := range n {
		all = append(all, w.start(w.config(i+1)))
	}
	for _, v := range all[1:] {
		v.Found(all[0].beacon())
	}
	w.complete(all)
	return all
}

// complete waits until all see all.
func (w *world) complete(all []*view) {
	w.t.Helper()
	for _, v := range all {
		until(w.t, "all see all", func() bool { return v.alive() == len(all) })
	}
}

// part puts nodes onto a side of their own, which the others do not reach, nor it them.
func (w *world) part(side int, nodes ...*view) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, v := range nodes {
		w.sides[v.Gossip()] = side
	}
}

// mute cuts a node off from everybody.
func (w *world) mute(v *view) { w.part(-1, v) }

// datagramsOnly cuts all streams.
func (w *world) datagramsOnly() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noStreams = true
}

// heal ends all cuts.
func (w *world) heal() {
	w.mu.Lock()
	defer w.mu.Unlock()
	clear(w.sides)
}

// was says whether a node was told to be in a state.
func (v *view) was(id fabric.NodeID, state fabric.MemberState) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.history[id][state]
}

func (v *view) died(id fabric.NodeID) bool { return v.was(id, fabric.MemberDead) }
