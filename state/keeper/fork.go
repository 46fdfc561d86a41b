package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orrery/state"
)

// Fork makes into a writable copy of an active component; see state.Keeper.
func (k *Keeper) Fork(ctx context.Context, from state.Ref, into state.Component) (state.Status, error) {
	into, err := k.normal(into)
	if err != nil {
		return state.Status{}, err
	}
	if from == into.Ref() {
		return state.Status{}, fmt.Errorf("cannot fork %s into itself: %w", from, state.ErrInUse)
	}
	unlock, err := k.locks.lockAll(ctx, []state.Ref{from, into.Ref()})
	if err != nil {
		return state.Status{}, err
	}
	defer unlock()
	if err := k.fork(ctx, from, into); err != nil {
		return state.Status{}, fmt.Errorf("cannot fork %s into %s: %w", from, into.Ref(), err)
	}
	return k.status(ctx, into.Ref(), true)
}

func (k *Keeper) fork(ctx context.Context, from state.Ref, into state.Component) error {
	source, err := k.load(from)
	if err != nil {
		return err
	}
	if source.Phase != state.PhaseActive {
		return state.ErrInactive
	}
	if source.Component.Module != into.Module {
		return fmt.Errorf("%w: a %s cannot be a copy of a %s", state.ErrBadProperty, into.Module, source.Component.Module)
	}
	old, err := k.load(into.Ref())
	switch {
	case errors.Is(err, state.ErrNotFound):
	case err != nil:
		return err
	case old.Forking != nil:
		if err := k.abandon(ctx, old); err != nil {
			return err
		}
	case old.Forked != "" && old.Phase == state.PhaseActive:
		return k.activate(ctx, into) // repeated
	default:
		return fmt.Errorf("it exists and is %s: %w (collect its garbage first)", old.Phase, state.ErrInUse)
	}
	return k.copy(ctx, source, into)
}

// copy makes a component that does not exist yet and activates it. An error leaves nothing of it.
func (k *Keeper) copy(ctx context.Context, source record, into state.Component) error {
	from := source.ref()
	rec := record{Component: into, Forking: &from}
	rec.enter(state.PhaseStaged)
	var err error
	if rec.Resolved, err = k.resolve(ctx, into); err != nil {
		return err
	}
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	forker, ok := module.(state.Forker)
	if !ok {
		return fmt.Errorf("%w fork: %s", state.ErrNotAble, into.Module)
	}
	_, origin, err := k.reach(source)
	if err != nil {
		return err
	}
	if err := k.save(rec); err != nil {
		return err
	}
	began := time.Now()
	if rec.Forked, err = forker.Fork(ctx, origin, target); err == nil {
		rec.enter(state.PhaseInactive)
		if err = k.save(rec); err == nil {
			err = k.activate(ctx, into)
		}
	}
	if err != nil {
		return errors.Join(err, k.abandon(context.WithoutCancel(ctx), rec))
	}
	k.log.InfoContext(ctx, "forked", "component", from.String(), "into", into.Ref().String(), "method", rec.Forked, "took", time.Since(began))
	return nil
}

// abandon removes what there is of a fork that did not come into being.
func (k *Keeper) abandon(ctx context.Context, rec record) error {
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	if s, ok := module.(state.Stateful); ok {
		if err := s.CollectGarbage(ctx, target); err != nil {
			return fmt.Errorf("cannot remove the unfinished fork %s: %w", rec.ref(), err)
		}
	}
	return k.forget(rec.ref())
}
