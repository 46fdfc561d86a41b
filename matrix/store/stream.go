package store

import (
	"cmp"
	"context"
	"sync"

	"orrery/matrix/table"
)

// Stream gives out positions to updates of a database. Several are under way at a time, and are seen by others a moment after they were committed; Current is the
// last position up to which all are seen, so that whoever reads up to it misses nothing.
type Stream struct {
	db table.DB

	mu    sync.Mutex
	last  int64
	open  map[*slot]struct{}
	ended sync.Cond // an update, with mu
}

// slot is an update under way, with the positions that it has; 0 before it has any.
type slot struct{ first, last int64 }

// NewStream is the stream of a database.
func NewStream(ctx context.Context, db table.DB) (*Stream, error) {
	s := &Stream{db: db, open: map[*slot]struct{}{}}
	s.ended.L = &s.mu
	return s, db.View(ctx, func(tx table.Tx) (err error) {
		s.last, err = Position(tx)
		return err
	})
}

// Refresh takes notice of positions that were committed by updates that did not get to know it.
func (s *Stream) Refresh(ctx context.Context) error {
	var last int64
	err := s.db.View(ctx, func(tx table.Tx) (err error) {
		last, err = Position(tx)
		return err
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last, last)
	return err
}

// DB is the stream's database.
func (s *Stream) DB() table.DB { return s.db }

// Current is the last position up to which everything that was committed is seen.
func (s *Stream) Current() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	current := s.last
	for o := range s.open {
		if o.first != 0 {
			current = min(current, o.first-1)
		}
	}
	return current
}

// Given is the last position that was given out, as far as it is known: also to updates that are under way, and to some that came to nothing.
func (s *Stream) Given() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	given := s.last
	for o := range s.open {
		given = max(given, o.last)
	}
	return given
}

// set changes the positions of an update, which is the only one that does.
func (s *Stream) set(o *slot, to slot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*o = to
}

// Update is that of the database. The function gets positions by advance. When they are committed show is called, before they count as seen. When Update
// returns nil they do, and so do those before them: who is woken then finds what it was woken for.
func (s *Stream) Update(ctx context.Context, f func(tx table.Tx, advance func(n int) (int64, error)) error, show func()) error {
	o := &slot{}
	s.mu.Lock()
	s.open[o] = struct{}{}
	s.mu.Unlock()
	err := s.db.Update(ctx, func(tx table.Tx) error {
		s.set(o, slot{}) // it may have run before
		return f(tx, func(n int) (int64, error) {
			first, err := Advance(tx, n)
			s.set(o, slot{cmp.Or(o.first, first), first + int64(n) - 1})
			return first, err
		})
	})
	if err == nil && show != nil {
		show()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, o)
	if err == nil {
		s.last = max(s.last, o.last)
	}
	s.ended.Broadcast()
	for err == nil && s.before(o) { // it was committed before this one, or will not be, so its end is near
		s.ended.Wait()
	}
	return err
}

// before says whether an update with earlier positions than another's has not ended.
func (s *Stream) before(o *slot) bool {
	for other := range s.open {
		if other.first != 0 && other.first < o.first {
			return true
		}
	}
	return false
}
