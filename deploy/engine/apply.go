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

// Plan computes what Apply would do now.
func (e *Engine) Plan(ctx context.Context, m deploy.Manifest) (deploy.Plan, error) {
	p, _, err := e.works(ctx, m)
	return p, err
}

// Apply makes what runs what m says, after bringing an interrupted operation to its end.
// The error is deploy.Problems if m cannot be applied on this cluster, deploy.ErrBusy if another operation is
// under way, deploy.ErrUndone if something failed (or ctx ended) and all is as before, and deploy.ErrStuck
// if not even that could be reached; the next operation or Recover then goes on.
func (e *Engine) Apply(ctx context.Context, m deploy.Manifest, progress func(deploy.Event)) (deploy.Outcome, error) {
	if problems := e.Check(ctx, m); len(problems) > 0 {
		return deploy.Outcome{}, problems
	}
	return e.operate(ctx, m.Name, kindApply, progress, func(ctx context.Context, o *operation) error {
		if err := o.disown(ctx); err != nil {
			return err
		}
		p, all, err := e.works(ctx, m)
		if err != nil {
			return err
		}
		o.outcome.Plan = p
		return o.carryOut(ctx, p, all, &m)
	})
}

// Remove takes all services of a manifest out of being. Their state is kept where it is.
func (e *Engine) Remove(ctx context.Context, name string, progress func(deploy.Event)) (deploy.Outcome, error) {
	return e.operate(ctx, name, kindRemove, progress, func(ctx context.Context, o *operation) error {
		if err := o.disown(ctx); err != nil {
			return err
		}
		p, all, err := e.works(ctx, deploy.Manifest{Name: name})
		if err != nil {
			return err
		}
		before, err := e.retired(ctx, name)
		if err != nil {
			return err
		}
		if len(all) == 0 && len(before) == 0 {
			return fmt.Errorf("nothing of manifest %s was ever deployed: %w", name, deploy.ErrNotFound)
		}
		o.outcome.Plan = p
		return o.carryOut(ctx, p, all, nil)
	})
}

// Recover finishes or undoes an operation on a manifest whose owner is gone, and cleans nodes that were
// out of reach earlier. Nothing to do is no error; deploy.ErrBusy if the owner lives.
func (e *Engine) Recover(ctx context.Context, name string, progress func(deploy.Event)) error {
	j, _, err := e.readJournal(ctx, name)
	if err != nil || !e.pending(j) {
		return err
	}
	_, err = e.operate(ctx, name, kindRecover, progress, func(context.Context, *operation) error { return nil })
	return err
}

// operate runs f as the one operation on a manifest, after concluding an interrupted one.
func (e *Engine) operate(ctx context.Context, name, kind string, progress func(deploy.Event), f func(context.Context, *operation) error) (deploy.Outcome, error) {
	o, forward, err := e.begin(ctx, name, kind, progress)
	if err != nil {
		return deploy.Outcome{}, err
	}
	err = o.inherit(forward, kind)
	if err == nil {
		err = f(forward, o)
	}
	o.mu.Lock()
	outcome := o.outcome
	o.mu.Unlock()
	return outcome, o.conclusion(forward, err)
}

// conclusion ends the operation in the way that err asks for.
func (o *operation) conclusion(ctx context.Context, err error) error {
	if lost := o.lost(); lost != nil {
		o.end()
		return errors.Join(err, lost)
	}
	if errors.Is(err, deploy.ErrStuck) && !errors.Is(err, errLeftAlone) {
		o.abandon(err)
		return err
	}
	result := o.read().Result
	if err != nil {
		result = err.Error()
	}
	if releaseErr := o.release(result); releaseErr != nil {
		o.Logger.WarnContext(ctx, "journal stays held until its lease ends", "manifest", o.name, "err", releaseErr)
	}
	return err
}

// inherit concludes what an earlier owner of the journal left, and makes the journal that of this operation.
func (o *operation) inherit(ctx context.Context, kind string) error {
	j := o.read()
	if len(j.Work) == 0 && kind != kindRecover && j.Kind != kind {
		if err := o.write(ctx, func(j *journal) { j.Kind = kind }); err != nil {
			return err
		}
	}
	if len(j.Work) > 0 {
		o.note("", fmt.Sprintf("take over an interrupted %s of %s", j.Kind, o.nodeName(j.Owner)))
		done, err := o.conclude(ctx)
		if errors.Is(err, deploy.ErrStuck) && !errors.Is(err, errLeftAlone) || o.lost() != nil {
			return err
		}
		how := "undone"
		if done {
			how = "finished"
		}
		o.note("", fmt.Sprintf("interrupted %s is %s", j.Kind, how))
		err = o.write(ctx, func(j *journal) {
			j.Operation, j.Phase, j.Started = newID(), phaseRunning, time.Now().UTC()
			j.Plan, j.Work, j.At, j.Doing, j.Manifest, j.Result = deploy.Plan{}, nil, 0, "", nil, "interrupted, then "+how
			if kind != kindRecover {
				j.Kind = kind
			}
		})
		if err != nil {
			return err
		}
	}
	return o.sweep(ctx)
}

// carryOut does all the work, or undoes what it did of it.
func (o *operation) carryOut(ctx context.Context, p deploy.Plan, all []work, m *deploy.Manifest) error {
	if err := o.write(ctx, func(j *journal) { j.Plan, j.Work, j.At, j.Manifest = p, all, 0, m }); err != nil {
		return err
	}
	for i := range all {
		err := o.write(ctx, func(j *journal) { j.At, j.Doing = i, "begin" })
		if err == nil {
			err = o.forward(ctx, &all[i])
		}
		if err == nil {
			continue
		}
		finished, undoErr := o.fail(ctx, all, i, err)
		if !finished {
			return undoErr
		}
	}
	return o.complete(o.read())
}

// undoMany is how many times as long the undoing of a whole operation may take as that of one step.
const undoMany = 20

// errLeftAlone marks an undoing that left a service whole, but not where it was.
var errLeftAlone = errors.New("not all could be undone")

// fail settles the work at index at and undoes what was done before it; finished means that the
// operation can go on, because the work turned out to be done.
func (o *operation) fail(ctx context.Context, all []work, at int, why error) (finished bool, err error) {
	if lost := o.lost(); lost != nil {
		return false, errors.Join(why, lost)
	}
	// Undoing what was done may mean to move a large state back.
	undo, cancel := context.WithTimeout(o.undo, undoMany*o.Undo)
	defer cancel()
	j := o.read()
	j.Work, j.At = all, at
	o.note(all[at].service(), "undo: "+why.Error())
	soon, cancelSoon := o.undoing()
	finished, err = o.settle(soon, &all[at])
	cancelSoon()
	if err != nil {
		return false, fmt.Errorf("%w: %w; undoing it: %w", deploy.ErrStuck, why, err)
	}
	if finished && ctx.Err() == nil {
		return true, nil
	}
	if finished {
		j.At++
	}
	switch err := o.undoDone(undo, j); {
	case errors.Is(err, deploy.ErrStuck), err != nil && o.lost() != nil:
		return false, errors.Join(why, err)
	case err != nil:
		return false, fmt.Errorf("%w: %w: %w: %w", deploy.ErrStuck, why, errLeftAlone, err)
	}
	return false, fmt.Errorf("%w: %w", deploy.ErrUndone, why)
}

// complete records what now runs. All is done, so that it is too late to be interrupted.
func (o *operation) complete(j journal) error {
	ctx, cancel := o.undoing()
	defer cancel()
	key := deploy.ManifestPrefix + o.name
	var err error
	switch {
	case j.Manifest != nil:
		var value []byte
		if value, err = json.Marshal(j.Manifest); err == nil {
			_, err = o.Table.Put(ctx, key, value)
		}
	case j.Kind == kindRemove:
		err = o.Table.Delete(ctx, key, 0)
	}
	if err != nil {
		return fmt.Errorf("%w: all is done but the manifest cannot be recorded: %w", deploy.ErrStuck, err)
	}
	return o.write(ctx, func(j *journal) { j.Work, j.At, j.Result = nil, 0, "done" })
}

// works computes the plan for m and all that is needed to carry it out.
func (e *Engine) works(ctx context.Context, m deploy.Manifest) (deploy.Plan, []work, error) {
	now, err := e.placements(ctx, m.Name)
	if err != nil {
		return deploy.Plan{}, nil, err
	}
	last, err := e.retired(ctx, m.Name)
	if err != nil {
		return deploy.Plan{}, nil, err
	}
	in := plan.Input{Manifest: m, Nodes: map[string]fabric.NodeID{}}
	if now, err = e.lose(ctx, m.Name, now, last, &in); err != nil {
		return deploy.Plan{}, nil, err
	}
	in.Sizes = e.sizes(ctx, now)
	byName, _ := e.members()
	for name, member := range byName {
		in.Nodes[name] = member.ID
	}
	for _, p := range now {
		in.Placements = append(in.Placements, p.Placement)
	}
	for _, r := range last {
		in.Retired = append(in.Retired, r.Placement)
	}
	in.Stateful = e.statefulModules(ctx, m, now, last)
	p := plan.Compute(in)
	all := make([]work, len(p.Steps))
	for i, step := range p.Steps {
		all[i] = e.work(step, m, now, last, in)
		if err := e.feasible(&all[i], in.Stateful); err != nil {
			return deploy.Plan{}, nil, err
		}
	}
	return p, all, nil
}

// feasible finds before anything is touched what would keep a piece of work from being carried out safely.
func (e *Engine) feasible(w *work, stateful map[string]bool) error {
	_, byID := e.members()
	for _, p := range []*deploy.Placement{w.Before, w.Source} {
		if p == nil {
			continue
		}
		if !usable(byID[p.Node]) {
			return fmt.Errorf("cannot %s %s: node %s, where its state is, is out of reach (start it first)", w.Step.Kind, w.service(), p.NodeName)
		}
		for _, c := range p.Service.Components {
			if _, known := stateful[c.Module]; !known {
				return fmt.Errorf("cannot %s %s: no node says whether module %s has state (see that node %s answers)", w.Step.Kind, w.service(), c.Module, p.NodeName)
			}
		}
	}
	return nil
}

// work is a step with its particulars.
func (e *Engine) work(step deploy.Step, m deploy.Manifest, now []placed, last map[string]retired, in plan.Input) work {
	w := work{Step: step}
	isStateless := func(c state.Component) bool { return !in.Stateful[c.Module] }
	epoch := last[step.Service].Epoch + 1
	if i := slices.IndexFunc(now, func(p placed) bool { return p.Service.Name == step.Service }); i >= 0 {
		before := now[i].Placement
		w.Before = &before
		epoch = before.Epoch
		if step.Kind == deploy.StepMove {
			epoch++
		}
	}
	if step.Kind == deploy.StepDeactivate {
		w.Carry = slices.DeleteFunc(slices.Clone(w.Before.Service.Components), isStateless)
		return w
	}
	i := slices.IndexFunc(m.Services, func(s deploy.Service) bool { return s.Name == step.Service })
	w.After = &deploy.Placement{Manifest: m.Name, Service: m.Services[i], Node: in.Nodes[step.To], NodeName: step.To, Epoch: epoch}
	from := w.Before
	if r, ok := last[step.Service]; ok && w.Before == nil && in.Out[r.Node] {
		w.Snapshots, w.From = r.Snapshots, r.from
		w.Carry = slices.DeleteFunc(plan.Carried(r.Service, w.After.Service), func(c state.Component) bool { return isStateless(c) || r.Snapshots[c.Name] == "" })
	} else if ok && w.Before == nil && step.From != "" {
		from, w.Source, w.Snapshots = &r.Placement, &r.Placement, r.Snapshots
	}
	if from != nil && step.Kind != deploy.StepUpgrade {
		w.Carry = slices.DeleteFunc(plan.Carried(from.Service, w.After.Service), isStateless)
	}
	return w
}

// retired lists the last places of services that run nowhere, by service.
func (e *Engine) retired(ctx context.Context, manifest string) (map[string]retired, error) {
	entries, err := e.Table.List(ctx, retiredPrefix+manifest+"/")
	if err != nil {
		return nil, fmt.Errorf("cannot read where services were: %w", err)
	}
	out := map[string]retired{}
	for _, entry := range entries {
		var r retired
		if err := json.Unmarshal(entry.Value, &r); err != nil {
			return nil, fmt.Errorf("record %s cannot be read: %w", entry.Key, err)
		}
		out[r.Service.Name] = r
	}
	return out, nil
}

// statefulModules says which of the modules that m and the placements use have state; those are missing that no node tells about.
func (e *Engine) statefulModules(ctx context.Context, m deploy.Manifest, now []placed, last map[string]retired) map[string]bool {
	out := map[string]bool{}
	ask := func(node fabric.NodeID, components []state.Component) {
		for _, c := range components {
			if _, known := out[c.Module]; known {
				continue
			}
			if d, err := e.describe(ctx, node, c.Module); err == nil {
				out[c.Module] = d.Stateful
			}
		}
	}
	byName, _ := e.members()
	for _, p := range now {
		ask(p.Node, p.Service.Components)
	}
	for _, s := range m.Services {
		ask(byName[m.Distribution[s.Name]].ID, s.Components)
	}
	for _, r := range last {
		ask(r.Node, r.Service.Components)
	}
	return out
}

// sizes are those of the state of what is placed, as far as nodes tell.
func (e *Engine) sizes(ctx context.Context, now []placed) map[state.Ref]int64 {
	out := map[state.Ref]int64{}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	for _, p := range now {
		k, err := e.Machines.Keeper(p.Node)
		if err != nil || e.dead([]fabric.NodeID{p.Node}) != nil {
			continue
		}
		for _, c := range p.Service.Components {
			if status, err := k.Status(ctx, c.Ref()); err == nil && status.Size > 0 {
				out[c.Ref()] = status.Size
			}
		}
	}
	return out
}
