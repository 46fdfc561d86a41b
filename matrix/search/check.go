package search

import (
	"context"
	"fmt"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Check compares the index with all events, unless it is not built yet, and is how many of them can be searched. Nothing may be sent meanwhile.
func Check(ctx context.Context, stream *store.Stream) (n int, built bool, err error) {
	state, err := begin(ctx, stream)
	if err != nil || !state.Built {
		return 0, false, err
	}
	rooms, err := allRooms(ctx, stream)
	sum := 0
	for _, r := range rooms {
		n, err := checkRoom(ctx, stream, r)
		if err != nil {
			return sum, true, fmt.Errorf("the index of room %s: %w", r.RoomID, err)
		}
		sum += n
	}
	return sum, true, err
}

func checkRoom(ctx context.Context, stream *store.Stream, r store.Room) (int, error) {
	var has map[int64]bool
	if err := stream.DB().View(ctx, func(tx table.Tx) (err error) {
		has, err = store.Searchable(tx, r.ID)
		return err
	}); err != nil {
		return 0, err
	}
	sum := len(has)
	of := table.Range{Limit: buildBatch}
	for {
		batch, n, last, err := readEvents(ctx, stream, r, of)
		if err != nil {
			return 0, err
		}
		for _, i := range batch {
			if len(EventWords(i.event)) > 0 && !has[i.order] {
				return 0, fmt.Errorf("event %s is not in it", i.event.ID())
			}
			delete(has, i.order)
		}
		if n < buildBatch {
			break
		}
		of.From = last + 1
	}
	if len(has) > 0 {
		return 0, fmt.Errorf("it has %d events that are not there, or that were redacted", len(has))
	}
	return sum, nil
}
