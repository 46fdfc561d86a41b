package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/state"
)

// settle brings interrupted work to its end or its beginning, whichever its placement says, and
// returns which. It is repeated until it succeeds: by this engine, or whoever takes the journal over.
func (o *operation) settle(ctx context.Context, w *work) (finished bool, err error) {
	if w.Restore {
		return false, o.unrestore(ctx, w)
	}
	finished, err = o.decide(ctx, w)
	if err != nil {
		return false, err
	}
	if finished {
		return true, o.finish(ctx, w)
	}
	return false, o.revert(ctx, w)
}

// settleSoon settles with a bound of its own, whatever happened to the time that ctx had.
func (o *operation) settleSoon(ctx context.Context, w *work) (finished bool, err error) {
	if ctx.Err() == nil {
		return o.settle(ctx, w)
	}
	ctx, cancel := o.undoing()
	defer cancel()
	return o.settle(ctx, w)
}

// decide reads whether the point of no return was passed. If not, it never will be: the placement is
// written anew, so that a compare-and-swap that is still on its way fails.
func (o *operation) decide(ctx context.Context, w *work) (finished bool, err error) {
	for {
		now, err := o.placement(ctx, o.name, w.service())
		if err != nil {
			return false, err
		}
		switch {
		case samePlacement(now, w.After):
			return true, nil
		case !samePlacement(now, w.Before):
			return false, fmt.Errorf("service %s is on %s, epoch %d: %w", w.service(), now.NodeName, now.Epoch, errPlacedElsewhere)
		case now.revision == 0:
			return false, nil
		}
		value, err := json.Marshal(now.Placement)
		if err != nil {
			return false, err
		}
		_, err = o.swap(ctx, placementKey(o.name, w.service()), now.revision, value)
		if !errors.Is(err, fabric.ErrConflict) {
			return false, err
		}
	}
}

func samePlacement(now placed, want *deploy.Placement) bool {
	if want == nil || now.revision == 0 {
		return want == nil && now.revision == 0
	}
	var normal deploy.Placement // as the table gives it back: JSON has one type of number
	encoded, err := json.Marshal(want)
	if err != nil || json.Unmarshal(encoded, &normal) != nil {
		return false
	}
	return reflect.DeepEqual(now.Placement, normal)
}

// finish completes work whose placement is the new one.
func (o *operation) finish(ctx context.Context, w *work) error {
	if w.Before != nil && (w.After == nil || w.moves()) {
		o.cleanLater(ctx, leftover{Service: w.service(), Node: w.Before.Node, Components: refsOf(w.Before.Service.Components)})
	}
	if w.After == nil || o.Out(w.After.Node) {
		return o.remove(ctx, w.service())
	}
	endpoint, err := o.activate(ctx, w.After)
	if err != nil {
		return err
	}
	return o.switchTo(ctx, w.After, endpoint)
}

// revert undoes work whose placement is the old one: the service was never given away, and its state where it
// is has not been touched.
func (o *operation) revert(ctx context.Context, w *work) error {
	if w.After != nil && (w.Before == nil || w.moves()) {
		o.cleanLater(ctx, leftover{Service: w.service(), Node: w.After.Node, Components: refsOf(w.After.Service.Components)})
	}
	if w.Before == nil || o.Out(w.Before.Node) {
		return o.remove(ctx, w.service())
	}
	if w.After != nil && !w.moves() {
		stop := changed(w.After.Service.Components, w.Before.Service.Components)
		if err := o.deactivate(ctx, w.service(), w.Before.Node, stop); err != nil {
			return err
		}
	}
	endpoint, err := o.activate(ctx, w.Before)
	if err != nil {
		return err
	}
	if k, err := o.keeper(w.Before.Node); err == nil && w.moves() {
		for _, c := range w.Carry {
			err := o.do(ctx, w.service(), "end following "+c.Name, func(ctx context.Context) (int64, error) {
				return 0, k.Untrack(ctx, c.Ref())
			}, w.Before.Node)
			if err != nil {
				o.Logger.DebugContext(ctx, "following ends by itself", "component", c.Name, "err", err)
			}
		}
	}
	return o.switchTo(ctx, w.Before, endpoint)
}

// cleanLater cleans now, or leaves a record for when the node is back.
func (o *operation) cleanLater(ctx context.Context, l leftover) {
	if o.Out(l.Node) {
		return
	}
	err := o.clean(ctx, l)
	if err == nil {
		return
	}
	o.Logger.WarnContext(ctx, "node is cleaned when it is back", "node", o.nodeName(l.Node), "service", l.Service, "err", err)
	same := func(other leftover) bool { return other.Service == l.Service && other.Node == l.Node }
	if err := o.write(ctx, func(j *journal) {
		j.Leftovers = append(slices.DeleteFunc(slices.Clone(j.Leftovers), same), l)
	}); err != nil {
		o.Logger.WarnContext(ctx, "cannot record what is left to clean", "node", o.nodeName(l.Node), "err", err)
	}
}

// sweep cleans what earlier operations left on nodes that were out of reach then.
func (o *operation) sweep(ctx context.Context) error {
	var left []leftover
	all := o.read().Leftovers
	for _, l := range all {
		now, err := o.placement(ctx, o.name, l.Service)
		if err != nil {
			return err
		}
		if now.revision != 0 && now.Node == l.Node {
			continue // it belongs there again
		}
		if err := o.clean(ctx, l); err != nil {
			left = append(left, l)
		}
	}
	if len(left) == len(all) {
		return nil
	}
	return o.write(ctx, func(j *journal) { j.Leftovers = left })
}

// conclude brings an open journal to its end: what was under way is settled; what
// was done before is undone, unless all was done.
func (o *operation) conclude(ctx context.Context) (done bool, problems error) {
	j := o.read()
	if j.Phase == phaseClosed {
		return false, nil
	}
	if j.Phase == phaseUndoing {
		return false, o.goOn(ctx)
	}
	if j.At < len(j.Work) {
		finished, err := o.settle(ctx, &j.Work[j.At])
		if err != nil {
			return false, fmt.Errorf("%w: service %s: %w", deploy.ErrStuck, j.Work[j.At].service(), err)
		}
		if finished {
			j.At++
		}
	}
	if j.At == len(j.Work) && len(j.Work) > 0 {
		return true, o.complete(j)
	}
	return false, o.undoDone(ctx, j)
}

// undoDone turns the journal round: the inverses of the first j.At pieces of work are to do.
func (o *operation) undoDone(ctx context.Context, j journal) error {
	inverses := make([]work, 0, j.At)
	for _, w := range slices.Backward(j.Work[:j.At]) {
		inverse, err := o.inverse(ctx, w)
		if err != nil {
			return err
		}
		inverses = append(inverses, inverse)
	}
	if err := o.write(ctx, func(j *journal) {
		j.Phase, j.Work, j.At, j.Doing = phaseUndoing, inverses, 0, ""
	}); err != nil {
		return err
	}
	return o.undoFrom(ctx, 0)
}

// goOn continues an undoing that was interrupted.
func (o *operation) goOn(ctx context.Context) error {
	j := o.read()
	if j.At < len(j.Work) {
		finished, err := o.settle(ctx, &j.Work[j.At])
		if err != nil {
			return fmt.Errorf("%w: service %s: %w", deploy.ErrStuck, j.Work[j.At].service(), err)
		}
		if finished {
			j.At++
		}
	}
	return o.undoFrom(ctx, j.At)
}

// undoFrom carries out the inverses from index at. One that cannot be carried out leaves its service where it is,
// whole, and the others go on.
func (o *operation) undoFrom(ctx context.Context, at int) error {
	var problems []error
	all := o.read().Work
	for i := at; i < len(all); i++ {
		if err := o.write(ctx, func(j *journal) { j.At, j.Doing = i, "begin" }); err != nil {
			return err
		}
		w := all[i]
		err := o.forward(ctx, &w)
		if err == nil {
			continue
		}
		if lost := o.lost(); lost != nil {
			return lost
		}
		finished, unsettled := o.settleSoon(ctx, &w)
		if unsettled != nil {
			return fmt.Errorf("%w: service %s: %w", deploy.ErrStuck, w.service(), errors.Join(err, unsettled))
		}
		if !finished {
			problems = append(problems, fmt.Errorf("service %s stays as it is: %w", w.service(), err))
		}
	}
	return errors.Join(problems...)
}

// inverse is the work that leads from w's end to its beginning.
func (o *operation) inverse(ctx context.Context, w work) (work, error) {
	now, err := o.placement(ctx, o.name, w.service())
	if err != nil {
		return work{}, err
	}
	back := work{Step: deploy.Step{Service: w.service(), Why: "undo"}, Restore: w.Restore, Snapshots: w.Previous, Source: w.Source}
	if now.revision != 0 {
		back.Before = &now.Placement
	}
	if w.Before != nil {
		after := *w.Before
		after.Epoch = now.Epoch
		if now.revision == 0 || now.Node != after.Node {
			after.Epoch = max(now.Epoch, w.Before.Epoch) + 1
		}
		back.After = &after
	}
	switch {
	case w.Restore:
		back.Step.Kind = deploy.StepUpgrade
		back.Carry = slices.DeleteFunc(slices.Clone(w.Carry), func(c state.Component) bool { return w.Previous[c.Name] == "" })
	case back.After == nil:
		back.Step.Kind = deploy.StepDeactivate
		back.Carry, err = o.stateful(ctx, back.Before.Node, back.Before.Service.Components)
	case back.Before == nil:
		back.Step.Kind = deploy.StepActivate // its state is still where it was
	case back.moves():
		back.Step.Kind = deploy.StepMove
		back.Carry = carriedBack(w, back.After.Service)
	default:
		back.Step.Kind = deploy.StepUpgrade
	}
	return back, err
}

// carriedBack are the components as they were whose state w carried along.
func carriedBack(w work, to deploy.Service) []state.Component {
	return slices.DeleteFunc(slices.Clone(to.Components), func(c state.Component) bool {
		return !slices.ContainsFunc(w.Carry, func(o state.Component) bool { return o.Ref() == c.Ref() })
	})
}

// stateful are those of components whose module has state.
func (e *Engine) stateful(ctx context.Context, node fabric.NodeID, components []state.Component) ([]state.Component, error) {
	var out []state.Component
	for _, c := range components {
		d, err := e.describe(ctx, node, c.Module)
		if err != nil {
			return nil, fmt.Errorf("cannot tell whether module %s has state: %w", c.Module, err)
		}
		if d.Stateful {
			out = append(out, c)
		}
	}
	return out, nil
}
