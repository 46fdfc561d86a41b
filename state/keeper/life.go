package keeper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"orrery/state"
)

// Activate brings a component to life; see state.Keeper.
func (k *Keeper) Activate(ctx context.Context, c state.Component) (state.Status, error) {
	c, err := k.normal(c)
	if err != nil {
		return state.Status{}, err
	}
	unlock, err := k.locks.lock(ctx, c.Ref())
	if err != nil {
		return state.Status{}, err
	}
	defer unlock()
	if err := k.activate(ctx, c); err != nil {
		return state.Status{}, fmt.Errorf("cannot activate %s: %w", c.Ref(), err)
	}
	return k.status(ctx, c.Ref(), true)
}

// activate does so while the lock is held.
func (k *Keeper) activate(ctx context.Context, c state.Component) error {
	old, err := k.load(c.Ref())
	if err == nil && old.Collecting {
		if err := k.removeState(ctx, old); err != nil {
			return err
		}
		old, err = k.load(c.Ref())
	}
	existed := err == nil
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	if existed && old.Component.Module != c.Module {
		return fmt.Errorf("%w: it is a %s, not a %s (collect its garbage first)", state.ErrInUse, old.Component.Module, c.Module)
	}
	rec := record{
		Component: c, Phase: old.Phase, Changed: old.Changed, Committed: old.Committed,
		Forked: old.Forked, Branch: old.Branch, Lease: old.Lease, Holding: old.Holding,
	}
	rec.enter(state.PhaseActive)
	if rec.Resolved, err = k.resolve(ctx, c); err != nil {
		return err
	}
	for name, sum := range c.Files {
		if _, err := k.artifact(sum); err != nil {
			return fmt.Errorf("file %s: %w", name, err)
		}
	}
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	if err := module.Check(target.Component); err != nil {
		return err
	}
	if old.Stage != nil {
		if err := k.discard(ctx, module, target); err != nil {
			return err
		}
		old.Stage = nil
	}
	changed := existed && old.Phase == state.PhaseActive && !same(old, rec)
	if changed {
		if err := k.free(ctx, old); err != nil {
			return err
		}
		if err := k.deactivate(ctx, old); err != nil {
			return err
		}
	}
	// Before the module, so that what a crash leaves running has a record.
	if err := k.save(rec); err != nil {
		return err
	}
	began := time.Now()
	if err := module.Activate(ctx, target); err != nil {
		return errors.Join(err, k.undo(context.WithoutCancel(ctx), c.Ref(), old, existed, changed))
	}
	k.log.InfoContext(ctx, "component active", "component", c.Ref().String(), "took", time.Since(began))
	if !hasMigrations(c) || rec.replica() { // whose migrations are its source's
		return nil
	}
	if _, err := k.migrate(ctx, rec, false); err != nil {
		return errors.Join(err, k.unmigrated(context.WithoutCancel(ctx), rec, old, existed, changed, err))
	}
	return nil
}

// undo goes back to what was before a failed activation.
func (k *Keeper) undo(ctx context.Context, r state.Ref, old record, existed, deactivated bool) error {
	if !existed || old.Phase == state.PhaseStaged {
		return k.forget(r)
	}
	if deactivated {
		module, target, err := k.reach(old)
		if err == nil {
			err = module.Activate(ctx, target)
		}
		if err != nil {
			old.Failure = fmt.Sprintf("neither the new version nor the one before it could be activated: %v", err)
			return errors.Join(fmt.Errorf("the version before could not be activated either: %w", err), k.save(old))
		}
	}
	return k.save(old)
}

// same says whether two records want the same.
func same(a, b record) bool {
	a = record{Component: a.Component, Resolved: a.Resolved}
	b = record{Component: b.Component, Resolved: b.Resolved}
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && string(x) == string(y)
}

// Deactivate takes a component out of service; see state.Keeper.
func (k *Keeper) Deactivate(ctx context.Context, r state.Ref) error {
	unlock, err := k.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := k.load(r)
	if err != nil {
		return fmt.Errorf("cannot deactivate %s: %w", r, err)
	}
	if err := k.free(ctx, rec); err != nil {
		return fmt.Errorf("cannot deactivate %s: %w", r, err)
	}
	if err := k.release(ctx, &rec); err != nil {
		return fmt.Errorf("cannot deactivate %s: %w", r, err)
	}
	if err := k.deactivate(ctx, rec); err != nil {
		return fmt.Errorf("cannot deactivate %s: %w", r, err)
	}
	if rec.Phase == state.PhaseStaged {
		return nil
	}
	rec.enter(state.PhaseInactive)
	return k.save(rec)
}

func (k *Keeper) deactivate(ctx context.Context, rec record) error {
	if rec.Phase == state.PhaseStaged {
		return nil
	}
	if err := k.untrack(rec.ref()); err != nil {
		return err
	}
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	return module.Deactivate(ctx, target)
}

// Boot brings back, after a restart, the components that were active and that own still grants to this machine,
// each after those that it refers to. It takes the others out of service. A component that cannot be brought back
// shows as failed; the error names all of them.
func (k *Keeper) Boot(ctx context.Context, own func(c state.Component) bool) error {
	all, err := k.records()
	if err != nil {
		return err
	}
	var failed []error
	for _, rec := range inOrder(all) {
		if err := k.boot(ctx, rec.ref(), own); err != nil {
			failed = append(failed, err)
		}
	}
	return errors.Join(failed...)
}

func (k *Keeper) boot(ctx context.Context, r state.Ref, own func(c state.Component) bool) error {
	unlock, err := k.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := k.load(r)
	switch {
	case errors.Is(err, state.ErrNotFound):
		return nil
	case err != nil:
		return err
	case rec.Forking != nil:
		return k.abandon(ctx, rec) // nobody was told of it yet
	case rec.Collecting:
		return k.removeState(ctx, rec)
	case rec.Phase != state.PhaseActive:
		return nil
	}
	if !own(rec.Component) {
		k.log.InfoContext(ctx, "component is no longer of this machine", "component", r.String())
		if err := k.deactivate(ctx, rec); err != nil {
			return fmt.Errorf("cannot deactivate %s: %w", r, err)
		}
		rec.enter(state.PhaseInactive)
		return k.save(rec)
	}
	if err := k.revive(ctx, rec); err != nil {
		rec.Failure = err.Error()
		return errors.Join(fmt.Errorf("cannot bring back %s: %w", r, err), k.save(rec))
	}
	return nil
}

// revive activates a component that its record says is active.
func (k *Keeper) revive(ctx context.Context, rec record) error {
	resolved, err := k.resolve(ctx, rec.Component)
	if err != nil {
		return err
	}
	rec.Resolved, rec.Failure = resolved, ""
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	if err := module.Activate(ctx, target); err != nil {
		return err
	}
	return k.save(rec)
}

// Status returns one component.
func (k *Keeper) Status(ctx context.Context, r state.Ref) (state.Status, error) {
	unlock, locked, err := k.locks.try(ctx, r)
	if err != nil {
		return state.Status{}, err
	}
	if locked {
		defer unlock()
	}
	return k.status(ctx, r, locked)
}

// List returns all components, sorted by container and name.
func (k *Keeper) List(ctx context.Context) ([]state.Status, error) {
	all, damaged, err := k.readRecords()
	if err != nil {
		return nil, err
	}
	list := make([]state.Status, 0, len(all)+len(damaged))
	for _, d := range damaged {
		list = append(list, state.Status{
			Component: state.Component{Container: d.ref.Container, Name: d.ref.Component}, Phase: state.PhaseFailed, Detail: d.err.Error(), Size: -1,
		})
	}
	for _, rec := range all {
		if rec.Scratch {
			continue
		}
		s, err := k.Status(ctx, rec.ref())
		if errors.Is(err, state.ErrNotFound) {
			continue // collected meanwhile
		}
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b state.Status) int {
		return strings.Compare(a.Component.Ref().String(), b.Component.Ref().String())
	})
	return list, nil
}

// status reports on a component. Without the lock the module is not asked how it is, for an operation is under way.
func (k *Keeper) status(ctx context.Context, r state.Ref, locked bool) (state.Status, error) {
	rec, err := k.load(r)
	if err != nil {
		return state.Status{}, err
	}
	s := state.Status{Component: rec.Component, Phase: rec.Phase, Changed: rec.Changed, Size: -1, Detail: rec.Failure}
	s.Forked, s.Branch, s.Lease = rec.Forked, rec.Branch, rec.lease(time.Now())
	generations, err := k.config.Store.Generations(ctx, r)
	if err != nil {
		return s, err
	}
	if n := len(generations); n > 0 {
		s.Generation = generations[n-1].Number
	}
	module, target, err := k.reach(rec)
	if err != nil {
		s.Phase, s.Detail = state.PhaseFailed, err.Error()
		return s, nil //nolint:nilerr // what is wrong with the component is what was asked for
	}
	if e, ok := module.(state.Exporter); ok {
		if s.Exports, err = e.Exports(target); err != nil {
			s.Detail = err.Error()
		}
	}
	if sizer, ok := module.(state.Sizer); ok && rec.Phase != state.PhaseStaged {
		if s.Size, err = sizer.Size(ctx, target); err != nil {
			s.Size = -1
		}
	}
	if rec.Phase != state.PhaseActive {
		return s, nil
	}
	if doctor, ok := module.(state.Doctor); ok && locked && s.Detail == "" {
		if err := doctor.Health(ctx, target); err != nil {
			s.Detail = err.Error()
		}
	}
	if s.Detail != "" {
		s.Phase = state.PhaseFailed
	}
	return s, ctx.Err()
}
