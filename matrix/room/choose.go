package room

import (
	"context"
	"slices"

	"orrery/matrix"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// lookAtATime is how many events of the store are looked at in one view of it.
const lookAtATime = 250

// Choice says which events of a timeline are wanted.
type Choice struct {
	Of   func(kind, sender string) bool // is asked first: events of the store of which it is false are not read
	Is   func(e *Entry) bool
	Most int // how many events are looked at
}

// Chosen is the newest events after one order and up to another that are wanted, oldest first, at most some; more says that there are others of them before, or that
// there may be, because no more were looked at. looked is how many were.
func (r *Room) Chosen(ctx context.Context, after, upTo int64, limit int, c Choice) (found []*Entry, more bool, looked int, err error) {
	s := choosing{Choice: c, limit: limit}
	cached := r.cached()
	first, _ := slices.BinarySearchFunc(cached, after+1, byOrder)
	last, _ := slices.BinarySearchFunc(cached, upTo+1, byOrder)
	whole := first > 0 || len(cached) > 0 && cached[0].Type() == matrix.TypeCreate
	for i := last - 1; i >= first && !s.done(); i-- {
		s.look(cached[i].Type(), cached[i].Sender(), func() (*Entry, error) { return cached[i], nil })
		upTo = cached[i].Order - 1
	}
	for !whole && !s.done() && s.err == nil {
		n := min(lookAtATime, c.Most-s.looked)
		read, reached, err := r.lookBack(ctx, &s, after, upTo, n)
		if err != nil {
			return nil, false, s.looked, err
		}
		if read < n {
			break
		}
		upTo = reached - 1
	}
	found, more = s.found, s.done()
	if len(found) > limit {
		found = found[:limit]
	}
	slices.Reverse(found)
	return found, more, s.looked, s.err
}

// lookBack looks at some events of the store, the newest first; it is how many there were, and the order of the oldest one.
func (r *Room) lookBack(ctx context.Context, s *choosing, after, upTo int64, n int) (read int, reached int64, err error) {
	err = r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		for row, err := range store.Events.Scan(tx, table.Range{Prefix: []any{r.row.ID}, From: after + 1, Before: upTo + 1, Descending: true, Limit: n}) {
			if err != nil {
				return err
			}
			read++
			reached = row.Order
			if s.done() {
				return nil
			}
			s.look(row.Type, row.Sender, func() (*Entry, error) { return parse(r.version, row) })
		}
		return nil
	})
	return read, reached, err
}

// choosing is events that are chosen, the newest first: one more than are wanted if there are as many.
type choosing struct {
	Choice

	limit, looked int
	found         []*Entry
	err           error
}

func (s *choosing) done() bool { return len(s.found) > s.limit || s.looked >= s.Most || s.err != nil }

func (s *choosing) look(kind, sender string, read func() (*Entry, error)) {
	s.looked++
	if !s.Of(kind, sender) {
		return
	}
	e, err := read()
	if err != nil {
		s.err = err
		return
	}
	if s.Is(e) {
		s.found = append(s.found, e)
	}
}
