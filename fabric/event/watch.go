package event

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"time"

	"orrery/fabric"
	"orrery/fabric/event/journal"
)

// Watch says what somebody wants to see.
type Watch struct {
	Names []string `json:"names,omitempty"` // all where empty; one that ends in * is the beginning of names
	// After is the position to go on after, in Log. Where Log is empty: from now on.
	After uint64 `json:"after,omitempty"`
	Log   string `json:"log,omitempty"`
	// Since, if it is not zero, has those that arrived at the node from then on come first.
	Since time.Time `json:"since,omitzero"`
}

const watchBatch = 64

// Watch yields events in the order of this node's log, and after those that are there the new ones, until ctx ends; then, or where something is wrong, it yields
// an error as the last thing. A reader may be as slow as it likes: it is told how many expired meanwhile.
func (s *Service) Watch(ctx context.Context, w Watch) iter.Seq2[Seen, error] {
	w, err := s.Begin(w)
	position := w.After
	return func(yield func(Seen, error) bool) {
		if err != nil {
			yield(Seen{}, err)
			return
		}
		for {
			s.mu.Lock()
			more, closed := s.appended, s.closed
			s.mu.Unlock()
			if closed {
				yield(Seen{}, fmt.Errorf("cannot watch events: %w", fabric.ErrClosed))
				return
			}
			last, goOn := s.pass(ctx, w.Names, position, yield)
			if !goOn {
				return
			}
			if position != last {
				position = last
				continue
			}
			select {
			case <-more:
			case <-ctx.Done():
				yield(Seen{}, ctx.Err())
				return
			}
		}
	}
}

// Begin says where a watch begins: what it returns begins there, too, also later.
func (s *Service) Begin(w Watch) (Watch, error) {
	if err := checkWanted(w.Names); err != nil {
		return w, fmt.Errorf("cannot watch events: %w", err)
	}
	end := s.log.Next() - 1
	if w.Log == "" {
		w.Log, w.After = s.log.ID(), end
		if !w.Since.IsZero() {
			w.After = s.before(w.Since, end)
		}
	}
	if w.Log != s.log.ID() || w.After > end {
		return w, fmt.Errorf("cannot watch events after position %d: it is %w", w.After, ErrOtherLog)
	}
	return w, nil
}

// before is the last position of what arrived before a time.
func (s *Service) before(since time.Time, end uint64) uint64 {
	for position := uint64(0); ; {
		records, first := s.log.After(position, watchBatch)
		if len(records) == 0 {
			return end
		}
		position = max(position, first-1)
		for _, r := range records {
			if !r.Time.Before(since) {
				return r.Position - 1
			}
			position = r.Position
		}
	}
}

// pass yields what is in the log after a position, and returns how far it came.
func (s *Service) pass(ctx context.Context, names []string, position uint64, yield func(Seen, error) bool) (last uint64, goOn bool) {
	records, first := s.log.After(position, watchBatch)
	if first > position+1 {
		if !yield(Seen{Missed: first - position - 1, Position: first - 1}, nil) {
			return position, false
		}
		position = first - 1
	}
	for _, r := range records {
		position = r.Position
		seen, ok, err := s.seen(r, names)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			yield(Seen{}, err)
			return position, false
		}
		if ok && !yield(seen, nil) {
			return position, false
		}
	}
	return position, true
}

// seen is a record as a watcher sees it, if it wants to.
func (s *Service) seen(r journal.Record, names []string) (seen Seen, wanted bool, err error) {
	seen.Position = r.Position
	if len(r.Head) > 0 && r.Head[0] == recordMissed {
		var m missedRecord
		err := json.Unmarshal(r.Head[1:], &m)
		seen.Missed, seen.MissedFrom = m.Count, m.From
		return seen, true, err
	}
	e, err := s.envelopeOf(r)
	if err != nil || !matches(names, e.name) {
		return seen, false, err
	}
	payload := e.payload
	if e.size > 0 {
		payload, err = s.log.Body(r)
	}
	switch {
	case errors.Is(err, journal.ErrGone):
		seen.Missed = 1
		return seen, true, nil
	case err != nil:
		return seen, false, fmt.Errorf("cannot read event %s at position %d: %w", e.name, r.Position, err)
	}
	seen.Event = &Event{
		Time: e.time, From: e.From, By: e.by, Name: e.name, Payload: payload, Sent: e.sent, Position: r.Position, Arrived: r.Time,
	}
	return seen, true, nil
}
