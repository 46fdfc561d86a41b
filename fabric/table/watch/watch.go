// Package watch hands the changes of a table to those who watch it.
//
// A Hub never waits for a reader: what a slow reader has not taken is merged, so that it holds each key's
// newest entry and is never larger than what is watched. Every watch has one goroutine, which ends with its
// context or with the Hub; Close waits for all of them.
package watch

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"orrery/fabric"
)

// Hub is the watches of one table. The zero Hub is ready.
type Hub struct {
	mu       sync.Mutex
	watchers map[*watcher]struct{}
	closed   bool
	running  sync.WaitGroup
}

// Watch begins a watch whose first change is first. The caller makes sure that no Publish comes between
// the moment at which first was true and this call. The channel is closed when ctx ends or the hub is closed.
func (h *Hub) Watch(ctx context.Context, prefix string, first fabric.Change) (<-chan fabric.Change, error) {
	w := &watcher{
		prefix:  prefix,
		pending: map[string]fabric.Entry{},
		wake:    make(chan struct{}, 1),
		end:     make(chan struct{}),
		out:     make(chan fabric.Change),
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fabric.ErrClosed
	}
	if h.watchers == nil {
		h.watchers = map[*watcher]struct{}{}
	}
	h.watchers[w] = struct{}{}
	h.running.Go(func() {
		w.run(ctx, first)
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, w)
	})
	return w.out, nil
}

// Publish tells all watchers what changed. Calls come in the order of revisions. It does not block.
func (h *Hub) Publish(change fabric.Change) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		w.add(change)
	}
}

// Close ends all watches and waits for their goroutines.
func (h *Hub) Close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		for w := range h.watchers {
			close(w.end)
		}
	}
	h.mu.Unlock()
	h.running.Wait()
}

type watcher struct {
	prefix string
	wake   chan struct{} // holds one token while pending is not empty
	end    chan struct{}
	out    chan fabric.Change

	mu       sync.Mutex
	pending  map[string]fabric.Entry
	revision uint64
}

func (w *watcher) add(change fabric.Change) {
	w.mu.Lock()
	defer w.mu.Unlock()
	hit := false
	for _, e := range change.Entries {
		if strings.HasPrefix(e.Key, w.prefix) {
			w.pending[e.Key] = e
			hit = true
		}
	}
	w.revision = change.Revision
	if !hit {
		return
	}
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take empties pending.
func (w *watcher) take() fabric.Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	change := fabric.Change{Entries: slices.Collect(maps.Values(w.pending)), Revision: w.revision}
	clear(w.pending)
	slices.SortFunc(change.Entries, func(a, b fabric.Entry) int { return cmp.Compare(a.Key, b.Key) })
	return change
}

func (w *watcher) run(ctx context.Context, change fabric.Change) {
	defer close(w.out)
	for {
		// The reader owns what it gets; the table's own bytes stay the table's.
		for i, e := range change.Entries {
			change.Entries[i].Value = bytes.Clone(e.Value)
		}
		select {
		case w.out <- change:
		case <-ctx.Done():
			return
		case <-w.end:
			return
		}
		select {
		case <-w.wake:
			change = w.take()
		case <-ctx.Done():
			return
		case <-w.end:
			return
		}
	}
}
