package placement_test

import (
	"testing"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
)

// down is an unsynced chain of which all crash, one after the other, each with fewer of the last entries than the one before.
func down(t *testing.T) (w *world, members []*machine) {
	t.Helper()
	w, _ = clusterOf(t, 3, 3, placement.Replicated)
	for range 10 {
		w.round(true)
	}
	for i, m := range w.chains()[0].Members {
		members = append(members, w.node(m.Node))
		members[i].crash(w, i)
	}
	w.now += 10 * time.Second
	return w, members
}

func (w *world) rest(n int) {
	for range n {
		w.round(true)
	}
}

// Of an unsynced chain of which all have crashed no single one may begin; when all are there the one with most does, on a line of its own.
func TestUnsyncedAllCrash(t *testing.T) {
	w, members := down(t)
	has := uint64(len(members[0].replicas[w.chains()[0].ID].log))
	members[2].start()
	members[1].start()
	w.begin(members[2])
	epoch := w.chains()[0].Epoch
	w.rest(200)
	if c := w.chains()[0]; c.Epoch != epoch {
		t.Fatalf("it began without who has most: %+v", c)
	}
	members[0].start()
	w.until(t, 300, func() string {
		if w.chains()[0].Recovery == nil {
			return "not begun"
		}
		return w.whole(3)
	})
	c := w.chains()[0]
	if c.Recovery == nil || c.Recovery.By != "" || c.Recovery.Node != members[0].id || c.Recovery.Has != has || c.Line.Sequence <= has || c.Members[0].Node != members[0].id {
		t.Fatalf("%+v", c)
	}
}

// One that was shut down in order has everything, and need not wait for others.
func TestUnsyncedClean(t *testing.T) {
	w, _ := clusterOf(t, 3, 3, placement.Replicated)
	w.rest(10)
	last := w.node(w.chains()[0].Members[2].Node)
	for _, m := range w.nodes {
		if m != last {
			m.crash(w, 3)
		}
	}
	last.leave()
	w.now += 10 * time.Second
	last.start()
	w.begin(last)
	w.until(t, 300, func() string { return w.whole(1) })
	if c := w.chains()[0]; c.Line != (chain.Line{}) || c.Recovery != nil {
		t.Fatalf("%+v", c)
	}
	for _, m := range w.nodes {
		if m != last {
			m.start()
		}
	}
	w.until(t, 300, func() string { return w.whole(3) })
}

// What was shut down in order, and then ran again and crashed, is no better than others.
func TestUnsyncedCleanBefore(t *testing.T) {
	w, _ := clusterOf(t, 3, 3, placement.Replicated)
	w.rest(10)
	last := w.node(w.chains()[0].Members[2].Node)
	last.leave()
	last.start()
	w.until(t, 300, func() string { return w.whole(3) })
	w.rest(10)
	for _, m := range w.nodes {
		m.crash(w, 2)
	}
	w.now += 10 * time.Second
	last.start()
	w.begin(last)
	epoch := w.chains()[0].Epoch
	w.rest(200)
	if c := w.chains()[0]; c.Epoch != epoch {
		t.Fatalf("%+v", c)
	}
	// An operator can let it begin nevertheless.
	if _, err := w.recover(w.keepers[len(w.keepers)-1], placement.RecoverRequest{Force: true}); err != nil {
		t.Fatal(err)
	}
	w.until(t, 300, func() string { return w.whole(1) })
}
