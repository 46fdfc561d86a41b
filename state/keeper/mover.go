package keeper

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"time"

	"orrery/state"
)

// copyBuffer is how much of a snapshot is staged at once, in bytes.
const copyBuffer = 1 << 20

// tracked is a component whose changes are followed. All but the timer belongs to who holds the component's lock.
type tracked struct {
	tracker state.Tracker
	since   state.SnapshotID // what the tracker's last image became; empty if that is not known
	timer   *time.Timer
	uses    int // snapshots and repeated Tracks, by which the timer knows that it was overtaken
}

func (k *Keeper) tracker(r state.Ref) *tracked {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.tracked[r]
}

// Track begins to follow a component's changes; see state.Keeper.
func (k *Keeper) Track(ctx context.Context, r state.Ref) error {
	unlock, err := k.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := k.load(r)
	if err != nil {
		return fmt.Errorf("cannot track %s: %w", r, err)
	}
	if t := k.tracker(r); t != nil {
		k.prolong(r, t)
		return nil
	}
	module, target, err := k.reach(rec)
	if err != nil {
		return fmt.Errorf("cannot track %s: %w", r, err)
	}
	trackable, ok := module.(state.Trackable)
	if !ok || rec.Phase == state.PhaseStaged {
		return nil
	}
	tracker, err := trackable.Track(ctx, target)
	if err != nil {
		return fmt.Errorf("cannot track %s: %w", r, err)
	}
	t := &tracked{tracker: tracker}
	k.mu.Lock()
	k.tracked[r] = t
	k.mu.Unlock()
	k.prolong(r, t)
	return nil
}

// prolong gives a tracker another minute.
func (k *Keeper) prolong(r state.Ref, t *tracked) {
	if t.timer != nil && t.timer.Stop() {
		k.expiring.Done()
	}
	t.uses++
	uses := t.uses
	k.expiring.Add(1)
	t.timer = time.AfterFunc(trackLimit, func() {
		defer k.expiring.Done()
		unlock, err := k.locks.lockUntil(k.done, r)
		if err != nil {
			return // the keeper is being closed and ends all trackers
		}
		defer unlock()
		if k.tracker(r) != t || t.uses != uses {
			return
		}
		err = k.untrack(r)
		k.log.Info("tracking ended for want of snapshots", "component", r.String(), "error", err)
	})
}

// Untrack ends the following of a component's changes.
func (k *Keeper) Untrack(ctx context.Context, r state.Ref) error {
	unlock, err := k.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	return k.untrack(r)
}

func (k *Keeper) untrack(r state.Ref) error {
	k.mu.Lock()
	t := k.tracked[r]
	delete(k.tracked, r)
	k.mu.Unlock()
	if t == nil {
		return nil
	}
	if t.timer.Stop() {
		k.expiring.Done()
	}
	if err := t.tracker.Close(); err != nil {
		return fmt.Errorf("cannot end the tracking of %s: %w", r, err)
	}
	return nil
}

// saveTracked takes a snapshot from the tracker's next image, of which the store reads what changed.
func (k *Keeper) saveTracked(ctx context.Context, rec record, reason string, t *tracked) (g state.Generation, err error) {
	since := t.since
	t.since = "" // until this image is in the store
	k.prolong(rec.ref(), t)
	image, err := t.tracker.Image(ctx)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	g, err = k.config.Store.Save(ctx, rec.ref(), rec.Component.Module, reason, state.Source{Image: image, Since: since})
	if err == nil {
		t.since = g.Snapshot
	}
	return g, err
}

// Stage brings the component's stage to a snapshot that the store has; see state.Keeper.
func (k *Keeper) Stage(ctx context.Context, c state.Component, id state.SnapshotID) error {
	c, err := k.normal(c)
	if err != nil {
		return err
	}
	unlock, err := k.locks.lock(ctx, c.Ref())
	if err != nil {
		return err
	}
	defer unlock()
	if err := k.stage(ctx, c, id); err != nil {
		return fmt.Errorf("cannot stage %s: %w", c.Ref(), err)
	}
	return nil
}

func (k *Keeper) stage(ctx context.Context, c state.Component, id state.SnapshotID) error {
	module, err := k.stateful(c)
	if err != nil {
		return err
	}
	rec, err := k.load(c.Ref())
	switch {
	case errors.Is(err, state.ErrNotFound):
		rec = record{Component: c}
		rec.enter(state.PhaseStaged)
	case err != nil:
		return err
	case rec.Phase == state.PhaseActive:
		return fmt.Errorf("%w here", state.ErrActive)
	case rec.Component.Module != c.Module:
		return fmt.Errorf("%w: there is a %s of that name", state.ErrInUse, rec.Component.Module)
	}
	rec.Component, rec.Committing = c, ""
	if rec.Resolved, err = k.resolveKnown(ctx, c); err != nil {
		return err
	}
	if rec.Stage == nil {
		rec.Stage = &staged{}
	}
	if rec.Stage.ID == id && rec.Stage.Next == "" {
		return nil
	}
	s, err := k.config.Store.Get(ctx, id)
	if err != nil {
		return err
	}
	if s.Module != c.Module {
		return fmt.Errorf("snapshot %s is of a %s, not of a %s", id, s.Module, c.Module)
	}
	stager, ok := module.(state.Stager)
	if !ok {
		if err := k.config.Store.Verify(ctx, id); err != nil {
			return err
		}
		rec.Stage = &staged{ID: id}
		return k.save(rec)
	}
	if rec.Stage.Next != "" && rec.Stage.Next != id {
		rec.Stage.ID = "" // it is between two snapshots, and this is a third
	}
	rec.Stage.Next = id
	if err := k.save(rec); err != nil {
		return err
	}
	if err := k.fill(ctx, stager, rec); err != nil {
		return err
	}
	rec.Stage = &staged{ID: id}
	return k.save(rec)
}

// fill writes what differs between what the stage holds and what it is to hold, and reads it again.
func (k *Keeper) fill(ctx context.Context, module state.Stager, rec record) (err error) {
	_, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	reader, err := k.config.Store.Open(ctx, rec.Stage.Next)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	stage, err := module.NewStage(ctx, target)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	ranges, err := k.missing(ctx, rec, reader, stage)
	if err != nil {
		return err
	}
	began, total := time.Now(), int64(0)
	if err := stage.Truncate(reader.Size()); err != nil {
		return err
	}
	sums, err := writeRanges(ctx, stage, reader, ranges)
	if err != nil {
		return err
	}
	if err := stage.Sync(); err != nil {
		return err
	}
	if err := checkRanges(ctx, stage, ranges, sums); err != nil {
		return err
	}
	for _, r := range ranges {
		total += r.Length
	}
	k.log.InfoContext(ctx, "staged", "component", rec.ref().String(), "snapshot", string(rec.Stage.Next),
		"written", total, "bytes", reader.Size(), "took", time.Since(began))
	return nil
}

// missing returns the ranges of the reader's snapshot that the stage may lack.
func (k *Keeper) missing(ctx context.Context, rec record, reader state.Reader, stage state.Stage) ([]state.Range, error) {
	whole := []state.Range{{Offset: 0, Length: reader.Size()}}
	if rec.Stage.ID == "" {
		return whole, stage.Truncate(0)
	}
	size, err := stage.Size()
	if err != nil {
		return nil, err
	}
	if before, err := k.config.Store.Get(ctx, rec.Stage.ID); err != nil || size != before.Size && size != reader.Size() {
		// It was pruned meanwhile, or the stage is not what it was left as.
		return whole, stage.Truncate(0)
	}
	return reader.Differs(ctx, rec.Stage.ID)
}

var seed = maphash.MakeSeed()

// eachPart calls do for the parts of ranges, each at most copyBuffer long.
func eachPart(ctx context.Context, ranges []state.Range, do func(at int64, part []byte) error) error {
	buffer := make([]byte, copyBuffer)
	for _, r := range ranges {
		for end := r.Offset + r.Length; r.Offset < end; r.Offset += copyBuffer {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := do(r.Offset, buffer[:min(copyBuffer, end-r.Offset)]); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeRanges copies ranges into the stage and returns a hash of each part.
func writeRanges(ctx context.Context, stage state.Stage, reader state.Reader, ranges []state.Range) (sums []uint64, err error) {
	err = eachPart(ctx, ranges, func(at int64, part []byte) error {
		if err := readFull(reader, part, at); err != nil {
			return err
		}
		sums = append(sums, maphash.Bytes(seed, part))
		_, err := stage.WriteAt(part, at)
		return err
	})
	return sums, err
}

// checkRanges reads the ranges again.
func checkRanges(ctx context.Context, stage state.Stage, ranges []state.Range, sums []uint64) error {
	return eachPart(ctx, ranges, func(at int64, part []byte) error {
		if err := readFull(stage, part, at); err != nil {
			return err
		}
		if maphash.Bytes(seed, part) != sums[0] {
			return fmt.Errorf("the stage does not hold at %d what was written there: %w", at, state.ErrCorrupt)
		}
		sums = sums[1:]
		return nil
	})
}

// readFull fills part, also from the end of r.
func readFull(r io.ReaderAt, part []byte, at int64) error {
	n, err := r.ReadAt(part, at)
	if n == len(part) {
		return nil
	}
	return fmt.Errorf("cannot read %d bytes at %d: %w", len(part), at, err)
}

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
		return errors.Join(stage.Commit(ctx), stage.Close())
	case again && size == 0:
		if err := stage.Discard(); err != nil {
			return err
		}
		return k.isAt(ctx, rec, want)
	}
	return errors.Join(fmt.Errorf("the stage has %d bytes, the snapshot %d: %w (stage it again)", size, want.Size, state.ErrCorrupt), stage.Close())
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
	return module.Snapshot(ctx, target, &comparer{reader: reader, left: want.Size})
}

// comparer is written to, and fails unless that is what reader yields.
type comparer struct {
	reader io.ReaderAt
	at     int64
	left   int64
	buffer []byte
}

func (c *comparer) Write(b []byte) (int, error) {
	if int64(len(b)) > c.left {
		return 0, fmt.Errorf("the state is not the snapshot's: %w", state.ErrCorrupt)
	}
	if len(c.buffer) < len(b) {
		c.buffer = make([]byte, len(b))
	}
	if err := readFull(c.reader, c.buffer[:len(b)], c.at); err != nil {
		return 0, err
	}
	if string(c.buffer[:len(b)]) != string(b) {
		return 0, fmt.Errorf("the state is not the snapshot's: %w", state.ErrCorrupt)
	}
	c.at, c.left = c.at+int64(len(b)), c.left-int64(len(b))
	return len(b), nil
}

// Unstage discards a stage; nothing happens if there is none.
func (k *Keeper) Unstage(ctx context.Context, r state.Ref) error {
	unlock, err := k.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := k.load(r)
	if errors.Is(err, state.ErrNotFound) || err == nil && rec.Stage == nil {
		return nil
	}
	if err != nil {
		return err
	}
	module, target, err := k.reach(rec)
	if err == nil {
		err = k.discard(ctx, module, target)
	}
	if err != nil {
		return fmt.Errorf("cannot discard the stage of %s: %w", r, err)
	}
	if rec.Phase == state.PhaseStaged {
		return k.forget(r)
	}
	rec.Stage, rec.Committing = nil, ""
	return k.save(rec)
}

// discard removes a module's stage, if it makes such.
func (k *Keeper) discard(ctx context.Context, module state.Module, target state.Target) error {
	stager, ok := module.(state.Stager)
	if !ok {
		return nil
	}
	stage, err := stager.NewStage(ctx, target)
	if err != nil {
		return err
	}
	return stage.Discard()
}
