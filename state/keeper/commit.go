package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"orrery/state"
)

// Commit makes the stage the component's state; see state.Keeper.
func (k *Keeper) Commit(ctx context.Context, r state.Ref, id state.SnapshotID) error {
	unlock, err := k.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := k.load(r)
	if err == nil {
		err = k.commit(ctx, rec, id)
	}
	if err != nil {
		return fmt.Errorf("cannot commit %s to %s: %w", id, r, err)
	}
	return nil
}

func (k *Keeper) commit(ctx context.Context, rec record, id state.SnapshotID) error {
	if rec.Stage == nil && rec.Committed == id {
		return nil // repeated
	}
	if rec.Stage == nil || rec.Stage.ID != id || rec.Stage.Next != "" {
		return fmt.Errorf("its stage is not at that snapshot: %w (stage it again)", state.ErrNotFound)
	}
	if rec.Phase == state.PhaseActive {
		return state.ErrActive
	}
	again := rec.Committing == id
	rec.Committing = id
	if err := k.save(rec); err != nil {
		return err
	}
	if err := k.commitStage(ctx, rec, again); err != nil {
		return err
	}
	rec.Stage, rec.Committing, rec.Committed = nil, "", id
	rec.enter(state.PhaseInactive)
	if err := k.save(rec); err != nil {
		return err
	}
	k.log.InfoContext(ctx, "stage committed", "component", rec.ref().String(), "snapshot", string(id))
	return nil
}

// commitStage has the module do it. With again, an earlier attempt may have come to its end unnoticed.
func (k *Keeper) commitStage(ctx context.Context, rec record, again bool) error {
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	stager, ok := module.(state.Stager)
	if !ok {
		return k.restoreFrom(ctx, rec, rec.Stage.ID)
	}
	stage, err := stager.NewStage(ctx, target)
	if err != nil {
		return err
	}
	want, err := k.config.Store.Get(ctx, rec.Stage.ID)
	if err != nil {
		return errors.Join(err, stage.Close())
	}
	size, err := stage.Size()
	if err != nil {
		return errors.Join(err, stage.Close())
	}
	switch {
	case size == want.Size:
		if err := stage.Commit(ctx); err != nil {
			return errors.Join(err, stage.Close())
		}
		k.closeLater(rec.ref(), stage)
		return nil
	case again && size == 0:
		if err := stage.Discard(); err != nil {
			return err
		}
		return k.isAt(ctx, rec, want)
	}
	return errors.Join(fmt.Errorf("the stage has %d bytes, the snapshot %d: %w (stage it again)", size, want.Size, state.ErrCorrupt), stage.Close())
}

// freeAfter is how long after a commit the state before is freed: requests wait for the component until then.
const freeAfter = 2 * time.Second

// closeLater closes a stage that was committed. That frees the state before, which takes the longer the larger it is.
func (k *Keeper) closeLater(r state.Ref, stage state.Stage) {
	k.expiring.Go(func() {
		timer := time.NewTimer(freeAfter)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-k.done:
		}
		if err := stage.Close(); err != nil {
			k.log.Warn("cannot free the state before a commit", "component", r.String(), "error", err)
		}
	})
}

// isAt says whether the component's state is a snapshot's.
func (k *Keeper) isAt(ctx context.Context, rec record, want state.Snapshot) (err error) {
	module, err := k.stateful(rec.Component)
	if err != nil {
		return err
	}
	_, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	reader, err := k.config.Store.Open(ctx, want.ID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	c := &comparer{reader: reader, left: want.Size}
	if err := module.Snapshot(ctx, target, c); err != nil {
		return err
	}
	return c.end()
}

// errDiffers says that two states that should be the same are not.
var errDiffers = fmt.Errorf("the state is not the snapshot's: %w", state.ErrCorrupt)

// comparer is written to, and fails unless that is what reader yields.
type comparer struct {
	reader io.ReaderAt
	at     int64
	left   int64
	buffer []byte
}

func (c *comparer) Write(b []byte) (int, error) {
	if int64(len(b)) > c.left {
		return 0, errDiffers
	}
	if len(c.buffer) < len(b) {
		c.buffer = make([]byte, len(b))
	}
	if err := readFull(c.reader, c.buffer[:len(b)], c.at); err != nil {
		return 0, err
	}
	if string(c.buffer[:len(b)]) != string(b) {
		return 0, errDiffers
	}
	c.at, c.left = c.at+int64(len(b)), c.left-int64(len(b))
	return len(b), nil
}

// end is an error if something is left of what reader yields.
func (c *comparer) end() error {
	if c.left != 0 {
		return errDiffers
	}
	return nil
}
