package delayed

import (
	"context"
	"fmt"
	"time"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// What is known of events that were sent, or never will be: the last ones of each user, for some time (MSC4140, retention of finalised delayed events).
const (
	mostFinished = 100
	keepFinished = 7 * 24 * time.Hour
	dropAtATime  = 10 // of those that are too old
)

// outcome is what became of an event.
type outcome struct {
	eventID string // "": it was not sent
	err     []byte // why it could not be
}

// finish takes an event out of those that are to be sent, and notes what became of it.
func (e *Events) finish(tx table.Tx, d store.Delayed, o outcome) error {
	if err := store.AllDelayed.Delete(tx, d.ID); err != nil {
		return err
	}
	now := e.c.Now()
	old, err := store.AllFinishedDelayed.All(tx, table.Range{Index: "time", Before: now.Add(-keepFinished).UnixMilli(), Limit: dropAtATime})
	if err != nil {
		return err
	}
	own, err := store.AllFinishedDelayed.All(tx, table.Range{Index: "user", Prefix: []any{d.User}, Limit: mostFinished})
	if err != nil {
		return err
	}
	if len(own) == mostFinished {
		old = append(old, own[0])
	}
	for _, f := range old {
		if err := store.AllFinishedDelayed.Delete(tx, f.ID); err != nil {
			return err
		}
	}
	return store.AllFinishedDelayed.Put(tx, store.FinishedDelayed{DelayedEvent: d.DelayedEvent, Time: now.UnixMilli(), EventID: o.eventID, Error: o.err})
}

// finished is nil if an event that is not to be sent any more had the outcome that somebody wants; otherwise ErrNotFound or ErrConflict. To ask again for what was done
// is no error, so that who got no answer may ask again (MSC4140, managing scheduled delayed events).
func (e *Events) finished(tx table.Tx, id string, wants func(store.FinishedDelayed) bool) error {
	f, ok, err := store.AllFinishedDelayed.Get(tx, id)
	switch {
	case err != nil:
		return err
	case !ok || f.Time < e.c.Now().Add(-keepFinished).UnixMilli():
		return fmt.Errorf("%w: %.40q", ErrNotFound, id)
	case wants(f):
		return nil
	case f.EventID != "":
		return fmt.Errorf("%w: it was sent", ErrConflict)
	}
	return fmt.Errorf("%w: it was cancelled", ErrConflict)
}

func sent(f store.FinishedDelayed) bool      { return f.EventID != "" }
func cancelled(f store.FinishedDelayed) bool { return f.EventID == "" }
func never(store.FinishedDelayed) bool       { return false }

// Find is an event of a user, as it is or was to be sent, and what became of it: nil if it still is to be. The error is ErrNotFound.
func (e *Events) Find(ctx context.Context, user, id string) (d store.DelayedEvent, became *store.FinishedDelayed, err error) {
	err = e.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		found, ok, err := store.AllDelayed.Get(tx, id)
		if err != nil {
			return err
		}
		d = found.DelayedEvent
		if !ok {
			f, known, err := store.AllFinishedDelayed.Get(tx, id)
			if err != nil {
				return err
			}
			ok, became = known && f.Time >= e.c.Now().Add(-keepFinished).UnixMilli(), &f
			d = f.DelayedEvent
		}
		if !ok || d.User != user {
			return fmt.Errorf("%w: %.40q", ErrNotFound, id)
		}
		return nil
	})
	return d, became, err
}
