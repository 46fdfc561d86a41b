package membership

import (
	"fmt"
	"testing"
	"time"

	"orrery/fabric"
)

// TestRepairWhereManyJoin: who sees a few less than others does not wait until the news ends, and a newcomer does not wait at all.
func TestRepairWhereManyJoin(t *testing.T) {
	at := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	after := func(d time.Duration) time.Time { return at.Add(d) }
	seen := func(n int) *member {
		return &member{Member: fabric.Member{ID: fabric.NodeID(fmt.Sprint(n)), State: fabric.MemberAlive}}
	}
	var r repair
	for n := range 100 {
		r.noted(nil, seen(n))
	}
	newcomer := r
	newcomer.born = at
	if !newcomer.heard("x", 1, 101, at) {
		t.Error("a newcomer waits")
	}
	if newcomer.heard("x", 1, 101, after(time.Millisecond)) {
		t.Error("a newcomer asks again at once")
	}
	for tenth := range 10 {
		if r.heard("x", 1, 105, after(time.Duration(tenth)*time.Second/10)) {
			t.Fatalf("it asks one that sees a few more after %d tenths of a second", tenth)
		}
		if tenth%3 == 0 {
			r.noted(nil, seen(200+tenth)) // gossip goes on
		}
	}
	if !r.heard("x", 1, 105, after(time.Second)) {
		t.Error("it waits for the end of the news")
	}
	// One that died here is still seen there; that passes.
	r.noted(seen(1), &member{Member: fabric.Member{ID: "1", State: fabric.MemberDead}})
	if r.heard("x", 1, r.there+1, after(3*time.Second)) {
		t.Error("it asks one that has not heard of a death")
	}
}
