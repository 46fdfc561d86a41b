package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orrery/state"
)

// DeleteFork deletes a fork; see state.Brancher. Nothing happens if there is none of that name.
func (k *Keeper) DeleteFork(ctx context.Context, r state.Ref) error {
	unlock, err := k.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := k.load(r)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = k.deletable(ctx, rec)
	}
	if err == nil {
		err = k.deleteFork(ctx, rec)
	}
	if err != nil {
		return fmt.Errorf("cannot delete the fork %s: %w", r, err)
	}
	return nil
}

// deletable says whether a component is a fork that people may delete.
func (k *Keeper) deletable(ctx context.Context, rec record) error {
	switch {
	case rec.Component.Session != "":
		return fmt.Errorf("%w by session %s, with which it ends", state.ErrInUse, rec.Component.Session)
	case rec.Branch == nil && rec.Forking == nil:
		return fmt.Errorf("%w: it is no fork (deactivate it and collect its garbage)", state.ErrBadProperty)
	}
	return k.free(ctx, rec)
}

// deleteFork takes it out of service and deletes its state. Forking is recorded first, so that the next keeper goes on
// after a crash.
func (k *Keeper) deleteFork(ctx context.Context, rec record) error {
	if rec.Forking == nil {
		rec.Forking = &rec.Branch.Origin
		if err := k.save(rec); err != nil {
			return err
		}
	}
	if err := k.deactivate(ctx, rec); err != nil {
		return err
	}
	if err := k.abandon(ctx, rec); err != nil {
		return err
	}
	k.log.InfoContext(ctx, "fork deleted", "component", rec.ref().String())
	return nil
}

// ResetFork makes a fork anew; see state.Brancher. One that began as a stored snapshot keeps its state until that is restored.
func (k *Keeper) ResetFork(ctx context.Context, r state.Ref) (state.Status, error) {
	rec, err := k.load(r)
	if err != nil {
		return state.Status{}, fmt.Errorf("cannot reset %s: %w", r, err)
	}
	if err := k.reset(ctx, rec); err != nil {
		return state.Status{}, fmt.Errorf("cannot reset the fork %s: %w", r, err)
	}
	return k.Status(ctx, r)
}

func (k *Keeper) reset(ctx context.Context, rec record) error {
	if err := k.deletable(ctx, rec); err != nil {
		return err
	}
	if rec.Branch == nil {
		return fmt.Errorf("it never came into being: %w (fork it again)", state.ErrNotFound)
	}
	b := *rec.Branch
	if b.Snapshot != "" && rec.Forking == nil {
		return k.restoreInto(ctx, state.RestoreRequest{Ref: rec.ref(), ID: b.Snapshot, Force: true})
	}
	origin, err := k.load(b.Origin)
	if err != nil {
		return fmt.Errorf("its origin: %w", err)
	}
	if origin.Phase != state.PhaseActive {
		return fmt.Errorf("its origin %s: %w", b.Origin, state.ErrInactive)
	}
	if err := k.DeleteFork(ctx, rec.ref()); err != nil {
		return err
	}
	method := b.Method
	if _, ok := k.modules[rec.Component.Module].(state.MethodForker); !ok && method != state.ForkRestore {
		method = "" // it has no choice
	}
	return k.make(ctx, b.Origin, rec.Component, plan{method: method, branch: &b, replica: b.Method == state.ForkReplica})
}

// Sweep does what is due; see state.Custodian. What somebody works on is left for the next time.
func (k *Keeper) Sweep(ctx context.Context) error {
	all, err := k.records()
	if err != nil {
		return err
	}
	failed := []error{k.sweepGroups(ctx)}
	for _, rec := range all {
		if now := time.Now(); rec.due(now) {
			if err := k.sweep(ctx, rec.ref()); err != nil {
				failed = append(failed, fmt.Errorf("cannot sweep %s: %w", rec.ref(), err))
			}
		}
	}
	return errors.Join(failed...)
}

// due says whether there is something to sweep.
func (r record) due(now time.Time) bool {
	return r.Scratch || r.Holding || r.Shut || r.Collecting || r.Forking != nil || r.expired(now) || r.Lease != nil && r.lease(now) == nil
}

func (r record) expired(now time.Time) bool {
	return r.Branch != nil && r.Component.Session == "" && !r.Branch.Expires.IsZero() && !r.Branch.Expires.After(now)
}

func (k *Keeper) sweep(ctx context.Context, r state.Ref) error {
	unlock, ok := k.locks.tryNow(r)
	if !ok {
		return nil
	}
	defer unlock()
	rec, err := k.load(r)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	now := time.Now()
	switch {
	case !rec.due(now):
		return nil
	case rec.Collecting:
		return k.removeState(ctx, rec)
	case rec.Scratch:
		return k.abandon(ctx, rec)
	case rec.Forking != nil || rec.expired(now) && k.free(ctx, rec) == nil:
		if rec.Branch == nil {
			return k.abandon(ctx, rec)
		}
		return k.deleteFork(ctx, rec)
	}
	if rec.Holding {
		if err := k.letGo(ctx, &rec); err != nil {
			return err
		}
	}
	if rec.Shut {
		if err := k.open(ctx, &rec); err != nil {
			return err
		}
	}
	if rec.lease(now) == nil {
		return k.release(ctx, &rec)
	}
	return nil
}
