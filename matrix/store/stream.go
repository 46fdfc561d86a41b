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
	db  table.DB
	own string // its epoch

	mu     sync.Mutex
	last   int64
	epochs []epoch // never changed, but replaced
	begun  bool    // the own one is among them
	open   map[*slot]struct{}
	ended  sync.Cond // an update, with mu
}

// slot is an update under way, with the positions that it has; 0 before it has any.
type slot struct {
	first, last int64
	epochs      []epoch // as it leaves them; nil if it does not change them
}

// NewStream is the stream of a database.
func NewStream(ctx context.Context, db table.DB) (*Stream, error) {
	s := &Stream{db: db, own: newEpoch(), open: map[*slot]struct{}{}}
	s.ended.L = &s.mu
	return s, s.Refresh(ctx)
}

// Refresh takes notice of positions that were committed by updates that did not get to know it.
func (s *Stream) Refresh(ctx context.Context) error {
	var last int64
	var all []epoch
	if err := s.db.View(ctx, func(tx table.Tx) (err error) {
		if last, err = Position(tx); err != nil {
			return err
		}
		all, err = epochs.All(tx, table.Range{})
		return err
	}); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last, last)
	if !s.begun {
		s.epochs, s.begun = all, recorded(all, s.own)
	}
	return nil
}

// DB is the stream's database.
func (s *Stream) DB() table.DB { return s.db }

// Current is the last position up to which everything that was committed is seen.
func (s *Stream) Current() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current()
}

func (s *Stream) current() int64 {
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

// Epoch names the part of the database's history to which a position belongs: a database in which it stands for something else does not have that name for it.
func (s *Stream) Epoch(position int64) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return epochOf(s.epochs, position)
}

// Holds says whether all up to a position is as it was when that had the name of an epoch.
func (s *Stream) Holds(position int64, epoch string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return position <= s.current() && epochOf(s.epochs, position) == epoch
}

// advance gives out positions to an update.
func (s *Stream) advance(tx table.Tx, o *slot, n int) (int64, error) {
	first, err := Advance(tx, n)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	begun, to := s.begun, slot{cmp.Or(o.first, first), first + int64(n) - 1, o.epochs}
	s.mu.Unlock()
	if !begun {
		to.epochs, err = record(tx, s.own, first)
	}
	s.set(o, to)
	return first, err
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
		return f(tx, func(n int) (int64, error) { return s.advance(tx, o, n) })
	})
	if err == nil && show != nil {
		show()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, o)
	if err == nil {
		s.last = max(s.last, o.last)
		if o.epochs != nil {
			s.epochs, s.begun = o.epochs, true
		}
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
