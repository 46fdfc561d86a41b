package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"orrery/state"
)

// plan says how a component comes into being from another one's state.
type plan struct {
	at      state.SnapshotID // what to begin with; empty: the source as it is now
	method  string           // empty: the best one
	branch  *state.Branch    // nil: as of a session
	restore bool             // it is a restore under another name and no fork
	replica bool             // it is a replica
}

// Fork makes into a writable copy of an active component; see state.Keeper.
func (k *Keeper) Fork(ctx context.Context, from state.Ref, into state.Component) (state.Status, error) {
	into, err := k.normal(into)
	if err != nil {
		return state.Status{}, err
	}
	if err := k.make(ctx, from, into, plan{}); err != nil {
		return state.Status{}, fmt.Errorf("cannot fork %s into %s: %w", from, into.Ref(), err)
	}
	return k.Status(ctx, into.Ref())
}

// ForkAs carries out a ForkRequest; see state.Brancher.
func (k *Keeper) ForkAs(ctx context.Context, q state.ForkRequest) (state.Status, error) {
	into, err := k.beside(q.From, q.As, "")
	if err == nil {
		if q.Expires < 0 {
			err = fmt.Errorf("%w: it would have expired %v ago", state.ErrBadProperty, -q.Expires)
		} else {
			branch := state.Branch{Snapshot: q.At, Owner: q.Owner, Lasting: q.Expires}
			err = k.make(ctx, q.From, into, plan{at: q.At, method: q.Method, branch: &branch})
		}
	}
	if err != nil {
		return state.Status{}, fmt.Errorf("cannot fork %s as %s: %w", q.From, q.As, err)
	}
	return k.Status(ctx, into.Ref())
}

// beside is a component of another name with the properties of r.
func (k *Keeper) beside(r state.Ref, name, container string) (state.Component, error) {
	rec, err := k.load(r)
	if err != nil {
		return state.Component{}, err
	}
	if !state.ValidName(name) {
		return state.Component{}, fmt.Errorf("%w: %q cannot name a component (lower-case letters, digits, '-', '_' and '.')", state.ErrBadProperty, name)
	}
	if name == r.Component && (container == "" || container == r.Container) {
		return state.Component{}, fmt.Errorf("it is that component itself: %w", state.ErrInUse)
	}
	into := k.neighbour(rec.Component, name)
	if container != "" {
		into.Container = container
	}
	return k.normal(into)
}

func (k *Keeper) neighbour(c state.Component, name string) state.Component {
	if n, ok := k.modules[c.Module].(state.Neighbor); ok {
		return n.Beside(c, name)
	}
	c.Name = name
	return c
}

// make brings a component into being from another one's state.
func (k *Keeper) make(ctx context.Context, from state.Ref, into state.Component, p plan) error {
	if from == into.Ref() {
		return fmt.Errorf("it is that component itself: %w", state.ErrInUse)
	}
	unlock, err := k.locks.lockAll(ctx, []state.Ref{from, into.Ref()})
	if err != nil {
		return err
	}
	defer unlock()
	source, err := k.load(from)
	if err != nil {
		return err
	}
	if p.at == "" && !p.restore && source.Phase != state.PhaseActive {
		return state.ErrInactive
	}
	if p.replica && source.replica() {
		return fmt.Errorf("%w follow a replica (replicate %s)", state.ErrNotAble, source.Branch.Origin)
	}
	if source.Component.Module != into.Module {
		return fmt.Errorf("%w: a %s cannot be a copy of a %s", state.ErrBadProperty, into.Module, source.Component.Module)
	}
	if p.at != "" || p.restore {
		if p.at, err = k.choose(ctx, source, p.at); err != nil {
			return err
		}
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
	case old.replica():
		return fmt.Errorf("it exists and is a replica of %s: %w (make it anew with component replica rebuild, or delete it)", old.Branch.Origin, state.ErrInUse)
	case old.Forked != "" && old.Phase == state.PhaseActive && old.Branch != nil && old.Branch.Origin == from && !p.restore && !p.replica:
		return k.activate(ctx, into) // repeated
	default:
		return fmt.Errorf("it exists and is %s: %w (collect its garbage first)", old.Phase, state.ErrInUse)
	}
	return k.copy(ctx, source, into, p)
}

// copy makes a component that does not exist yet and activates it. An error leaves nothing of it.
func (k *Keeper) copy(ctx context.Context, source record, into state.Component, p plan) error {
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
	if err := module.Check(target.Component); err != nil {
		return err
	}
	if err := checkFree(ctx, module, target); err != nil { // before it is noted as ours to remove
		return err
	}
	if err := k.save(rec); err != nil {
		return err
	}
	began := time.Now()
	method, err := k.bring(ctx, source, rec, p)
	if err == nil {
		if !p.restore {
			rec.Forked, rec.Branch = method, branchOf(p.branch, from, method)
		}
		rec.enter(state.PhaseInactive)
		if err = k.save(rec); err == nil {
			err = k.activate(ctx, into)
		}
	}
	if err != nil {
		return errors.Join(err, k.abandon(context.WithoutCancel(ctx), rec))
	}
	if p.restore {
		if _, err := k.config.Store.Adopt(ctx, into.Ref(), reasonRestore, p.at); err != nil {
			return fmt.Errorf("restored, and cannot add a generation: %w", err)
		}
	}
	k.log.InfoContext(ctx, "copied", "component", from.String(), "into", into.Ref().String(), "method", method, "took", time.Since(began))
	return nil
}

// checkFree refuses a place that holds something already, which belongs to no component.
func checkFree(ctx context.Context, module state.Module, target state.Target) error {
	finder, ok := module.(state.Finder)
	if !ok {
		return nil
	}
	found, err := finder.Exists(ctx, target)
	if err == nil && found {
		err = fmt.Errorf("where its state would be, there is something that belongs to no component: %w (choose another name, or activate it)", state.ErrInUse)
	}
	return err
}

// branchOf completes what is known of a fork.
func branchOf(b *state.Branch, origin state.Ref, method string) *state.Branch {
	if b == nil {
		b = &state.Branch{}
	}
	whole := *b
	whole.Origin, whole.Method, whole.Created, whole.Expires = origin, method, time.Now().UTC(), time.Time{}
	if b.Lasting > 0 {
		whole.Expires = whole.Created.Add(b.Lasting)
	}
	return &whole
}

// bring gives a new component its state and says by which method.
func (k *Keeper) bring(ctx context.Context, source, into record, p plan) (method string, err error) {
	if p.at != "" {
		if p.method != "" && p.method != state.ForkRestore {
			return "", fmt.Errorf("%w: a stored snapshot is restored, by no other method (%s)", state.ErrBadProperty, p.method)
		}
		return state.ForkRestore, k.restoreFrom(ctx, into, p.at)
	}
	module, target, err := k.reach(into)
	if err != nil {
		return "", err
	}
	_, origin, err := k.reach(source)
	if err != nil {
		return "", err
	}
	if p.replica {
		return state.ForkReplica, replicate(ctx, module, origin, target)
	}
	forker, able := module.(state.Forker)
	methods, many := module.(state.MethodForker)
	switch {
	case p.method == "" && able:
		return forker.Fork(ctx, origin, target)
	case p.method == "" || p.method == state.ForkRestore:
		return state.ForkRestore, k.stream(ctx, into.Component, origin, target)
	case many && slices.Contains(methods.Methods(), p.method):
		return p.method, methods.ForkBy(ctx, origin, target, p.method)
	}
	known := []string{state.ForkRestore}
	if many {
		known = append(methods.Methods(), known...)
	}
	return "", fmt.Errorf("%w fork by method %q: %s (it knows %s)", state.ErrNotAble, p.method, into.Component.Module, strings.Join(known, ", "))
}

// stream restores into a component what another one's snapshot writes, without storing it.
func (k *Keeper) stream(ctx context.Context, c state.Component, origin, target state.Target) error {
	module, err := k.stateful(c)
	if err != nil {
		return err
	}
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := module.Snapshot(ctx, origin, w)
		w.CloseWithError(err)
		written <- err
	}()
	err = module.Restore(ctx, target, r)
	r.CloseWithError(errStoppedReading)
	if failed := <-written; failed != nil && !errors.Is(failed, errStoppedReading) {
		return failed
	}
	return err
}

// errStoppedReading ends a snapshot whose reader wants no more of it.
var errStoppedReading = errors.New("the restore stopped reading")

// abandon removes what there is of a component that did not come into being, or of a scratch copy.
func (k *Keeper) abandon(ctx context.Context, rec record) error {
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	if s, ok := module.(state.Stateful); ok {
		if err := s.CollectGarbage(ctx, target); err != nil {
			return fmt.Errorf("cannot remove the unfinished copy %s: %w", rec.ref(), err)
		}
	}
	return k.forget(rec.ref())
}
