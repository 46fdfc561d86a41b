package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// ErrRedacting says that a user's events are being redacted already.
var ErrRedacting = errors.New("events of this user are being redacted already")

// ErrNoRedaction says that there is no redaction with an id, or not any more.
var ErrNoRedaction = errors.New("no such redaction")

// Active is the state of a redaction that goes on, besides Complete and Failed.
const Active = "active"

// Redacting says which events of a user are redacted.
type Redacting struct {
	store.Redaction

	Rooms []string // none: those of which the user is a member, or from which they are banned
	Limit int64    // how many of the user's newest events are looked at in each room
}

// BeginRedacting begins to redact what a user sent up to now, and is an id that asks how far it is. It goes on when the server is started again.
func (a *Admin) BeginRedacting(ctx context.Context, r Redacting) (string, error) {
	r.ID, r.Status, r.Begun, r.Ended = rand.Text(), Active, a.Now().UnixMilli(), 0
	for _, id := range r.Rooms {
		if _, err := a.Rooms.Find(ctx, id); err != nil {
			return "", err
		}
	}
	if err := a.Stream.DB().Update(ctx, func(tx table.Tx) error { return a.noteRedacting(tx, r) }); err != nil {
		return "", err
	}
	return r.ID, a.deletions.begins(func(ctx context.Context) { a.redact(ctx, r.Redaction) })
}

// noteRedacting notes what is to be redacted.
func (a *Admin) noteRedacting(tx table.Tx, r Redacting) error {
	under, err := store.Redactions.All(tx, table.Range{Index: "user", Prefix: []any{r.User}})
	if err != nil {
		return err
	}
	if slices.ContainsFunc(under, func(other store.Redaction) bool { return other.Ended == 0 }) {
		return fmt.Errorf("%w: %s", ErrRedacting, r.User)
	}
	rooms := r.Rooms
	if len(rooms) == 0 {
		if rooms, err = roomsOf(tx, r.User); err != nil {
			return err
		}
	}
	last, err := store.Position(tx)
	if err != nil {
		return err
	}
	for _, id := range rooms {
		if err := store.RedactionRooms.Put(tx, store.RedactionRoom{ID: r.ID, Room: id, Before: last + 1, Left: r.Limit}); err != nil {
			return err
		}
	}
	return store.Redactions.Put(tx, r.Redaction)
}

// roomsOf are the rooms of which a user is a member, or from which they are banned.
func roomsOf(tx table.Tx, user string) (all []string, err error) {
	members, err := store.Members.All(tx, table.Range{Prefix: []any{user}})
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.Membership != matrix.Join && m.Membership != matrix.Ban {
			continue
		}
		row, ok, err := store.Rooms.Get(tx, m.Room)
		if err != nil {
			return nil, err
		}
		if ok {
			all = append(all, row.RoomID)
		}
	}
	return all, nil
}

// Redacted is how far a redaction is, and what could not be redacted.
func (a *Admin) Redacted(ctx context.Context, id string) (r store.Redaction, failed []store.RedactionFailure, err error) {
	err = a.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		var ok bool
		if r, ok, err = store.Redactions.Get(tx, id); err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("%w: %.40q", ErrNoRedaction, id)
		}
		failed, err = store.RedactionFailures.All(tx, table.Range{Prefix: []any{id}})
		return err
	})
	return r, failed, err
}

// Resume goes on with what a server that ended left.
func (a *Admin) Resume(ctx context.Context) error {
	var left []store.Redaction
	err := a.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		left, err = store.Redactions.All(tx, table.Range{Index: "ended", Prefix: []any{int64(0)}})
		return err
	})
	for _, r := range left {
		err = errors.Join(err, a.deletions.begins(func(ctx context.Context) { a.redact(ctx, r) }))
	}
	return err
}

// again is when something is tried again that the database was not there for.
const again = 5 * time.Second

// redact carries a redaction out, until it is done or the server ends.
func (a *Admin) redact(ctx context.Context, r store.Redaction) {
	for {
		err := a.redactRooms(ctx, r)
		if err == nil || ctx.Err() != nil {
			return
		}
		a.Logger.ErrorContext(ctx, "the events of a user are not redacted yet", "user", r.User, "id", r.ID, "error", err)
		if !errors.Is(err, table.ErrUnavailable) {
			r.Why = err.Error()
			if err = a.endRedacting(ctx, r); err == nil {
				return
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
}

// endRedacting notes that a redaction has ended, and that it failed if it says why.
func (a *Admin) endRedacting(ctx context.Context, r store.Redaction) error {
	r.Ended = a.Now().UnixMilli()
	if r.Status = Complete; r.Why != "" {
		r.Status = Failed
	}
	return a.Stream.DB().Update(ctx, func(tx table.Tx) error {
		return errors.Join(store.RedactionRooms.DeleteAll(tx, table.Range{Prefix: []any{r.ID}}), store.Redactions.Put(tx, r))
	})
}

func (a *Admin) redactRooms(ctx context.Context, r store.Redaction) error {
	for {
		var in store.RedactionRoom
		var found bool
		if err := a.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
			in, found, err = store.RedactionRooms.First(tx, table.Range{Prefix: []any{r.ID}})
			return err
		}); err != nil {
			return err
		}
		if !found {
			return a.endRedacting(ctx, r)
		}
		if err := a.redactPiece(ctx, r, in); err != nil {
			return err
		}
	}
}

// How many events are looked at, and redacted at most, in one turn of a room.
const (
	redactLook  = 500
	redactPiece = 50
)

// redactPiece redacts some events of a room, and notes that in the same commit.
func (a *Admin) redactPiece(ctx context.Context, r store.Redaction, in store.RedactionRoom) error {
	found, err := a.Rooms.Find(ctx, in.Room)
	if errors.Is(err, room.ErrNotFound) { // it was purged meanwhile
		return a.Stream.DB().Update(ctx, func(tx table.Tx) error { return store.RedactionRooms.Delete(tx, r.ID, in.Room) })
	}
	if err != nil {
		return err
	}
	events, next, more, err := found.SentBy(ctx, r.User, in.Before, redactLook, int(min(in.Left, redactPiece)))
	if err != nil {
		return err
	}
	in.Before, in.Left = next, in.Left-int64(len(events))
	failed := map[string]string{}
	return found.Do(ctx, func(t *room.Turn) error {
		by := a.redactor(t, r)
		for _, e := range events {
			if !wanted(r, e) {
				continue
			}
			if err := redactBy(t, by, e, r.Reason); err != nil {
				failed[e.ID()] = err.Error()
			}
		}
		t.Also(func(tx table.Tx, _ int64) error {
			for id, why := range failed {
				if err := store.RedactionFailures.Put(tx, store.RedactionFailure{ID: r.ID, Event: id, Why: why}); err != nil {
					return err
				}
			}
			if in.Left <= 0 || !more {
				return store.RedactionRooms.Delete(tx, r.ID, in.Room)
			}
			return store.RedactionRooms.Put(tx, in)
		})
		return nil
	})
}

// redactor is who redacts in a room: the user themself, if they are there, or the administrator.
func (a *Admin) redactor(t *room.Turn, r store.Redaction) string {
	if !r.Always && a.Accounts.Local(r.User) && t.Membership(r.User) == matrix.Join {
		return r.User
	}
	return r.By
}

// wanted says whether an event is to be redacted: one that says something, and is no state but what its sender says of themself on joining.
func wanted(r store.Redaction, e *room.Entry) bool {
	at := e.Timestamp()
	if e.Redacted != "" || e.Type() == matrix.TypeRedaction || at < r.After || r.Before != 0 && at > r.Before {
		return false
	}
	key, isState := e.StateKey()
	return !isState || e.Type() == matrix.TypeMember && key == e.Sender() && !slices.Equal(e.Event.Redacted().Content().JSON(), e.Content().JSON())
}

// because is what a redaction says.
func because(reason string) canonical.Value {
	if reason == "" {
		return canonical.Of()
	}
	return canonical.Of(canonical.Member{Name: "reason", Value: canonical.Text(reason)})
}

// redactBy redacts an event, if whoever does it may.
func redactBy(t *room.Turn, by string, e *room.Entry, reason string) error {
	if levels := t.Levels(); by != e.Sender() && levels.User(by) < levels.Redact() {
		return fmt.Errorf("%w: %s may not redact events of others", matrix.ErrForbidden, by)
	}
	sent, err := t.Send(room.Draft{Type: matrix.TypeRedaction, Sender: by, Content: because(reason), Redacts: e.ID()})
	if err != nil {
		return err
	}
	t.Redact(sent, e)
	return nil
}
