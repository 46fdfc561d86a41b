package shared

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/table/kv"
	"orrery/internal/fault"
)

// The move of the shared keys from the ground to the bucket is steps, each of which is safe to repeat, by any node, at the same time as by others:
//
//	record     who                           what
//	(none)     whoever is told to            creates the record, sealed, if all nodes are able to use the bucket
//	sealed     any                           asks all nodes again; sets the record to copying, or deletes it
//	copying    any                           creates the bucket, copies, compares, opens the bucket; sets the record to moved
//	moved      all                           use the bucket
//
// The record seals the table in the Raft log itself: a write that comes before it is copied, and one that comes after it is refused on every node and made in
// the bucket instead. Copied keys are written on the condition that the bucket is not open, so that nobody who is late writes over what came since.

// ErrNotAble says that something is in the way of the move, and that nothing has happened.
var ErrNotAble = errors.New("it cannot be done now")

// gap is how far revisions of the bucket are above those of the ground that were there when they moved. The ground goes on counting, and for a moment some
// nodes have not heard of the move.
const gap = 1 << 20

// Status is where the shared keys are.
type Status struct {
	Phase string `json:"phase"` // "", sealed, copying, moved
	Keys  int    `json:"keys"`  // that this node knows
	Bytes int    `json:"bytes"` // of these keys and their values
}

// Status says where the shared keys are, as this node knows it.
func (t *Table) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return Status{Phase: string(t.record.Phase), Keys: len(t.entries), Bytes: t.size}
}

// OnGround says whether the shared keys are on the ground, and nobody has begun to move them. As long as it is so nodes that cannot use the bucket may become
// members of the cluster. It asks the ground.
func (t *Table) OnGround(ctx context.Context) (bool, error) {
	r, _, err := t.read(ctx)
	return err == nil && r.Phase == phaseGround, err
}

// Migrate moves the shared keys to the bucket, and returns when they are there and used by this node. What another one began it ends. It tells of each step
// that it has done. Nothing has happened if it returns ErrNotAble; after any other error the move may go on by itself.
func (t *Table) Migrate(ctx context.Context, told func(step string)) error {
	r, _, err := t.read(ctx)
	if err == nil && r.Phase == phaseGround {
		err = t.seal(ctx, told)
	}
	if err == nil {
		err = t.advanceMove(ctx, told)
	}
	if err == nil {
		err = t.used(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot move the shared keys: %w", err)
	}
	return nil
}

// seal begins a move, unless somebody else does.
func (t *Table) seal(ctx context.Context, told func(step string)) error {
	if err := t.able(ctx); err != nil {
		return err
	}
	told("all nodes can follow")
	_, err := t.config.Ground.CompareAndSwap(ctx, kv.SealKey, 0, record{Phase: phaseSealed}.encode())
	if err != nil && !errors.Is(err, fabric.ErrConflict) {
		return err
	}
	told("the shared keys are sealed: calls wait")
	return fault.Point("shared.sealed")
}

func (t *Table) able(ctx context.Context) error {
	if err := t.config.Able(ctx); err != nil {
		return fmt.Errorf("%w: %w", ErrNotAble, err)
	}
	return nil
}

// used waits until this node's calls go to the bucket.
func (t *Table) used(ctx context.Context) error {
	for {
		t.mu.Lock()
		b, news := t.bucket, t.news
		t.mu.Unlock()
		if b != nil {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return ctx.Err()
		case <-t.ended:
			return fabric.ErrClosed
		}
	}
}

// read reads the record.
func (t *Table) read(ctx context.Context) (record, uint64, error) {
	e, err := t.config.Ground.Get(ctx, kv.SealKey)
	if errors.Is(err, fabric.ErrNotFound) {
		return record{}, 0, nil
	}
	if err != nil {
		return record{}, 0, err
	}
	r, err := decodeRecord(e.Value)
	return r, e.Revision, err
}

// advanceMove takes steps until the keys are in the bucket.
func (t *Table) advanceMove(ctx context.Context, told func(step string)) error {
	for {
		r, revision, err := t.read(ctx)
		if err != nil {
			return err
		}
		switch r.Phase {
		case phaseMoved:
			return nil
		case phaseGround:
			return fmt.Errorf("%w: it was given up", ErrNotAble)
		case phaseSealed:
			if err = errors.Join(t.confirm(ctx, revision), fault.Point("shared.confirmed")); err == nil {
				told("all nodes can follow still")
			}
		case phaseCopying:
			var keys int
			if keys, err = t.fillBucket(ctx); err == nil {
				told(fmt.Sprintf("%d keys are in the bucket", keys))
				err = t.set(ctx, revision, record{Phase: phaseMoved, Offset: revision + gap})
			}
			if err == nil {
				told("all nodes use the bucket")
			}
		}
		if err != nil {
			return err
		}
	}
}

// set changes the record; that somebody else has done so is no error.
func (t *Table) set(ctx context.Context, revision uint64, r record) error {
	_, err := t.config.Ground.CompareAndSwap(ctx, kv.SealKey, revision, r.encode())
	if errors.Is(err, fabric.ErrConflict) {
		return nil
	}
	return err
}

// confirm asks the nodes again: some may have come between the first question and the seal. From the seal on none comes that is not able.
func (t *Table) confirm(ctx context.Context, revision uint64) error {
	notAble := t.able(ctx)
	if notAble == nil {
		return t.set(ctx, revision, record{Phase: phaseCopying})
	}
	err := t.config.Ground.Delete(ctx, kv.SealKey, revision)
	if errors.Is(err, fabric.ErrConflict) {
		return nil // somebody else knows better
	}
	return errors.Join(notAble, err)
}

// fillBucket copies all keys, opens the bucket, and says how many there are.
func (t *Table) fillBucket(ctx context.Context) (keys int, err error) {
	if err := t.config.Create(ctx); err != nil && !errors.Is(err, fabric.ErrConflict) {
		return 0, fmt.Errorf("cannot create bucket %s: %w", Bucket, err)
	}
	c, err := t.open(ctx)
	if err != nil {
		return 0, err
	}
	b := &bucket{keys: c.Bucket(Bucket)}
	ground, err := t.sealed(ctx)
	if err != nil {
		return 0, err
	}
	open, err := b.compare(ctx, ground, false)
	if err != nil || open {
		return len(ground), err
	}
	if open, err = b.copy(ctx, ground); err != nil || open {
		return len(ground), err
	}
	if open, err = b.compare(ctx, ground, true); err != nil || open {
		return len(ground), err
	}
	if err := fault.Point("shared.copied"); err != nil {
		return 0, err
	}
	_, err = b.commit(ctx, b.keys.Txn().If([]byte(openKey), 0).Put([]byte(openKey), nil))
	if errors.Is(err, fabric.ErrConflict) {
		err = nil
	}
	return len(ground), errors.Join(err, fault.Point("shared.opened"))
}

// sealed returns the keys that are on the ground. It knows the record, so this node does, and they do not change any more.
func (t *Table) sealed(ctx context.Context) (map[string]fabric.Entry, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changes, err := t.config.Ground.Watch(ctx, "")
	if err != nil {
		return nil, err
	}
	all, ok := <-changes
	if !ok {
		return nil, errors.Join(fabric.ErrClosed, ctx.Err())
	}
	keys := map[string]fabric.Entry{}
	for _, e := range withoutOwn(all.Entries) {
		keys[e.Key] = e
	}
	return keys, nil
}

// copy writes the keys, unless the bucket is open.
func (b *bucket) copy(ctx context.Context, ground map[string]fabric.Entry) (open bool, err error) {
	txn, count, size := b.keys.Txn(), 0, 0
	flush := func() error {
		if count == 0 {
			return nil
		}
		_, err := b.commit(ctx, txn.If([]byte(openKey), 0))
		err = errors.Join(err, fault.Point("shared.copy"))
		txn, count, size = b.keys.Txn(), 0, 0
		return err
	}
	for key, e := range ground {
		txn.Put([]byte(key), encodeValue(e.Revision, e.Value))
		count++
		if size += len(key) + len(e.Value); count == chain.MaxWrites || size >= chain.MaxCommand/4 {
			if err = flush(); err != nil {
				break
			}
		}
	}
	if err == nil {
		err = flush()
	}
	if errors.Is(err, fabric.ErrConflict) {
		return true, nil
	}
	return false, err
}

// compare says whether the bucket is open. If it is not, it has no keys but those of the ground, and all of them if it is to be whole.
func (b *bucket) compare(ctx context.Context, ground map[string]fabric.Entry, whole bool) (open bool, err error) {
	seen := 0
	rest := chain.Range{}
	for first := true; first || rest.Start != nil; first = false {
		items, next, _, err := b.page(ctx, rest, 0)
		if err != nil {
			return false, err
		}
		for _, item := range items {
			if string(item.Key) == openKey {
				return true, nil
			}
			e, ok := ground[string(item.Key)]
			if !ok || strings.HasPrefix(e.Key, kv.Own) || !bytes.Equal(item.Value.Value, encodeValue(e.Revision, e.Value)) {
				return b.isOpen(ctx, fmt.Errorf("bucket %s has a key %q that is not of the table (copy what you need of it elsewhere, and delete it there)", Bucket, item.Key))
			}
			seen++
		}
		rest.Start = next
	}
	if whole && seen != len(ground) {
		return b.isOpen(ctx, fmt.Errorf("bucket %s has %d keys of %d that were copied", Bucket, seen, len(ground)))
	}
	return false, nil
}

// isOpen says whether the bucket is open by now, and if not so what is wrong with it.
func (b *bucket) isOpen(ctx context.Context, wrong error) (bool, error) {
	items, _, _, err := b.page(ctx, oneKey(openKey), 1)
	if err == nil && len(items) == 1 {
		return true, nil
	}
	return false, errors.Join(wrong, err)
}

const (
	// look is how often a node looks whether a move is to be finished.
	look = 100 * time.Millisecond
	// forOthers is how long nodes leave that to the one that leads.
	forOthers = 10 * time.Second
	// stepTime is how long it tries.
	stepTime = 30 * time.Second
)

// finish ends moves whose beginner is gone.
func (t *Table) finish(ctx context.Context) {
	var since time.Time
	for {
		t.mu.Lock()
		phase, news := t.record.Phase, t.news
		t.mu.Unlock()
		var soon <-chan time.Time
		switch phase {
		case phaseMoved:
			return
		case phaseGround:
			since = time.Time{}
		case phaseSealed, phaseCopying:
			if since.IsZero() {
				since = time.Now()
			}
			if overdue := time.Since(since) > forOthers; overdue || t.config.Leads() {
				t.try(ctx, overdue)
			}
			soon = time.After(look)
		}
		select {
		case <-news:
		case <-soon:
		case <-ctx.Done():
			return
		}
	}
}

// try goes on with a move for a while.
func (t *Table) try(ctx context.Context, overdue bool) {
	attempt, cancel := context.WithTimeout(ctx, stepTime)
	defer cancel()
	err := t.advanceMove(attempt, func(string) {})
	if err == nil || ctx.Err() != nil {
		return
	}
	level := slog.LevelDebug // a cluster that begins has no keeper of its chains for a moment
	if overdue {
		level = slog.LevelWarn
	}
	t.config.Logger.Log(ctx, level, "shared keys cannot be moved to the bucket yet", "error", err)
}
