package keeper

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orrery/state"
)

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
func (k *Keeper) saveTracked(ctx context.Context, rec record, reason string, t *tracked, from state.Source, begun func()) (g state.Generation, err error) {
	since := t.since
	t.since = "" // until this image is in the store
	k.prolong(rec.ref(), t)
	image, err := t.tracker.Image(ctx)
	if err != nil {
		return g, err
	}
	defer func() { err = errors.Join(err, image.Close()) }()
	begun()
	from.Image, from.Since = image, since
	g, err = k.config.Store.Save(ctx, rec.ref(), rec.Component.Module, reason, from)
	if err == nil {
		t.since = g.Snapshot
	}
	return g, err
}
