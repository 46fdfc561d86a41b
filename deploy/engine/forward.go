package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"orrery/deploy"
	"orrery/deploy/plan"
	"orrery/fabric"
	"orrery/state"
)

// A round of pre-copy that took less, or that found nothing new, is the last before the cut.
const (
	shortRound = 200 * time.Millisecond
	maxRounds  = 3
)

// forward carries out one piece of work. After an error the service may be anywhere between before and
// after; settle brings it to one of them.
func (o *operation) forward(ctx context.Context, w *work) error {
	now, err := o.placement(ctx, o.name, w.service())
	if err != nil {
		return err
	}
	w.revision = now.revision
	if !samePlacement(now, w.Before) {
		return fmt.Errorf("placement of %s is not what was planned from: %w", w.service(), fabric.ErrConflict)
	}
	switch {
	case w.Restore:
		return o.restore(ctx, w)
	case w.After == nil:
		return o.retire(ctx, w)
	case w.Before == nil:
		return o.start(ctx, w)
	case w.moves():
		return o.move(ctx, w)
	default:
		return o.upgrade(ctx, w)
	}
}

// doing records which part of the work begins.
func (o *operation) doing(ctx context.Context, part string) error {
	return o.write(ctx, func(j *journal) { j.Doing = part })
}

// start brings a service into being, with the state of its last place if that was elsewhere.
func (o *operation) start(ctx context.Context, w *work) error {
	if err := o.provide(ctx, w.After); err != nil {
		return err
	}
	ids := map[string]state.SnapshotID{}
	if len(w.Carry) > 0 {
		if err := o.clean(ctx, leftover{Service: w.service(), Node: w.After.Node, Components: refsOf(w.After.Service.Components)}); err != nil {
			return err
		}
	}
	for _, c := range w.Carry {
		id, ok := w.Snapshots[c.Name]
		if !ok {
			return fmt.Errorf("no snapshot is known of the last state of %s on %s (activate the service there first)", c.Name, w.Source.NodeName)
		}
		from := w.After.Node
		if w.Source != nil {
			from = w.Source.Node
		} else if err := o.fetch(ctx, w, c); err != nil { // a backup's: its node was put out
			return err
		}
		if err := o.stage(ctx, w, c, id, from, w.After.Node); err != nil {
			return err
		}
		ids[c.Name] = id
	}
	if err := o.commit(ctx, w, ids); err != nil {
		return err
	}
	endpoint, err := o.activate(ctx, w.After)
	if err != nil {
		return err
	}
	if err := o.place(ctx, w); err != nil {
		return err
	}
	return o.switchTo(ctx, w.After, endpoint)
}

// retire takes a service out of being; its last states are kept and where they are is recorded.
func (o *operation) retire(ctx context.Context, w *work) error {
	if err := o.hold(ctx, w.Before.Service); err != nil {
		return err
	}
	refs := refsOf(w.Before.Service.Components)
	if err := o.deactivate(ctx, w.service(), w.Before.Node, without(refs, w.Carry)); err != nil {
		return err
	}
	k, err := o.keeper(w.Before.Node)
	if err != nil {
		return err
	}
	last := retired{Placement: *w.Before, Snapshots: map[string]state.SnapshotID{}}
	for _, c := range w.Carry {
		err := o.do(ctx, w.service(), "snapshot "+c.Name, func(ctx context.Context) (int64, error) {
			g, err := k.Snapshot(ctx, c.Ref(), "deactivate")
			last.Snapshots[c.Name] = g.Snapshot
			return g.Stored, err
		}, w.Before.Node)
		if err != nil {
			return err
		}
	}
	if err := o.deactivate(ctx, w.service(), w.Before.Node, refsOf(w.Carry)); err != nil {
		return err
	}
	value, err := json.Marshal(last)
	if err != nil {
		return err
	}
	if _, err := o.Table.Put(ctx, retiredPrefix+o.name+"/"+w.service(), value); err != nil {
		return fmt.Errorf("cannot record where %s was: %w", w.service(), err)
	}
	if err := o.place(ctx, w); err != nil {
		return err
	}
	return o.remove(ctx, w.service())
}

// upgrade replaces a service's definition where it is.
func (o *operation) upgrade(ctx context.Context, w *work) error {
	if err := o.provide(ctx, w.After); err != nil {
		return err
	}
	stop := changed(w.Before.Service.Components, w.After.Service.Components)
	began := time.Now()
	if len(stop) > 0 {
		if err := o.hold(ctx, w.Before.Service); err != nil {
			return err
		}
	}
	if err := o.deactivate(ctx, w.service(), w.Before.Node, stop); err != nil {
		return err
	}
	endpoint, err := o.activate(ctx, w.After)
	if err != nil {
		return err
	}
	if err := o.place(ctx, w); err != nil {
		return err
	}
	err = o.switchTo(ctx, w.After, endpoint)
	if len(stop) > 0 {
		o.paused(w.service(), time.Since(began))
	}
	return err
}

// changed are the components of old from the first that differs: what comes after one may
// have been made with its values.
func changed(old, next []state.Component) []state.Ref {
	for i, c := range old {
		if i >= len(next) || !plan.SameComponent(c, next[i]) {
			return refsOf(old[i:])
		}
	}
	return nil
}

// move brings a service with its state to another node. The source's state stays as it was at the cut.
func (o *operation) move(ctx context.Context, w *work) error {
	if err := o.prepare(ctx, w); err != nil {
		return err
	}
	if err := o.doing(ctx, "cut"); err != nil {
		return err
	}
	began := time.Now()
	if err := o.hold(ctx, w.Before.Service); err != nil {
		return err
	}
	refs := refsOf(w.Before.Service.Components)
	if err := o.deactivate(ctx, w.service(), w.Before.Node, without(refs, w.Carry)); err != nil {
		return err
	}
	ids, err := o.lastDelta(ctx, w)
	if err != nil {
		return err
	}
	// The source stops while the target commits and starts; both are undone alike, and the source owns
	// the service until both are done.
	var endpoint *deploy.Endpoint
	err = parallel(ctx, 2, func(ctx context.Context, i int) (err error) {
		if i == 0 {
			return o.deactivate(ctx, w.service(), w.Before.Node, refsOf(w.Carry))
		}
		if err := o.commit(ctx, w, ids); err != nil {
			return err
		}
		endpoint, err = o.activate(ctx, w.After)
		return err
	})
	if err != nil {
		return err
	}
	if err := o.place(ctx, w); err != nil {
		return err
	}
	err = o.switchTo(ctx, w.After, endpoint)
	o.paused(w.service(), time.Since(began))
	return err
}

// prepare does all of a move that the running service does not notice.
func (o *operation) prepare(ctx context.Context, w *work) error {
	if err := o.provide(ctx, w.After); err != nil {
		return err
	}
	// An earlier move that could not be cleaned up may have left something.
	if err := o.clean(ctx, leftover{Service: w.service(), Node: w.After.Node, Components: refsOf(w.After.Service.Components)}); err != nil {
		return err
	}
	source, err := o.keeper(w.Before.Node)
	if err != nil {
		return err
	}
	for _, c := range w.Carry {
		err := o.do(ctx, w.service(), "follow changes of "+c.Name, func(ctx context.Context) (int64, error) {
			return 0, source.Track(ctx, c.Ref())
		}, w.Before.Node)
		if err != nil {
			return err
		}
	}
	before := map[string]state.SnapshotID{}
	for range maxRounds {
		began := time.Now()
		after, err := o.round(ctx, w)
		if err != nil {
			return err
		}
		news := slices.ContainsFunc(w.Carry, func(c state.Component) bool { return after[c.Name] != before[c.Name] })
		if !news || time.Since(began) < shortRound {
			return nil
		}
		before = after
	}
	return nil
}

// round brings the newest state of all carried components to the target's stages.
func (o *operation) round(ctx context.Context, w *work) (map[string]state.SnapshotID, error) {
	ids := make([]state.SnapshotID, len(w.Carry))
	err := parallel(ctx, len(w.Carry), func(ctx context.Context, i int) error {
		var err error
		ids[i], err = o.carried(ctx, w, w.Carry[i], w.Before.Node, w.After.Node)
		return err
	})
	byName := make(map[string]state.SnapshotID, len(ids))
	for i, c := range w.Carry {
		byName[c.Name] = ids[i]
	}
	return byName, err
}

// lastDelta brings the state at the cut to the target, and meanwhile makes sure that the journal is still ours.
func (o *operation) lastDelta(ctx context.Context, w *work) (ids map[string]state.SnapshotID, err error) {
	err = parallel(ctx, 2, func(ctx context.Context, i int) error {
		if i == 0 {
			return o.doing(ctx, "take")
		}
		var err error
		ids, err = o.round(ctx, w)
		return err
	})
	return ids, err
}

// commit makes the stages on the target, which must be at these snapshots, the components' state.
func (o *operation) commit(ctx context.Context, w *work, ids map[string]state.SnapshotID) error {
	k, err := o.keeper(w.After.Node)
	if err != nil {
		return err
	}
	return parallel(ctx, len(w.Carry), func(ctx context.Context, i int) error {
		c := w.Carry[i]
		id, ok := ids[c.Name]
		if !ok {
			return nil
		}
		return o.do(ctx, w.service(), fmt.Sprintf("commit %s on %s", c.Name, w.After.NodeName), func(ctx context.Context) (int64, error) {
			return 0, k.Commit(ctx, c.Ref(), id)
		}, w.After.Node)
	})
}

// clean stops components on a node where they should not be, and discards their stages.
func (o *operation) clean(ctx context.Context, l leftover) error {
	k, err := o.keeper(l.Node)
	if err != nil {
		return err
	}
	return o.do(ctx, l.Service, "clear "+o.nodeName(l.Node), func(ctx context.Context) (int64, error) {
		for _, r := range slices.Backward(l.Components) {
			if err := existing(k.Deactivate(ctx, r)); err != nil {
				return 0, err
			}
			if err := existing(k.Unstage(ctx, r)); err != nil {
				return 0, err
			}
		}
		return 0, nil
	}, l.Node)
}

// paused records how long a service's requests were held.
func (o *operation) paused(service string, d time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.outcome.Pauses[service] += d
}

// errPlacedElsewhere says that a placement is neither what a piece of work began with nor what it leads to.
var errPlacedElsewhere = errors.New("placed by somebody else")
