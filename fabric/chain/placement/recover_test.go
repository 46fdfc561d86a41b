package placement_test

import (
	"strings"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
)

// lose makes a chain of two replicas of which both are lost, and a node that had one before is there. The keeper is there.
func lose(t *testing.T) (w *world, k *keeper, remains *machine) {
	t.Helper()
	w, _ = cluster(t, 3, 2)
	for range 10 {
		w.round(true)
	}
	remains = w.node(w.chains()[0].Members[1].Node)
	for _, m := range w.nodes {
		if w.chains()[0].On(m.id) < 0 {
			w.begin(m) // it gets the replica
		}
	}
	remains.up = false
	w.until(t, 300, func() string {
		if w.chains()[0].On(remains.id) >= 0 {
			return "the replica is not replaced"
		}
		return w.whole(2)
	})
	for _, m := range w.nodes {
		m.up = false
	}
	w.now += 10 * time.Second
	remains.start()
	w.begin(remains)
	for range 60 { // a keeper waits before it believes that anybody is gone
		w.round(true)
	}
	return w, w.keepers[len(w.keepers)-1], remains
}

func (w *world) recover(k *keeper, q placement.RecoverRequest) (placement.Recovery, error) {
	q.Chain, q.By = w.chains()[0].ID, "me"
	r, change, err := k.Recover(k.on.clock(w), q)
	if change.Key != "" {
		k.order(change, err)
	}
	return r, err
}

// A chain whose replicas are lost begins anew with what an earlier one has, if an operator says so; those that come back after all take over what it has become.
func TestRecover(t *testing.T) {
	w, k, remains := lose(t)
	has := uint64(len(remains.replicas[w.chains()[0].ID].log))
	before := w.chains()[0]
	if _, err := w.recover(k, placement.RecoverRequest{}); err == nil || !strings.Contains(err.Error(), "may return") {
		t.Fatalf("two nodes that may return are given up: %v", err)
	}
	plan, err := w.recover(k, placement.RecoverRequest{Try: true, Force: true})
	if err != nil || plan.Node != remains.id || plan.Has != has || len(plan.Waits) != 2 {
		t.Fatalf("%+v, %v", plan, err)
	}
	for range 5 {
		w.round(true)
	}
	if c := w.chains()[0]; c.Epoch != before.Epoch {
		t.Fatalf("a trial changed the chain: %+v", c)
	}
	if _, err := w.recover(k, placement.RecoverRequest{Force: true}); err != nil {
		t.Fatal(err)
	}
	w.until(t, 100, func() string { return w.whole(1) })
	c := w.chains()[0]
	if c.Recovery == nil || c.Recovery.By != "me" || c.Recovery.Node != remains.id || c.Line.Epoch == 0 || c.Line.Sequence <= has || c.Fresh {
		t.Fatalf("%+v", c)
	}
	for _, m := range w.nodes {
		if !m.up {
			m.start() // with more than what the chain has gone on with
		}
	}
	w.until(t, 300, func() string { return w.whole(2) })
}

// A chain can begin with nothing, if that is asked for.
func TestRecoverEmpty(t *testing.T) {
	w, k, remains := lose(t)
	delete(remains.replicas, w.chains()[0].ID)
	w.round(true)
	if _, err := w.recover(k, placement.RecoverRequest{Force: true}); err == nil || !strings.Contains(err.Error(), "--empty") {
		t.Fatalf("a chain begins with nothing unasked: %v", err)
	}
	if r, err := w.recover(k, placement.RecoverRequest{Force: true, Empty: true}); err != nil || r.Has != 0 || r.Node != remains.id {
		t.Fatalf("%+v, %v", r, err)
	}
	w.until(t, 100, func() string {
		if w.chains()[0].Fresh {
			return "fresh"
		}
		return w.whole(1)
	})
	// Its disk is lost again: that is no reason to begin with nothing unasked.
	remains.up = false
	delete(remains.replicas, w.chains()[0].ID)
	w.now += 10 * time.Second
	remains.start()
	w.begin(remains)
	epoch := w.chains()[0].Epoch
	for range 100 {
		w.round(true)
	}
	if c := w.chains()[0]; c.Epoch != epoch {
		t.Fatalf("it began again with nothing: %+v", c)
	}
}

// A chain that is not lost is not recovered.
func TestRecoverRefuses(t *testing.T) {
	w, k := cluster(t, 3, 2)
	w.round(true)
	for name, c := range map[string]struct {
		q   placement.RecoverRequest
		why string
	}{
		"it serves":     {placement.RecoverRequest{Chain: w.chains()[0].ID, Force: true}, "nothing is lost"},
		"no such chain": {placement.RecoverRequest{Chain: 7, Force: true}, fabric.ErrNotFound.Error()},
	} {
		if _, _, err := k.Recover(k.on.clock(w), c.q); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	w, k, remains := lose(t)
	if _, err := w.recover(k, placement.RecoverRequest{Force: true, From: "n7"}); err == nil {
		t.Error("a node that is not there has something")
	}
	// One of those that served returns: the chain goes on by itself.
	for _, m := range w.nodes {
		if m != remains {
			m.start()
			m.report(w, k)
			break
		}
	}
	w.deliver(w.mail[len(w.mail)-1])
	if _, err := w.recover(k, placement.RecoverRequest{Force: true}); err == nil || !strings.Contains(err.Error(), "by itself") {
		t.Errorf("the chain is given up although it can go on: %v", err)
	}
	if c := w.chains()[0]; c.Recovery != nil || c.Line != (chain.Line{}) {
		t.Errorf("%+v", c)
	}
}
