package keeper

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"orrery/state"
)

// Health says whether an active component serves; see state.Examiner.
func (k *Keeper) Health(ctx context.Context, r state.Ref) error {
	return k.ask(ctx, "examine", r, func(module state.Module, target state.Target) error {
		if doctor, ok := module.(state.Doctor); ok {
			return doctor.Health(ctx, target)
		}
		return fmt.Errorf("%w say how its components are: %s", state.ErrNotAble, target.Component.Module)
	})
}

// Integrity looks for damage; see state.Examiner.
func (k *Keeper) Integrity(ctx context.Context, r state.Ref) error {
	return k.ask(ctx, "check the integrity of", r, func(module state.Module, target state.Target) error {
		if i, ok := module.(state.Integrity); ok {
			return i.Integrity(ctx, target)
		}
		return fmt.Errorf("%w check the integrity of its components: %s", state.ErrNotAble, target.Component.Module)
	})
}

// Shell returns a component's command line; see state.Custodian.
func (k *Keeper) Shell(ctx context.Context, r state.Ref, command string) (c state.Command, err error) {
	err = k.ask(ctx, "open a shell in", r, func(module state.Module, target state.Target) error {
		s, ok := module.(state.Sheller)
		if !ok {
			return fmt.Errorf("%w offer a shell: %s", state.ErrNotAble, target.Component.Module)
		}
		c, err = s.Shell(ctx, target, command)
		return err
	})
	return c, err
}

// ask has an active component's module asked something; verb is for the error.
func (k *Keeper) ask(ctx context.Context, verb string, r state.Ref, do func(state.Module, state.Target) error) error {
	return k.alter(ctx, verb, r, func(rec record) error {
		if rec.Phase != state.PhaseActive {
			return state.ErrInactive
		}
		module, target, err := k.reach(rec)
		if err != nil {
			return err
		}
		return do(module, target)
	})
}

// TestRestore restores a snapshot into a scratch component and compares the two; see state.Examiner. The component
// itself is not touched, and its lock is not held: it may be at work.
func (k *Keeper) TestRestore(ctx context.Context, r state.Ref, id state.SnapshotID) (state.Tested, error) {
	began := time.Now()
	rec, err := k.load(r)
	if err == nil {
		id, err = k.choose(ctx, rec, id)
	}
	tested := state.Tested{Snapshot: id}
	if err == nil {
		err = k.inScratch(ctx, rec, func(scratch record) error {
			if err := k.restoreFrom(ctx, scratch, id); err != nil {
				return err
			}
			tested.How, tested.Items, err = k.compare(ctx, scratch, id)
			return err
		})
	}
	if err == nil {
		tested.Took = time.Since(began)
		err = k.noteTested(ctx, r, id)
	}
	if err != nil {
		return state.Tested{}, fmt.Errorf("test restore of %s: %w", r, err)
	}
	return tested, nil
}

// inScratch runs do with a component beside rec that has no state yet, and removes it.
func (k *Keeper) inScratch(ctx context.Context, rec record, do func(scratch record) error) (err error) {
	name, _, _ := strings.Cut(rec.Component.Name, "@")
	session := "test-" + strings.ToLower(rand.Text()[:12])
	c := k.neighbour(rec.Component, name+"@"+session)
	c.Session = session
	if c, err = k.normal(c); err != nil {
		return err
	}
	unlock, err := k.locks.lock(ctx, c.Ref())
	if err != nil {
		return err
	}
	defer unlock()
	from := rec.ref()
	scratch := record{Component: c, Forking: &from, Scratch: true}
	scratch.enter(state.PhaseStaged)
	if scratch.Resolved, err = k.resolve(ctx, c); err != nil {
		return err
	}
	if err := k.save(scratch); err != nil {
		return err
	}
	return errors.Join(do(scratch), k.abandon(context.WithoutCancel(ctx), scratch))
}

// compare compares a scratch component's state with a snapshot: byte by byte, and where that fails, for a module that
// can tell them apart, item by item.
func (k *Keeper) compare(ctx context.Context, scratch record, id state.SnapshotID) (how string, items int64, err error) {
	want, err := k.config.Store.Get(ctx, id)
	if err != nil {
		return "", 0, err
	}
	err = k.isAt(ctx, scratch, want)
	itemizer, ok := k.modules[scratch.Component.Module].(state.Itemizer)
	if !errors.Is(err, errDiffers) || !ok {
		return "bytes", 0, err
	}
	module, err := k.stateful(scratch.Component)
	if err != nil {
		return "", 0, err
	}
	_, target, err := k.reach(scratch)
	if err != nil {
		return "", 0, err
	}
	reader, err := k.config.Store.Open(ctx, id)
	if err != nil {
		return "", 0, err
	}
	stored, err := countItems(ctx, itemizer, reader)
	if err = errors.Join(err, reader.Close()); err != nil {
		return "", 0, err
	}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := module.Snapshot(ctx, target, w)
		w.CloseWithError(err)
		written <- err
	}()
	restored, err := countItems(ctx, itemizer, r)
	r.CloseWithError(errStoppedReading)
	if failed := <-written; failed != nil && !errors.Is(failed, errStoppedReading) {
		return "", 0, failed
	}
	if err != nil {
		return "", 0, err
	}
	if stored != restored {
		return "", 0, fmt.Errorf("%w: the snapshot has %d items, what was restored %d, and they are not the same",
			errDiffers, stored.count, restored.count)
	}
	return "items", stored.count, nil
}

// tally is a sum over items that does not depend on their order.
type tally struct {
	count int64
	sum   [4]uint64
}

func countItems(ctx context.Context, module state.Itemizer, snapshot io.Reader) (t tally, err error) {
	hash := sha256.New()
	err = module.Items(ctx, snapshot, func(i state.Item) error {
		hash.Reset()
		for _, part := range [][]byte{[]byte(i.Part), i.Key, i.Content} {
			var length [8]byte
			binary.BigEndian.PutUint64(length[:], uint64(len(part)))
			_, _ = hash.Write(length[:]) // never fails
			_, _ = hash.Write(part)
		}
		digest := hash.Sum(nil)
		for n := range t.sum {
			t.sum[n] += binary.BigEndian.Uint64(digest[8*n:])
		}
		t.count++
		return nil
	})
	return t, err
}

// noteTested notes the time in the component's generations of a snapshot.
func (k *Keeper) noteTested(ctx context.Context, r state.Ref, id state.SnapshotID) error {
	curator, ok := k.config.Store.(state.Curator)
	if !ok {
		return nil
	}
	generations, err := k.config.Store.Generations(ctx, r)
	if err != nil {
		return err
	}
	now := time.Now().UTC()
	for _, g := range generations {
		if g.Snapshot != id {
			continue
		}
		// It was read whole for that.
		if _, err := curator.Relabel(ctx, r, g.Number, state.Relabel{Tested: &now, Verified: &now}); err != nil {
			return err
		}
	}
	return nil
}
