// Package delayed sends events later (MSC4140): what a client wants to be said when it cannot say it any more, such as that it has left a call.
//
// What is to be sent is in the store, and is sent in the same commit that takes it out: once, also if the server ends between.
package delayed

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Most is how many events a user may have that are sent later, and MostDelay how much later.
const (
	Most      = 100
	MostDelay = 24 * time.Hour
)

// ErrNotFound says that there is no such event, or not any more.
var ErrNotFound = errors.New("no such delayed event")

// ErrConflict says that an event was sent or cancelled already, and not what is wanted now.
var ErrConflict = errors.New("the delayed event is finished")

// ErrMany says that a user has too many of them.
var ErrMany = errors.New("too many delayed events")

// again is when something is tried again that the database was not there for.
const again = 5 * time.Second

// Config is what sending needs.
type Config struct {
	Stream *store.Stream
	Rooms  *room.Rooms
	May    func(ctx context.Context, user string) error // whether a user may send something now

	Explain func(err error) []byte // an error for clients, as JSON
	Now     func() time.Time
	Logger  *slog.Logger
}

// Events are those of a server.
type Events struct {
	c      Config
	ctx    context.Context //nolint:containedctx // of what goes on by itself, until Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	wake   chan struct{}

	mu sync.Mutex // one event is sent, or not, at a time
}

// Open is those of a server. What is due is sent once Begin was called.
func Open(ctx context.Context, c Config) *Events {
	e := &Events{c: c, wake: make(chan struct{}, 1)}
	e.ctx, e.cancel = context.WithCancel(context.WithoutCancel(ctx))
	return e
}

// Begin begins to send what is due. Close ends it.
func (e *Events) Begin() { e.work.Go(e.run) }

// Close ends what goes on, and waits for it.
func (e *Events) Close() {
	e.cancel()
	e.work.Wait()
}

// Schedule keeps an event to be sent after its delay, and is its id. Also what else is written is written in the same commit.
func (e *Events) Schedule(ctx context.Context, d store.DelayedEvent, also func(tx table.Tx, id string) error) (string, error) {
	d.ID, d.Since = rand.Text(), e.c.Now().UnixMilli()
	err := e.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		has, err := store.AllDelayed.All(tx, table.Range{Index: "user", Prefix: []any{d.User}, Limit: Most})
		if err == nil && len(has) == Most {
			err = fmt.Errorf("%w: %s has %d", ErrMany, d.User, Most)
		}
		if err == nil && also != nil {
			err = also(tx, d.ID)
		}
		if err != nil {
			return err
		}
		return store.AllDelayed.Put(tx, store.Delayed{DelayedEvent: d, Due: d.Since + d.Delay})
	})
	e.look()
	return d.ID, err
}

// Of are a user's, the next one first.
func (e *Events) Of(ctx context.Context, user string) (all []store.Delayed, err error) {
	err = e.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		all, err = store.AllDelayed.All(tx, table.Range{Index: "user", Prefix: []any{user}})
		return err
	})
	return all, err
}

// Restart lets an event's delay begin anew. The error is ErrNotFound or ErrConflict if it is not to be sent any more.
func (e *Events) Restart(ctx context.Context, id string) error {
	return e.change(ctx, id, never, func(tx table.Tx, d store.Delayed) error {
		d.Since = e.c.Now().UnixMilli()
		d.Due = d.Since + d.Delay
		return store.AllDelayed.Put(tx, d)
	})
}

// Cancel makes it that an event is never sent. The error is ErrConflict if it was.
func (e *Events) Cancel(ctx context.Context, id string) error {
	return e.change(ctx, id, cancelled, func(tx table.Tx, d store.Delayed) error { return e.finish(tx, d, outcome{}) })
}

// change changes an event that is to be sent. One that is not any more had better have the outcome that is wanted.
func (e *Events) change(ctx context.Context, id string, wants func(store.FinishedDelayed) bool, with func(tx table.Tx, d store.Delayed) error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		d, err := get(tx, id)
		if errors.Is(err, ErrNotFound) {
			return e.finished(tx, id, wants)
		}
		if err != nil {
			return err
		}
		return with(tx, d)
	})
}

func get(tx table.Tx, id string) (store.Delayed, error) {
	d, ok, err := store.AllDelayed.Get(tx, id)
	if err == nil && !ok {
		err = fmt.Errorf("%w: %.40q", ErrNotFound, id)
	}
	return d, err
}

// Send sends an event now. If that is not possible it is still there. The error is ErrConflict if it was cancelled.
func (e *Events) Send(ctx context.Context, id string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var d store.Delayed
	done := false
	if err := e.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		if d, err = get(tx, id); errors.Is(err, ErrNotFound) {
			done = true
			return e.finished(tx, id, sent)
		}
		return err
	}); err != nil || done {
		return err
	}
	return e.send(ctx, d)
}

// send sends an event and takes it out of the store. The caller holds the mutex.
func (e *Events) send(ctx context.Context, d store.Delayed) error {
	if err := e.c.May(ctx, d.User); err != nil {
		return err
	}
	content, err := canonical.Parse(d.Content, canonical.Strict)
	if err != nil {
		return err
	}
	r, err := e.c.Rooms.Find(ctx, d.Room)
	if err != nil {
		return err
	}
	draft := room.Draft{Type: d.Type, Sender: d.User, Content: content}
	if d.IsState {
		draft.StateKey = &d.StateKey
	}
	return r.Do(ctx, func(t *room.Turn) error {
		event, err := t.Send(draft)
		if err != nil {
			return err
		}
		t.Also(func(tx table.Tx, _ int64) error { return e.finish(tx, d, outcome{eventID: event.ID()}) })
		return nil
	})
}

// look lets run look what is due.
func (e *Events) look() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// run sends what is due, until Close.
func (e *Events) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-e.ctx.Done():
			return
		case <-e.wake:
		case <-timer.C:
		}
		timer.Reset(e.sendDue())
	}
}

// sendDue sends what is due, and is how long it is until something else is.
func (e *Events) sendDue() time.Duration {
	for {
		d, ok, err := e.next()
		if err != nil {
			return e.failed(err)
		}
		if !ok {
			return MostDelay
		}
		if left := time.Duration(d.Due-e.c.Now().UnixMilli()) * time.Millisecond; left > 0 {
			return left
		}
		if err := e.sendOrDrop(d); err != nil {
			return e.failed(err)
		}
	}
}

// failed is when to try again what did not succeed.
func (e *Events) failed(err error) time.Duration {
	if e.ctx.Err() == nil {
		e.c.Logger.ErrorContext(e.ctx, "a delayed event was not sent yet", "error", err)
	}
	return again
}

// next is the event that is due first.
func (e *Events) next() (d store.Delayed, ok bool, err error) {
	err = e.c.Stream.DB().View(e.ctx, func(tx table.Tx) error {
		all, err := store.AllDelayed.All(tx, table.Range{Index: "due", Limit: 1})
		if len(all) > 0 {
			d, ok = all[0], true
		}
		return err
	})
	return d, ok, err
}

// sendOrDrop sends an event that is due, and drops it if it cannot be sent: whoever wanted it may not send it any more.
func (e *Events) sendOrDrop(d store.Delayed) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := store.Delayed{}
	if err := e.c.Stream.DB().View(e.ctx, func(tx table.Tx) (err error) {
		now, err = get(tx, d.ID)
		return err
	}); errors.Is(err, ErrNotFound) || err == nil && now.Due != d.Due { // cancelled, sent or restarted meanwhile
		return nil
	} else if err != nil {
		return err
	}
	err := e.send(e.ctx, d)
	if err == nil || errors.Is(err, table.ErrUnavailable) || errors.Is(err, table.ErrClosed) || e.ctx.Err() != nil {
		return err
	}
	level := slog.LevelWarn
	if errors.Is(err, matrix.ErrForbidden) || errors.Is(err, room.ErrNotFound) {
		level = slog.LevelDebug
	}
	e.c.Logger.Log(e.ctx, level, "a delayed event was dropped", "room", d.Room, "user", d.User, "error", err)
	return e.c.Stream.DB().Update(e.ctx, func(tx table.Tx) error { return e.finish(tx, d, outcome{err: e.c.Explain(err)}) })
}
