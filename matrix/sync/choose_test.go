package sync_test

import (
	"testing"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/sync"
)

// TestLooksNoFurther: what a filter wants is not looked for behind a thousand events that it does not want; the client learns that there may be more, and of the state.
func TestLooksNoFurther(t *testing.T) {
	h := newHouse(t)
	who := people[0]
	r := h.create(who)
	q := &sync.Request{User: who, Device: devices[0], Initial: true, Filter: &sync.Filter{}}
	q.Filter.Room.Timeline.Types = []string{"m.room.message"}
	ask := func() (*sync.Response, *sync.JoinedRoom) {
		t.Helper()
		resp, err := h.syncer.Do(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Rooms == nil || resp.Rooms.Join[r.ID()] == nil {
			t.Fatal("the room is not told of")
		}
		return resp, resp.Rooms.Join[r.ID()]
	}
	first, _ := ask()
	q.Since, _ = h.syncer.ReadSince(first.NextBatch)
	q.Initial = false
	wanted := h.send(r.ID(), room.Draft{Type: "m.room.message", Sender: who, Content: object("body", "wanted")})
	h.send(r.ID(), state(who, "m.room.name", object("name", "new")))
	others := func(n int) {
		if err := r.Do(t.Context(), func(turn *room.Turn) error {
			for range n {
				if _, err := turn.Send(room.Draft{Type: "own", Sender: who, Content: object("body", "no message")}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	others(900)
	for range 2 { // with memory and without
		if _, got := ask(); len(got.Timeline.Events) != 1 || got.Timeline.Limited || len(got.State.Events) != 1 {
			t.Errorf("behind 900: %d events, %d of state, limited %v", len(got.Timeline.Events), len(got.State.Events), got.Timeline.Limited)
		} else if position, err := h.syncer.ReadSince(got.Timeline.PrevBatch); err != nil || position != wanted.Order-1 {
			t.Errorf("what is before begins at %d, not %d", position, wanted.Order-1)
		}
		h.start()
	}
	var err error
	if r, err = h.rooms.Find(t.Context(), r.ID()); err != nil {
		t.Fatal(err)
	}
	others(200)
	for range 2 {
		resp, got := ask()
		if len(got.Timeline.Events) != 0 || !got.Timeline.Limited || got.Timeline.PrevBatch != resp.NextBatch || len(got.State.Events) != 1 {
			t.Errorf("behind 1100: %d events, %d of state, limited %v, before %s", len(got.Timeline.Events), len(got.State.Events), got.Timeline.Limited, got.Timeline.PrevBatch)
		}
		h.start()
	}
}

// TestLooksNoFurtherInAll: there is a bound for all rooms of an answer, too.
func TestLooksNoFurtherInAll(t *testing.T) {
	const rooms, each = 7, 950
	h := newHouse(t)
	who := people[0]
	for range rooms {
		r := h.create(who)
		h.send(r.ID(), room.Draft{Type: "m.room.message", Sender: who, Content: object("body", "wanted")})
		if err := r.Do(t.Context(), func(turn *room.Turn) error {
			for range each {
				if _, err := turn.Send(room.Draft{Type: "own", Sender: who, Content: object("body", "no message")}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	q := &sync.Request{User: who, Device: devices[0], Initial: true, Filter: &sync.Filter{}}
	q.Filter.Room.Timeline.Types = []string{"m.room.message"}
	resp, err := h.syncer.Do(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	found, cut := 0, 0
	for _, r := range resp.Rooms.Join {
		found += len(r.Timeline.Events)
		if r.Timeline.Limited {
			cut++
		}
	}
	if found+cut != rooms || found < 5 || cut < 2 {
		t.Errorf("%d of %d rooms have their message, %d may have more", found, rooms, cut)
	}
}

// TestFilterLeft: who has left a room is told of the leaving, whether or not a filter leaves it out of the timeline.
func TestFilterLeft(t *testing.T) {
	h := newHouse(t)
	anne, bob := people[0], people[1]
	r := h.create(anne)
	h.send(r.ID(), member(bob, matrix.Join))
	since := h.stream.Current()
	h.send(r.ID(), room.Draft{Type: "m.room.message", Sender: anne, Content: object("body", "wanted")})
	h.send(r.ID(), member(bob, matrix.Leave))
	for types, want := range map[string][2]int{"m.room.message": {1, 1}, matrix.TypeMember: {1, 0}, "own": {0, 1}} {
		q := &sync.Request{User: bob, Device: devices[0], Since: since, Filter: &sync.Filter{}}
		q.Filter.Room.Timeline.Types = []string{types}
		resp, err := h.syncer.Do(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		got := resp.Rooms.Leave[r.ID()]
		if got == nil || len(got.Timeline.Events) != want[0] || len(got.State.Events) != want[1] || got.Timeline.Limited {
			t.Errorf("%s: %+v", types, got)
		}
	}
}
