package sync

import (
	"fmt"
	"testing"
)

// TestIntroductionsAreBounded: what is remembered for 20,000 devices, one after another, is no more than for some, and a device that was told of very many begins anew.
func TestIntroductionsAreBounded(t *testing.T) {
	var x introductions
	lazy := &Filter{}
	lazy.Room.State.LazyLoadMembers = true
	for i := range 20_000 {
		q := &Request{User: "@anne:a.test", Device: fmt.Sprint(i), Initial: true, Filter: lazy}
		k := x.begin(q)
		k.upTo, k.fresh = 1, make([]uint64, 100)
		x.tell(q, k)
	}
	sum := 0
	for _, d := range x.all {
		sum += deviceCounts + len(d.known) + len(d.fresh)
	}
	if sum != x.sum || sum > maxAllTold || sum < maxAllTold/2 {
		t.Errorf("%d are remembered, counted as %d", sum, x.sum)
	}
	q := &Request{User: "@bob:a.test", Device: "ONE", Initial: true, Filter: lazy}
	for at := range int64(maxIntroduced/100 + 2) {
		k := x.begin(q)
		if all := int(at) * 100; len(k.known) != all && (all <= maxIntroduced || len(k.known) != 0) {
			t.Fatalf("%d of %d are known", len(k.known), all)
		}
		for i := range uint64(100) {
			k.fresh = append(k.fresh, uint64(at)<<32|i)
		}
		k.upTo = at + 1
		x.tell(q, k)
		q.Since, q.Initial = k.upTo, false
	}
}
