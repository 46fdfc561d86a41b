package shared

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"orrery/fabric"
	"orrery/fabric/table/kv"
)

// Get returns a key's entry.
func (t *Table) Get(ctx context.Context, key string) (fabric.Entry, error) {
	var e fabric.Entry
	err := t.do(ctx, "read", key, func() (err error) {
		e, err = t.config.Ground.Get(ctx, key)
		return err
	}, func(b *bucket) error {
		entries, at, err := b.list(ctx, oneKey(key), 1)
		switch {
		case err != nil:
			return err
		case len(entries) == 0:
			t.shown(ctx, at)
			return fabric.ErrNotFound
		}
		e = entries[0]
		t.shown(ctx, at)
		return nil
	})
	return e, err
}

// List returns the entries under a prefix. Keys that begin with kv.Own are listed only by a prefix that does so too.
func (t *Table) List(ctx context.Context, prefix string) ([]fabric.Entry, error) {
	var entries []fabric.Entry
	err := t.do(ctx, "list", prefix, func() (err error) {
		entries, err = t.config.Ground.List(ctx, prefix)
		if !strings.HasPrefix(prefix, kv.Own) {
			entries = withoutOwn(entries)
		}
		return err
	}, func(b *bucket) (err error) {
		var at uint64
		if entries, at, err = b.list(ctx, withPrefix(prefix), 0); !errors.Is(err, errPages) {
			t.shown(ctx, at)
			return err
		}
		// More than an answer holds, so not all of it is as of one moment. All of it is in what this node knows once that is so far.
		if err := t.await(ctx, func() bool { return t.synced && t.revision >= at }); err != nil {
			return err
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		entries = t.list(prefix)
		for i := range entries {
			entries[i].Value = bytes.Clone(entries[i].Value)
		}
		return nil
	})
	return entries, err
}

func withoutOwn(entries []fabric.Entry) []fabric.Entry {
	var all []fabric.Entry
	for _, e := range entries {
		if !strings.HasPrefix(e.Key, kv.Own) {
			all = append(all, e)
		}
	}
	return all
}

// Put writes a value.
func (t *Table) Put(ctx context.Context, key string, value []byte) (uint64, error) {
	return t.write(ctx, key, value, func() (uint64, error) {
		return t.config.Ground.Put(ctx, key, value)
	}, func(b *bucket) (uint64, error) {
		return b.put(ctx, key, value)
	})
}

// CompareAndSwap writes a value if the key has not changed.
func (t *Table) CompareAndSwap(ctx context.Context, key string, revision uint64, value []byte) (uint64, error) {
	return t.write(ctx, key, value, func() (uint64, error) {
		return t.config.Ground.CompareAndSwap(ctx, key, revision, value)
	}, func(b *bucket) (uint64, error) {
		return b.swap(ctx, key, revision, value)
	})
}

// write checks a write and does it.
func (t *Table) write(ctx context.Context, key string, value []byte, ground func() (uint64, error), kept func(*bucket) (uint64, error)) (uint64, error) {
	if err := kv.Check(key, value); err != nil {
		return 0, err
	}
	var revision uint64
	err := t.do(ctx, "write", key, func() (err error) {
		revision, err = ground()
		return err
	}, func(b *bucket) (err error) {
		if err := t.roomFor(key, value); err != nil {
			return err
		}
		if revision, err = kept(b); err == nil {
			t.shown(ctx, revision)
		}
		return err
	})
	return revision, err
}

// roomFor says whether the table may grow. Writes that come at the same time can make it a little larger than that.
func (t *Table) roomFor(key string, value []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	old, ok := t.entries[key]
	grow := len(value) - len(old.Value)
	if !ok {
		grow += len(key)
	}
	if grow > 0 && t.size+grow > kv.MaxSize {
		return fmt.Errorf("%w: keys and values are limited to %d bytes together", kv.ErrFull, kv.MaxSize)
	}
	return nil
}

// Delete removes a key.
func (t *Table) Delete(ctx context.Context, key string, revision uint64) error {
	return t.do(ctx, "delete", key, func() error {
		return t.config.Ground.Delete(ctx, key, revision)
	}, func(b *bucket) error {
		at, err := b.remove(ctx, key, revision)
		if err == nil {
			t.shown(ctx, at)
		}
		return err
	})
}

// Watch delivers the prefix as this node knows it, and then its changes. Of keys that begin with kv.Own it tells only if the prefix does so too.
func (t *Table) Watch(ctx context.Context, prefix string) (<-chan fabric.Change, error) {
	if strings.HasPrefix(prefix, kv.Own) {
		return t.config.Ground.Watch(ctx, prefix)
	}
	err := t.caughtUp(ctx)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		err = fabric.ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("cannot watch %s in the table: %w", prefix, err)
	}
	return t.hub.Watch(ctx, prefix, fabric.Change{Entries: t.list(prefix), Revision: t.revision})
}

// caughtUp waits, while the keys are on the ground, until this table knows what this node's ground knows, which takes no time.
func (t *Table) caughtUp(ctx context.Context) error {
	if t.known().Phase == phaseMoved {
		return ctx.Err()
	}
	brief, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := t.config.Ground.Watch(brief, kv.SealKey)
	if err != nil {
		return err
	}
	now, ok := <-changes
	if !ok {
		return errors.Join(ctx.Err(), fabric.ErrClosed)
	}
	return t.await(ctx, func() bool { return t.record.Phase == phaseMoved || t.revision >= now.Revision })
}

// do does something on the ground or in the bucket, wherever the key is; it waits while nobody can tell.
func (t *Table) do(ctx context.Context, what, key string, ground func() error, kept func(*bucket) error) error {
	if strings.HasPrefix(key, kv.Own) {
		return ground()
	}
	for {
		t.mu.Lock()
		closed, r, b, news := t.closed, t.record, t.bucket, t.news
		t.mu.Unlock()
		err := ctx.Err()
		switch {
		case closed:
			err = fabric.ErrClosed
		case err != nil:
		case r.Phase == phaseGround:
			if err = ground(); !errors.Is(err, kv.ErrSealed) {
				return err
			}
			err = nil // they were sealed a moment ago: the record is on its way
		case b != nil:
			return t.failed(ctx, what, key, kept(b))
		}
		if err != nil {
			return t.failed(ctx, what, key, err)
		}
		select {
		case <-news:
		case <-ctx.Done():
		case <-t.ended:
		}
	}
}

// failed says what could not be done and, when the time was over, why that can be.
func (t *Table) failed(ctx context.Context, what, key string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && !errors.Is(err, fabric.ErrConflict) && !errors.Is(err, fabric.ErrNotFound):
		err = fmt.Errorf("%w: no answer in time from where shared keys are kept (see orrery kv chains): %w", fabric.ErrNoQuorum, err)
	}
	return fmt.Errorf("cannot %s %s in the table: %w", what, key, err)
}
