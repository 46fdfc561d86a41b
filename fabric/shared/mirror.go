package shared

import (
	"context"
	"errors"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/client"
	"orrery/fabric/table/kv"
	"orrery/internal/clock"
)

// again is how long to wait before something that failed is tried again.
const again = 200 * time.Millisecond

// watchBucket follows the bucket once the keys are there, until ctx ends.
func (t *Table) watchBucket(ctx context.Context, moved <-chan struct{}) {
	select {
	case <-moved:
	case <-ctx.Done():
		return
	}
	for {
		c, err := t.open(ctx)
		if err == nil {
			t.use(&bucket{c.Bucket(Bucket), t.known().Offset})
			break
		}
		t.config.Logger.DebugContext(ctx, "no client of the shared keys yet", "error", err)
		if !clock.Wait(ctx, again/10) { // a node that starts is asked for services until there is one
			return
		}
	}
	for {
		if err := t.follow(ctx); err != nil && ctx.Err() == nil {
			t.config.Logger.DebugContext(ctx, "shared keys are not followed at the moment", "error", err)
		}
		if !clock.Wait(ctx, again) {
			return
		}
	}
}

// open returns the client of the bucket, which is opened once.
func (t *Table) open(ctx context.Context) (*client.Client, error) {
	t.mu.Lock()
	c := t.client
	t.mu.Unlock()
	if c != nil {
		return c, nil
	}
	c, err := t.config.Open(ctx)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	other, closed := t.client, t.closed
	if other == nil && !closed {
		t.client = c
	}
	t.mu.Unlock()
	switch {
	case closed:
		return nil, errors.Join(fabric.ErrClosed, c.Close())
	case other != nil:
		return other, c.Close()
	}
	return c, nil
}

// use lets calls go to the bucket.
func (t *Table) use(b *bucket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bucket = b
	close(t.news)
	t.news = make(chan struct{})
}

// follow brings what this node knows up to date, and keeps it so until the watch fails.
func (t *Table) follow(ctx context.Context) error {
	t.mu.Lock()
	b, synced, from := t.bucket, t.synced, t.revision
	t.mu.Unlock()
	if synced {
		from -= b.offset
	}
	var all filling
	if !synced {
		var err error
		if all, from, err = b.fill(ctx); err != nil {
			return err
		}
		if all.whole <= from {
			t.replace(ctx, b, all, from)
			synced = true
		}
	}
	for c, err := range b.keys.Watch(ctx, chain.Range{}, client.Position{{Sequence: from}}) {
		switch {
		case errors.Is(err, chain.ErrCompacted):
			t.mu.Lock()
			t.synced = false // so all of it is read again
			t.mu.Unlock()
			return err
		case err != nil:
			return err
		case synced:
			err = t.advance(ctx, b, c)
		default:
			if err = all.add(b, c.Items); err == nil && c.Mark.Sequence >= all.whole {
				t.replace(ctx, b, all, c.Mark.Sequence)
				synced = true
			}
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}

// filling is the bucket while it is read page by page. Pages are of different sequences; with the changes that followed the first one it is what the bucket had
// at a sequence, once that is not less than whole.
type filling struct {
	entries map[string]fabric.Entry
	whole   uint64
}

// fill reads all keys, and returns the sequence from which on changes are needed.
func (b *bucket) fill(ctx context.Context) (all filling, from uint64, err error) {
	all.entries = map[string]fabric.Entry{}
	for rest, first := (chain.Range{}), true; first || rest.Start != nil; first = false {
		items, next, at, err := b.page(ctx, rest, 0)
		if err != nil {
			return all, 0, err
		}
		if first || at < from {
			from = at
		}
		all.whole = max(all.whole, at)
		if err := all.add(b, items); err != nil {
			return all, 0, err
		}
		rest.Start = next
	}
	return all, from, nil
}

// add takes keys over, in the order in which they were written.
func (f *filling) add(b *bucket, items []chain.Item) error {
	for _, item := range items {
		if item.Missing {
			delete(f.entries, string(item.Key))
			continue
		}
		entries, err := b.entries([]chain.Item{item})
		if err != nil {
			return err
		}
		for _, e := range entries {
			f.entries[e.Key] = e
		}
	}
	return nil
}

// replace makes what the bucket had at a sequence what this node knows.
func (t *Table) replace(ctx context.Context, b *bucket, all filling, sequence uint64) {
	revision := b.revision(sequence)
	var changed []fabric.Entry
	t.mu.Lock()
	for key := range t.entries {
		if _, ok := all.entries[key]; !ok {
			changed = append(changed, fabric.Entry{Key: key, Revision: revision})
		}
	}
	for key, e := range all.entries {
		if t.entries[key].Revision != e.Revision {
			changed = append(changed, e)
		}
	}
	t.synced = true
	t.publish(changed, revision)
	t.mu.Unlock()
	if err := t.cache.reset(t.everything()); err != nil {
		t.config.Logger.WarnContext(ctx, "what this node knows of the shared keys is not kept for its next start", "error", err)
	}
}

// advance takes a change over. Parts of it may have come before.
func (t *Table) advance(ctx context.Context, b *bucket, c client.Change) error {
	change := fabric.Change{Revision: b.revision(c.Mark.Sequence)}
	t.mu.Lock()
	before := t.revision
	t.mu.Unlock()
	for _, item := range c.Items {
		version := item.Value.Version
		if b.revision(version) <= before || strings.HasPrefix(string(item.Key), kv.Own) {
			continue
		}
		e := fabric.Entry{Key: string(item.Key), Revision: b.revision(version)}
		if !item.Missing {
			var err error
			if e, err = b.entry(item.Key, item.Value); err != nil {
				return err
			}
		}
		change.Entries = append(change.Entries, e)
	}
	if change.Revision <= before {
		return nil
	}
	t.mu.Lock()
	t.publish(change.Entries, change.Revision)
	t.mu.Unlock()
	if len(change.Entries) > 0 {
		t.keep(ctx, change)
	}
	return nil
}
