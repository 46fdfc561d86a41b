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

const (
	// copyBuffer is how much of a snapshot is staged at once, in bytes.
	copyBuffer = 1 << 20
	// syncEvery is how much is written before it is made durable, in bytes. Programs that sync their own files
	// meanwhile wait for the disk that long, and not for the whole stage.
	syncEvery = 16 << 20
)

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
	case rec.replica():
		return rec.changeable()
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
	if err := k.fits(ctx, s, c); err != nil {
		return err
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
	unsynced := 0
	err = eachPart(ctx, ranges, func(at int64, part []byte) error {
		if err := readFull(reader, part, at); err != nil {
			return err
		}
		sums = append(sums, maphash.Bytes(seed, part))
		if _, err := stage.WriteAt(part, at); err != nil {
			return err
		}
		if unsynced += len(part); unsynced < syncEvery {
			return nil
		}
		unsynced = 0
		return stage.Sync()
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
