package keeper

import (
	"context"
	"fmt"
	"slices"
	"time"

	"orrery/state"
)

// Replicate makes a replica; see state.Mirror.
func (k *Keeper) Replicate(ctx context.Context, q state.ReplicaRequest) (state.Status, error) {
	into, err := k.beside(q.From, q.As, "")
	if err == nil && q.Expires < 0 {
		err = fmt.Errorf("%w: it would have expired %v ago", state.ErrBadProperty, -q.Expires)
	}
	if err == nil {
		branch := state.Branch{Owner: q.Owner, Lasting: q.Expires}
		err = k.make(ctx, q.From, into, plan{replica: true, branch: &branch})
	}
	if err != nil {
		return state.Status{}, fmt.Errorf("cannot replicate %s as %s: %w", q.From, q.As, err)
	}
	return k.Status(ctx, into.Ref())
}

func replicate(ctx context.Context, module state.Module, origin, target state.Target) error {
	r, err := replicator(module)
	if err != nil {
		return err
	}
	return r.Replicate(ctx, origin, target)
}

func replicator(module state.Module) (state.Replicator, error) {
	if r, ok := module.(state.Replicator); ok {
		return r, nil
	}
	return nil, fmt.Errorf("%w make replicas: %s (fork it)", state.ErrNotAble, module.Describe().Name)
}

// replica says whether a component follows another one.
func (r record) replica() bool { return r.Branch != nil && r.Branch.Method == state.ForkReplica }

// changeable refuses to change what follows another component.
func (r record) changeable() error {
	if r.replica() {
		return fmt.Errorf("%w: its source is %s", state.ErrReplica, r.Branch.Origin)
	}
	return nil
}

// Lag says how far a replica is behind; see state.Mirror.
func (k *Keeper) Lag(ctx context.Context, r state.Ref) (lag state.Lag, err error) {
	err = k.onReplica(ctx, "find the lag of", r, func(_ record, module state.Replicator, target state.Target) error {
		lag, err = module.Lag(ctx, target)
		return err
	})
	return lag, err
}

// onReplica does something with an active replica; verb is for the error.
func (k *Keeper) onReplica(ctx context.Context, verb string, r state.Ref, do func(record, state.Replicator, state.Target) error) error {
	return k.alter(ctx, verb, r, func(rec record) error {
		switch {
		case !rec.replica():
			return fmt.Errorf("%w: it is no replica", state.ErrBadProperty)
		case rec.Phase != state.PhaseActive:
			return state.ErrInactive
		}
		module, target, err := k.reach(rec)
		if err != nil {
			return err
		}
		able, err := replicator(module)
		if err != nil {
			return err
		}
		return do(rec, able, target)
	})
}

// Promote makes a replica a component by itself; see state.Mirror.
func (k *Keeper) Promote(ctx context.Context, r state.Ref) (state.Status, error) {
	err := k.onReplica(ctx, "promote", r, func(rec record, module state.Replicator, target state.Target) error {
		if err := k.free(ctx, rec); err != nil {
			return err
		}
		began := time.Now()
		method, err := module.Promote(ctx, target)
		if err != nil {
			return err
		}
		whole := *rec.Branch
		whole.Method, whole.Created, whole.Expires, whole.Lasting = method, time.Now().UTC(), time.Time{}, 0
		rec.Forked, rec.Branch = method, &whole
		if err := k.save(rec); err != nil {
			return err
		}
		k.log.InfoContext(ctx, "replica promoted", "component", r.String(), "source", whole.Origin.String(), "took", time.Since(began))
		return nil
	})
	if err != nil {
		return state.Status{}, err
	}
	return k.Status(ctx, r)
}

// unfollowed refuses to delete the state that replicas follow: it would be deleted in them, too.
func (k *Keeper) unfollowed(r state.Ref) error {
	all, err := k.records()
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(rec record) bool { return rec.replica() && rec.Branch.Origin == r })
	if i < 0 {
		return nil
	}
	return fmt.Errorf("%w by its replica %s, whose state would go with it (promote or delete that)", state.ErrInUse, all[i].ref())
}
