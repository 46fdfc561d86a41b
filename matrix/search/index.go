package search

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"

	"orrery/matrix"
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

// ErrClosed says that the index is closed.
var ErrClosed = errors.New("the index is closed")

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

	mu     sync.Mutex
	queue  []item
	read   bool // the queue has all that is not indexed; otherwise it is read from the store
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
		}
		for more := true; more; {
			var err error
			if more, err = x.step(ctx); err != nil && ctx.Err() == nil {
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
	behind := false
	if err := x.stream.DB().View(ctx, func(tx table.Tx) error {
		indexed, err := store.Indexed(tx)
		behind = upTo > indexed+maxBatch
		return err
	}); err != nil || !behind {
		return err
	}
	return x.stream.DB().Update(ctx, func(tx table.Tx) error { return store.SetIndexed(tx, upTo) })
}

// catchUp indexes what is in the store and was not indexed.
func (x *Index) catchUp(ctx context.Context) error {
	upTo := x.stream.Current()
	var since int64
	var rooms []store.Room
	if err := x.stream.DB().View(ctx, func(tx table.Tx) (err error) {
		if since, err = store.Indexed(tx); err != nil || since >= upTo {
			return err
		}
		rooms, err = store.Rooms.All(tx, table.Range{})
		return err
	}); err != nil || since >= upTo {
		return err
	}
	for _, r := range rooms {
		if err := x.catchUpRoom(ctx, r, since); err != nil {
			return err
		}
	}
	return x.stream.DB().Update(ctx, func(tx table.Tx) error { return store.SetIndexed(tx, upTo) })
}

func (x *Index) catchUpRoom(ctx context.Context, r store.Room, since int64) error {
	version, err := matrix.FindVersion(r.Version)
	if err != nil {
		return err
	}
	for {
		var batch []item
		last := since
		if err := x.stream.DB().View(ctx, func(tx table.Tx) error {
			for row, err := range store.Events.Scan(tx, table.Range{Prefix: []any{r.ID}, From: since + 1, Limit: maxBatch}) {
				if err != nil {
					return err
				}
				if last = row.Order; row.Redacted != "" || !indexed(row.Type) {
					continue
				}
				e, err := event.Parse(version, row.JSON)
				if err != nil {
					return err
				}
				batch = append(batch, item{r.ID, row.Order, e})
			}
			return nil
		}); err != nil {
			return err
		}
		if last == since {
			return nil
		}
		if err := x.write(ctx, batch); err != nil {
			return err
		}
		since = last
	}
}

func indexed(kind string) bool { return slices.Contains(slices.Collect(maps.Values(Keys)), kind) }

// write indexes events. Those that were redacted meanwhile are left out.
func (x *Index) write(ctx context.Context, batch []item) error {
	type place struct {
		room int64
		word string
	}
	return x.stream.DB().Update(ctx, func(tx table.Tx) error {
		found := map[place][]int64{}
		for _, i := range batch {
			words := EventWords(i.event)
			if len(words) == 0 {
				continue
			}
			row, ok, err := store.Events.Get(tx, i.room, i.order)
			if err != nil {
				return err
			}
			if !ok || row.Redacted != "" {
				continue
			}
			for _, w := range words {
				p := place{i.room, w}
				found[p] = append(found[p], i.order)
			}
		}
		places := slices.SortedFunc(maps.Keys(found), func(a, b place) int { return cmp.Or(cmp.Compare(a.room, b.room), cmp.Compare(a.word, b.word)) })
		for _, p := range places {
			slices.Sort(found[p])
			if err := store.AddWord(tx, p.room, p.word, found[p]); err != nil {
				return err
			}
		}
		return nil
	})
}

// Remove takes an event that is redacted out of the index.
func Remove(tx table.Tx, number int64, what *room.Entry) error {
	for _, w := range EventWords(what.Event) {
		if err := store.RemoveWord(tx, number, w, what.Order); err != nil {
			return err
		}
	}
	return nil
}

// maxBeginnings is how many words of a room are looked up that begin like one that is looked for.
const maxBeginnings = 200

// Find are the orders of events of a room that have all of some words, or words that begin like them.
func Find(tx table.Tx, room int64, terms []string) ([]int64, error) {
	var found map[int64]bool
	for _, t := range terms {
		has, err := store.FindWord(tx, room, t, maxBeginnings)
		if err != nil {
			return nil, err
		}
		if found == nil {
			found = has
			continue
		}
		maps.DeleteFunc(found, func(order int64, _ bool) bool { return !has[order] })
		if len(found) == 0 {
			break
		}
	}
	return slices.Collect(maps.Keys(found)), nil
}
