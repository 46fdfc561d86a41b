package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"orrery/state"
)

// clientsPoll is how often clients are counted while a restore waits for them.
const clientsPoll = 200 * time.Millisecond

// RestoreAs carries out a restore; see state.Archivist.
func (k *Keeper) RestoreAs(ctx context.Context, q state.RestoreRequest) (state.Status, error) {
	if q.As == "" {
		if err := k.restoreInto(ctx, q); err != nil {
			return state.Status{}, err
		}
		return k.Status(ctx, q.Ref)
	}
	if q.Part != "" {
		return state.Status{}, fmt.Errorf("cannot restore a part of %s as %s: %w: a new component needs all of it (restore all, or the part into the same name)",
			q.Ref, q.As, state.ErrBadProperty)
	}
	into, err := k.beside(q.Ref, q.As, q.Container)
	if err == nil {
		err = k.make(ctx, q.Ref, into, plan{at: q.ID, restore: true})
	}
	if err != nil {
		return state.Status{}, fmt.Errorf("cannot restore %s as %s: %w", q.Ref, q.As, err)
	}
	return k.Status(ctx, into.Ref())
}

// awaitClients waits until nobody uses the component, where the module can tell.
func (k *Keeper) awaitClients(ctx context.Context, rec record, patience time.Duration) error {
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	counter, ok := module.(state.Clients)
	if !ok || rec.Phase != state.PhaseActive {
		return nil
	}
	end := time.NewTimer(patience)
	defer end.Stop()
	tick := time.NewTicker(clientsPoll)
	defer tick.Stop()
	for over := patience <= 0; ; {
		n, err := counter.Clients(ctx, target)
		if err != nil {
			return fmt.Errorf("cannot count its clients: %w", err)
		}
		if n == 0 {
			return nil
		}
		if over {
			return fmt.Errorf("%w by %d connected clients (stop them, wait longer for them, or end them with --force)", state.ErrInUse, n)
		}
		select {
		case <-tick.C:
		case <-end.C:
			over = true
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// replacePart restores one part, and takes a snapshot of what that gives.
func (k *Keeper) replacePart(ctx context.Context, rec record, q state.RestoreRequest) (err error) {
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	parts, ok := module.(state.PartRestorer)
	if !ok {
		return fmt.Errorf("%w restore a part: %s (restore all of it, or into another name with --as)", state.ErrNotAble, rec.Component.Module)
	}
	if rec.Phase != state.PhaseActive {
		return state.ErrInactive
	}
	reader, err := k.config.Store.Open(ctx, q.ID)
	if err != nil {
		return err
	}
	err = errors.Join(parts.RestorePart(ctx, target, reader, q.Part), reader.Close())
	if err != nil {
		return fmt.Errorf("part %q: %w", q.Part, err)
	}
	g, err := k.snapshot(ctx, rec, reasonRestore)
	if err != nil {
		return fmt.Errorf("part %q is restored, and there is no snapshot of the state with it: %w", q.Part, err)
	}
	k.log.InfoContext(ctx, "part restored", "component", rec.ref().String(), "part", q.Part, "snapshot", string(q.ID), "generation", g.Number)
	return nil
}

// Undo restores what the last restore replaced; see state.Archivist.
func (k *Keeper) Undo(ctx context.Context, q state.RestoreRequest) (state.Generation, error) {
	generations, err := k.config.Store.Generations(ctx, q.Ref)
	if err != nil {
		return state.Generation{}, err
	}
	before, err := replaced(generations)
	if err != nil {
		return state.Generation{}, fmt.Errorf("cannot undo the last restore of %s: %w", q.Ref, err)
	}
	return before, k.restoreInto(ctx, state.RestoreRequest{Ref: q.Ref, ID: before.Snapshot, Wait: q.Wait, Force: q.Force})
}

// replaced is the generation that the last restore replaced: a restore keeps the state before as the newest
// generation, so that it is the one before the restore's own.
func replaced(generations []state.Generation) (state.Generation, error) {
	for i, g := range slices.Backward(generations) {
		switch {
		case g.Reason == reasonRestoreUnread:
			return g, fmt.Errorf("the state before generation %d could not be read: %w", g.Number, state.ErrNoSnapshot)
		case g.Reason != reasonRestore:
		case i == 0 || generations[i-1].Number != g.Number-1:
			return g, fmt.Errorf("generation %d, which it replaced, was dropped from the store: %w", g.Number-1, state.ErrNoSnapshot)
		default:
			return generations[i-1], nil
		}
	}
	return state.Generation{}, fmt.Errorf("it was never restored: %w", state.ErrNoSnapshot)
}
