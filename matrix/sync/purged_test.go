package sync_test

import (
	"testing"

	"orrery/matrix"
	"orrery/matrix/sync"
	"orrery/matrix/sync/window"
)

// TestPurgedRoom: while a room is purged, and before its members forget it, those are answered all the same.
func TestPurgedRoom(t *testing.T) {
	const anne = "@anne:a.test"
	h := newHouse(t)
	kept, purged := h.create(anne), h.create(anne)
	first, err := h.syncer.Do(t.Context(), &sync.Request{User: anne, Device: "A", Initial: true, Filter: &sync.Filter{}})
	if err != nil {
		t.Fatal(err)
	}
	since, err := h.syncer.ReadSince(first.NextBatch)
	if err != nil {
		t.Fatal(err)
	}
	slide := sync.SlidingRequest{User: anne, Device: "A", Rooms: window.Request{Lists: map[string]window.List{"all": {Ranges: [][2]int{{0, 9}}, Config: window.Config{Timeline: 1}}}}}
	slid, err := h.syncer.Sliding(t.Context(), slide)
	if err != nil {
		t.Fatal(err)
	}
	h.send(purged.ID(), member(anne, matrix.Leave))
	h.send(kept.ID(), state(anne, "m.room.topic", object("topic", "kept")))
	if err := h.rooms.Purge(t.Context(), purged.ID(), func(int) {}); err != nil {
		t.Fatal(err)
	}
	for name, q := range map[string]*sync.Request{
		"initial": {User: anne, Device: "A", Initial: true, Filter: &sync.Filter{}},
		"since":   {User: anne, Device: "A", Since: since, Filter: &sync.Filter{}},
	} {
		resp, err := h.syncer.Do(t.Context(), q)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if resp.Rooms == nil || resp.Rooms.Join[kept.ID()] == nil || len(resp.Rooms.Join)+len(resp.Rooms.Leave) != 1 {
			t.Errorf("%s: %+v", name, resp.Rooms)
		}
	}
	slide.Pos = slid.Pos
	next, err := h.syncer.Sliding(t.Context(), slide)
	if err != nil {
		t.Fatal(err)
	}
	if next.Rooms[kept.ID()] == nil || next.Rooms[purged.ID()] != nil {
		t.Errorf("%+v", next.Rooms)
	}
}
