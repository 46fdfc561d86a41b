package search

import (
	"context"
	"math"

	"orrery/matrix"
	"orrery/matrix/event"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// buildBatch is how many events are read at a time to be indexed, where nobody waits for a commit.
const buildBatch = 500

// Progress is how much is indexed of what was there when an index was begun.
type Progress struct {
	Rooms, Of int
	Events    int // that were looked at since the program began
}

// builder indexes what was there when the index was begun: room by room, in pieces. What is indexed is noted in the same commit, so that it can be ended at any
// point, and goes on there.
type builder struct {
	stream *store.Stream
	state  store.IndexState
	rooms  []store.Room // that are not done
	told   Progress
}

// begin reads how much is indexed. If nothing is known of that, everything up to now is to be.
func begin(ctx context.Context, stream *store.Stream) (state store.IndexState, err error) {
	return state, stream.DB().Update(ctx, func(tx table.Tx) error {
		var known bool
		if state, known, err = store.GetIndexState(tx); err != nil || known {
			return err
		}
		now, err := store.Position(tx)
		if err != nil {
			return err
		}
		state = store.IndexState{Live: now, UpTo: now, Order: math.MinInt64, Built: now == 0}
		return store.PutIndexState(tx, state)
	})
}

func newBuilder(ctx context.Context, stream *store.Stream) (*builder, error) {
	b := &builder{stream: stream}
	var err error
	if b.state, err = begin(ctx, stream); err != nil || b.state.Built {
		return b, err
	}
	all, err := allRooms(ctx, stream)
	for _, r := range all {
		if r.ID >= b.state.Room {
			b.rooms = append(b.rooms, r)
		}
	}
	b.told.Of = len(all)
	return b, err
}

func allRooms(ctx context.Context, stream *store.Stream) (rooms []store.Room, err error) {
	return rooms, stream.DB().View(ctx, func(tx table.Tx) (err error) {
		rooms, err = store.Rooms.All(tx, table.Range{})
		return err
	})
}

// Build indexes all that was there when the index was begun, and tells how far it is. What was done stays done if it does not come to its end.
func Build(ctx context.Context, stream *store.Stream, tell func(Progress)) error {
	b, err := newBuilder(ctx, stream)
	for err == nil && !b.state.Built {
		if err = b.piece(ctx); err == nil {
			tell(b.told)
		}
	}
	return err
}

// piece indexes some events.
func (b *builder) piece(ctx context.Context) error {
	var batch []item
	state, rooms, looked := b.state, b.rooms, 0
	for looked < buildBatch && len(rooms) > 0 {
		r := rooms[0]
		if r.ID != state.Room {
			state.Room, state.Order = r.ID, math.MinInt64
		}
		limit := buildBatch - looked
		found, n, last, err := readEvents(ctx, b.stream, r, table.Range{From: state.Order + 1, Before: state.UpTo + 1, Limit: limit})
		if err != nil {
			return err
		}
		batch = append(batch, found...)
		if looked += n; n > 0 {
			state.Order = last
		}
		if n < limit {
			rooms = rooms[1:]
		}
	}
	state.Built = len(rooms) == 0
	if err := b.stream.DB().Update(ctx, func(tx table.Tx) error {
		now, _, err := store.GetIndexState(tx)
		if err != nil {
			return err
		}
		if err := add(tx, batch); err != nil {
			return err
		}
		state.Live = now.Live
		return store.PutIndexState(tx, state)
	}); err != nil {
		return err
	}
	b.state, b.rooms = state, rooms
	b.told.Rooms, b.told.Events = b.told.Of-len(rooms), b.told.Events+looked
	return nil
}

// readEvents reads events of a room that are to be indexed. It is how many events it looked at, too, and the order of the last one.
func readEvents(ctx context.Context, stream *store.Stream, r store.Room, of table.Range) (found []item, looked int, last int64, err error) {
	version, err := matrix.FindVersion(r.Version)
	if err != nil {
		return nil, 0, 0, err
	}
	of.Prefix = []any{r.ID}
	err = stream.DB().View(ctx, func(tx table.Tx) error {
		for row, err := range store.Events.Scan(tx, of) {
			if err != nil {
				return err
			}
			looked, last = looked+1, row.Order
			if row.Redacted != "" || !indexed[row.Type] {
				continue
			}
			e, err := event.Parse(version, row.JSON)
			if err != nil {
				return err
			}
			found = append(found, item{r.ID, row.Order, e})
		}
		return nil
	})
	return found, looked, last, err
}

// add indexes events. Those that were redacted meanwhile, or are gone, are left out.
func add(tx table.Tx, batch []item) error {
	var all []store.Words
	for _, i := range batch {
		words := EventWords(i.event)
		if len(words) == 0 {
			continue
		}
		row, ok, err := store.Events.Get(tx, i.room, i.order)
		if err != nil {
			return err
		}
		if ok && row.Redacted == "" {
			all = append(all, store.Words{Room: i.room, Order: i.order, Words: words})
		}
	}
	return store.AddWords(tx, all)
}
