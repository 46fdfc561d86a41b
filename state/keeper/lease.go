package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orrery/state"
)

// Lock leases a component; see state.Guard.
func (k *Keeper) Lock(ctx context.Context, r state.Ref, by string, lasting time.Duration) (state.Lease, error) {
	if by == "" || lasting <= 0 {
		return state.Lease{}, fmt.Errorf("cannot lock %s: %w: a lease needs a name and a time", r, state.ErrBadProperty)
	}
	var lease state.Lease
	err := k.alter(ctx, "lock", r, func(rec record) error {
		if err := k.free(state.WithCaller(ctx, by), rec); err != nil {
			return err
		}
		now := time.Now().UTC()
		lease = state.Lease{By: by, Since: now, Until: now.Add(lasting)}
		if old := rec.lease(now); old != nil {
			lease.Since, lease.Held = old.Since, old.Held
		}
		module, target, err := k.reach(rec)
		if err != nil {
			return err
		}
		locker, ok := module.(state.Locker)
		if !ok || rec.Phase != state.PhaseActive {
			rec.Lease = &lease
			return k.save(rec)
		}
		// Before the module, so that what a crash leaves locked is let go when the lease ends.
		lease.Held = true
		before := rec
		rec.Lease = &lease
		if err := k.save(rec); err != nil {
			return err
		}
		if err := locker.Lock(ctx, target); err != nil {
			return errors.Join(err, k.save(before))
		}
		return nil
	})
	return lease, err
}

// Unlock ends a lease; see state.Guard.
func (k *Keeper) Unlock(ctx context.Context, r state.Ref, by string, force bool) error {
	return k.alter(ctx, "unlock", r, func(rec record) error {
		if !force {
			if err := k.free(state.WithCaller(ctx, by), rec); err != nil {
				return err
			}
		}
		return k.release(ctx, &rec)
	})
}

// alter loads a component's record under its lock; verb is for the error.
func (k *Keeper) alter(ctx context.Context, verb string, r state.Ref, do func(rec record) error) error {
	unlock, err := k.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := k.load(r)
	if err == nil {
		err = do(rec)
	}
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", verb, r, err)
	}
	return nil
}

// release ends whatever lease there is and lets the component go on.
func (k *Keeper) release(ctx context.Context, rec *record) error {
	if rec.Lease == nil {
		return nil
	}
	if rec.Lease.Held && rec.Phase == state.PhaseActive {
		module, target, err := k.reach(*rec)
		if err != nil {
			return err
		}
		if locker, ok := module.(state.Locker); ok {
			if err := locker.Unlock(ctx, target); err != nil {
				return err
			}
		}
	}
	rec.Lease = nil
	return k.save(*rec)
}

// lease is the one that holds at a time, nil if there is none.
func (r record) lease(now time.Time) *state.Lease {
	if r.Lease == nil || !r.Lease.Until.After(now) {
		return nil
	}
	return r.Lease
}

// free says whether the caller may change the component: nobody else has leased it.
func (k *Keeper) free(ctx context.Context, rec record) error {
	l := rec.lease(time.Now())
	if l == nil || l.By == state.Caller(ctx) {
		return nil
	}
	return fmt.Errorf("%w by %s until %s (wait, or orrery component unlock %s --force)",
		state.ErrLocked, l.By, l.Until.Format(time.RFC3339), rec.ref())
}
