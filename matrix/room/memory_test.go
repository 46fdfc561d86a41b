package room_test

import (
	"testing"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/table/pebbledb"
)

// TestNothingBetween: there are no events up to what is before the beginning. Who came or read something while an answer is made asks for that.
func TestNothingBetween(t *testing.T) {
	db, err := pebbledb.Open(pebbledb.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	r := crowded(t, site(t, db), matrix.DefaultVersion, 3)
	for i := range 5 {
		if err := r.Do(t.Context(), func(turn *room.Turn) error {
			_, err := turn.Send(message(i))
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	last := r.Last()
	for _, upTo := range []int64{last, last - 1, last - 3, 0} {
		received, err := r.Received(t.Context(), "@nobody:a", last, upTo, 100)
		if err != nil {
			t.Fatal(err)
		}
		events, more, err := r.Timeline(t.Context(), last, upTo, 100)
		if err != nil {
			t.Fatal(err)
		}
		if len(received)+len(events) > 0 || more {
			t.Errorf("from %d up to %d there are %d and %d events", last, upTo, len(received), len(events))
		}
	}
}
