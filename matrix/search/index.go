package search

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"orrery/matrix/event"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// How many events wait to be indexed in memory, and how many are indexed in one commit.
const (
	maxQueue = 10_000
	maxBatch = 100
)

// gather is how long events wait for others to be indexed with, unless somebody searches: a commit of each one would cost more than its words.
const gather = 2 * time.Second

// ErrClosed says that the index is closed.
var ErrClosed = errors.New("the index is closed")

// indexed are the types of events that have words.
var indexed = func() map[string]bool {
	all := map[string]bool{}
	for _, kind := range Keys {
		all[kind] = true
	}
	return all
}()

// item is an event to be indexed.
type item struct {
	room  int64
	order int64
	event *event.Event
}

// Index is that of the words of all rooms. It follows what is sent; Close ends it.
type Index struct {
	stream *store.Stream
	logger *slog.Logger
	cancel context.CancelFunc
	done   sync.WaitGroup

	// Of the goroutine that indexes.
	builder *builder // nil before it is known what is indexed
	live    int64    // the position up to which is noted that all is indexed

	mu     sync.Mutex
	queue  []item
	read   bool // the queue has all that came since it was opened and is not indexed; otherwise it is read from the store
	wake   chan struct{}
	waits  []waiting
	closed bool
}

// waiting is somebody who waits until all up to a position can be found.
type waiting struct {
	position int64
	result   chan error
}

// Open opens the index, and indexes in the background what is not yet.
func Open(ctx context.Context, stream *store.Stream, logger *slog.Logger) *Index {
	x := &Index{stream: stream, logger: logger, wake: make(chan struct{}, 1)}
	ctx, x.cancel = context.WithCancel(context.WithoutCancel(ctx))
	x.done.Go(func() { x.run(ctx) })
	x.ring()
	return x
}

// Close ends the index. What was not indexed is when it is opened the next time.
func (x *Index) Close() {
	x.cancel()
	x.done.Wait()
}

func (x *Index) ring() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// Add takes notice of events in a room. It must be called before they count as seen, so that whoever waits for what is seen finds them.
func (x *Index) Add(r *room.Room, events []*room.Entry) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range events {
		if len(x.queue) >= maxQueue { // it does not keep up: the rest is read from the store
			x.queue, x.read = nil, false
		}
		if x.read {
			x.queue = append(x.queue, item{r.Number(), e.Order, e.Event})
		}
	}
	x.ring()
}

// Wait waits until all events up to now can be found.
func (x *Index) Wait(ctx context.Context) error {
	w := waiting{x.stream.Current(), make(chan error, 1)}
	x.mu.Lock()
	if x.closed {
		x.mu.Unlock()
		return ErrClosed
	}
	x.waits = append(x.waits, w)
	x.mu.Unlock()
	x.ring()
	select {
	case err := <-w.result:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (x *Index) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			x.mu.Lock()
			defer x.mu.Unlock()
			x.closed = true
			x.answer(func(waiting) bool { return true }, ErrClosed)
			return
		case <-x.wake:
			x.gather(ctx)
		}
		for more := true; more; {
			var err error
			if more, err = x.step(ctx); err == nil && !more && !x.builder.state.Built {
				more = true
				err = x.build(ctx)
			}
			if err != nil && ctx.Err() == nil {
				more = false
				x.logger.WarnContext(ctx, "messages cannot be indexed", "error", err)
				x.mu.Lock()
				x.queue, x.read = nil, false // what was taken out is read again, with the next event
				x.answer(func(waiting) bool { return true }, err)
				x.mu.Unlock()
			}
			more = more && ctx.Err() == nil
		}
	}
}

// gather waits for more events, unless somebody waits for them or there are enough.
func (x *Index) gather(ctx context.Context) {
	enough := time.NewTimer(gather)
	defer enough.Stop()
	for {
		x.mu.Lock()
		hurry := !x.read || x.builder == nil || !x.builder.state.Built || len(x.waits) > 0 || len(x.queue) >= maxBatch
		x.mu.Unlock()
		if hurry {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-enough.C:
			return
		case <-x.wake:
		}
	}
}

// answer answers some of those who wait.
func (x *Index) answer(which func(waiting) bool, err error) {
	x.waits = slices.DeleteFunc(x.waits, func(w waiting) bool {
		if which(w) {
			w.result <- err
			return true
		}
		return false
	})
}

// step indexes a batch, and says whether there is more.
func (x *Index) step(ctx context.Context) (bool, error) {
	x.mu.Lock()
	known := x.read
	var batch []item
	upTo, more := x.stream.Current(), false // all up to there is in the queue, or was before
	if known {
		n := min(len(x.queue), maxBatch)
		batch, x.queue = x.queue[:n:n], x.queue[n:]
		more = len(x.queue) > 0
	} else {
		x.read = true // what comes from now on is in the queue, too
	}
	x.mu.Unlock()
	if !known {
		return true, x.catchUp(ctx)
	}
	if len(batch) > 0 {
		if err := x.write(ctx, batch); err != nil {
			return false, err
		}
	}
	if more {
		return true, nil
	}
	if err := x.reached(ctx, upTo); err != nil {
		return false, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.answer(func(w waiting) bool { return w.position <= upTo }, nil)
	return len(x.queue) > 0, nil
}

// reached notes up to where all is indexed, if that is worth it.
func (x *Index) reached(ctx context.Context, upTo int64) error {
	if upTo <= x.live+maxBatch {
		return nil
	}
	if err := x.note(ctx, upTo); err != nil {
		return err
	}
	x.live = upTo
	return nil
}

func (x *Index) note(ctx context.Context, upTo int64) error {
	return x.stream.DB().Update(ctx, func(tx table.Tx) error {
		state, _, err := store.GetIndexState(tx)
		if err != nil {
			return err
		}
		state.Live = upTo
		return store.PutIndexState(tx, state)
	})
}

// catchUp indexes what came since the index was begun and is not indexed.
func (x *Index) catchUp(ctx context.Context) error {
	b, err := newBuilder(ctx, x.stream)
	if err != nil {
		return err
	}
	x.builder, x.live = b, b.state.Live
	upTo := x.stream.Current()
	if x.live >= upTo {
		return nil
	}
	rooms, err := allRooms(ctx, x.stream)
	if err != nil {
		return err
	}
	for _, r := range rooms {
		for since, more := x.live, true; more; {
			batch, n, last, err := readEvents(ctx, x.stream, r, table.Range{From: since + 1, Limit: maxBatch})
			if err != nil {
				return err
			}
			if err := x.write(ctx, batch); err != nil {
				return err
			}
			since, more = last, n == maxBatch
		}
	}
	return x.reached(ctx, upTo)
}

func (x *Index) write(ctx context.Context, batch []item) error {
	if len(batch) == 0 {
		return nil
	}
	return x.stream.DB().Update(ctx, func(tx table.Tx) error { return add(tx, batch) })
}

// tellEach is how many events are looked at between two messages of how far it is.
const tellEach = 50_000

// build indexes a piece of what was there when the index was begun.
func (x *Index) build(ctx context.Context) error {
	before := x.builder.told.Events
	if err := x.builder.piece(ctx); err != nil {
		return err
	}
	told := x.builder.told
	switch {
	case x.builder.state.Built:
		x.logger.InfoContext(ctx, "all messages can be searched", "rooms", told.Of, "events", told.Events)
	case before/tellEach != told.Events/tellEach:
		x.logger.InfoContext(ctx, "messages are made searchable", "rooms", told.Rooms, "of", told.Of, "events", told.Events)
	}
	return nil
}

// Remove takes an event that is redacted out of the index.
func Remove(tx table.Tx, number int64, what *room.Entry) error {
	return store.RemoveWords(tx, store.Words{Room: number, Order: what.Order, Words: EventWords(what.Event)})
}
