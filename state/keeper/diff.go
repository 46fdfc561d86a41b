package keeper

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"lukechampine.com/blake3"

	"orrery/internal/extsort"
	"orrery/internal/progress"
	"orrery/state"
	"orrery/state/difference"
)

// view is one of two states that are compared.
type view struct {
	state.Aspect
	name   string // for errors
	module string
	target state.Target // of a live one
	// each has a reader of the snapshot's bytes, to their end.
	each func(ctx context.Context, read func(io.Reader) error) error
}

// Diff compares two stored snapshots; see state.Comparer.
func (l Library) Diff(ctx context.Context, q state.DiffRequest) (state.Difference, error) {
	if q.Old.Live != (state.Ref{}) || q.New.Live != (state.Ref{}) {
		return state.Difference{}, fmt.Errorf("cannot compare what is in a store elsewhere with a component as it is now: %w so", state.ErrNotAble)
	}
	before, err := l.stored(ctx, q.Old.ID)
	if err != nil {
		return state.Difference{}, err
	}
	after, err := l.stored(ctx, q.New.ID)
	if err != nil {
		return state.Difference{}, err
	}
	return l.compare(ctx, before, after, q.Records)
}

// Diff compares two states; see state.Comparer. Components that are compared as they are now are locked meanwhile.
func (k *Keeper) Diff(ctx context.Context, q state.DiffRequest) (state.Difference, error) {
	var refs []state.Ref
	for _, w := range []state.Which{q.Old, q.New} {
		if w.Live != (state.Ref{}) {
			refs = append(refs, w.Live)
		}
	}
	unlock, err := k.locks.lockAll(ctx, refs)
	if err != nil {
		return state.Difference{}, err
	}
	defer unlock()
	before, err := k.view(ctx, q.Old, q.New.Live)
	if err != nil {
		return state.Difference{}, err
	}
	after, err := k.view(ctx, q.New, q.Old.Live)
	if err != nil {
		return state.Difference{}, err
	}
	return k.Library().compare(ctx, before, after, q.Records)
}

// DiffFork compares a fork with what it was made of; see state.Brancher.
func (k *Keeper) DiffFork(ctx context.Context, q state.ForkDiffRequest) (state.Difference, error) {
	rec, err := k.load(q.Fork)
	switch {
	case err != nil:
		return state.Difference{}, fmt.Errorf("cannot compare %s: %w", q.Fork, err)
	case rec.Branch == nil:
		return state.Difference{}, fmt.Errorf("cannot compare %s with its origin: %w: it is no fork", q.Fork, state.ErrBadProperty)
	case q.Beginning && rec.Branch.Snapshot == "":
		return state.Difference{}, fmt.Errorf("cannot compare %s with its beginning: %w of that is stored, it was made of %s as that was then (compare it with that as it is now)",
			q.Fork, state.ErrNoSnapshot, rec.Branch.Origin)
	}
	old := state.Which{Live: rec.Branch.Origin}
	if q.Beginning {
		old = state.Which{ID: rec.Branch.Snapshot}
	} else if comparer, ok := k.modules[rec.Component.Module].(state.ForkComparer); ok {
		d, ok, err := k.diffApart(ctx, comparer, rec, q)
		if err != nil {
			return d, fmt.Errorf("cannot compare %s with %s: %w", q.Fork, rec.Branch.Origin, err)
		}
		if ok {
			return d, nil
		}
	}
	return k.Diff(ctx, state.DiffRequest{Old: old, New: state.Which{Live: q.Fork}, Records: q.Records})
}

// diffApart compares a fork that keeps apart what it changed; false if it is not of that kind.
func (k *Keeper) diffApart(ctx context.Context, comparer state.ForkComparer, rec record, q state.ForkDiffRequest) (d state.Difference, ok bool, err error) {
	unlock, err := k.locks.lockAll(ctx, []state.Ref{rec.ref(), rec.Branch.Origin})
	if err != nil {
		return d, false, err
	}
	defer unlock()
	origin, err := k.liveView(rec.Branch.Origin)
	if err != nil {
		return d, false, err
	}
	fork, err := k.liveView(rec.ref())
	if err != nil {
		return d, false, err
	}
	c := difference.Compare(options(k.modules[rec.Component.Module], q.Records))
	defer func() { err = errors.Join(err, c.Close()) }()
	ok, err = comparer.CompareFork(ctx, origin.target, fork.target, func(ofFork bool, i state.Item) error {
		if ofFork {
			return c.Add(difference.New, i)
		}
		return c.Add(difference.Old, i)
	})
	if err != nil || !ok {
		return d, ok, err
	}
	d = state.Difference{Module: fork.module, Partial: true, Old: origin.Aspect, New: fork.Aspect}
	d.Old.Size, d.New.Size = -1, -1
	d.Groups, err = c.Result(ctx)
	return d, true, err
}

// view finds one of two states. A stored one is of the kind of the other, if that is live.
func (k *Keeper) view(ctx context.Context, w state.Which, other state.Ref) (view, error) {
	if w.Live != (state.Ref{}) {
		return k.live(w.Live)
	}
	v, err := k.Library().stored(ctx, w.ID)
	if err != nil || other == (state.Ref{}) {
		return v, err
	}
	rec, err := k.load(other)
	if err != nil {
		return v, fmt.Errorf("cannot compare %s: %w", other, err)
	}
	if err := k.fits(ctx, state.Snapshot{ID: w.ID, Module: v.module}, rec.Component); err != nil {
		return v, fmt.Errorf("cannot compare %s: %w: %w", other, state.ErrBadProperty, err)
	}
	v.module = rec.Component.Module
	return v, nil
}

// stored is a snapshot of the store.
func (l Library) stored(ctx context.Context, id state.SnapshotID) (view, error) {
	s, err := l.Store.Get(ctx, id)
	if err != nil {
		return view{}, fmt.Errorf("cannot compare snapshot %.12s: %w", id, err)
	}
	v := view{Aspect: state.Aspect{ID: id, Size: s.Size}, name: fmt.Sprintf("snapshot %.12s", id), module: s.Module}
	v.each = func(ctx context.Context, read func(io.Reader) error) (err error) {
		r, err := l.Store.Open(ctx, id)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.Close()) }()
		task := progress.Start(ctx, "read "+v.name, s.Size)
		defer task.End()
		return read(task.Reader(r))
	}
	return v, nil
}

// live is a component as it is. Its lock is held.
func (k *Keeper) live(r state.Ref) (view, error) {
	v, err := k.liveView(r)
	if err != nil {
		return v, fmt.Errorf("cannot compare %s as it is now: %w", r, err)
	}
	return v, nil
}

func (k *Keeper) liveView(r state.Ref) (view, error) {
	rec, err := k.load(r)
	if err != nil {
		return view{}, err
	}
	module, err := k.stateful(rec.Component)
	if err != nil {
		return view{}, err
	}
	if rec.Phase == state.PhaseStaged {
		return view{}, fmt.Errorf("it was never active here: %w", state.ErrInactive)
	}
	_, target, err := k.reach(rec)
	if err != nil {
		return view{}, err
	}
	v := view{Aspect: state.Aspect{Live: &r}, name: r.String(), module: rec.Component.Module, target: target}
	v.each = func(ctx context.Context, read func(io.Reader) error) error {
		task := progress.Start(ctx, "read "+r.String(), 0)
		defer task.End()
		return piped(task, func(w io.Writer) error { return module.Snapshot(ctx, target, w) }, read)
	}
	return v, nil
}

// piped has read read what write writes.
func piped(task *progress.Task, write func(io.Writer) error, read func(io.Reader) error) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := write(w)
		w.CloseWithError(err)
		written <- err
	}()
	err := read(task.Reader(r))
	r.CloseWithError(errStoppedReading)
	if failed := <-written; failed != nil && !errors.Is(failed, errStoppedReading) {
		return failed
	}
	return err
}

// compare compares two states, the live ones first: where they are what is stored, that need not be read.
func (l Library) compare(ctx context.Context, before, after view, records int) (state.Difference, error) {
	d, err := l.compareViews(ctx, &before, &after, records)
	if err != nil {
		return d, fmt.Errorf("cannot compare %s with %s: %w", before.name, after.name, err)
	}
	return d, nil
}

func (l Library) compareViews(ctx context.Context, before, after *view, records int) (d state.Difference, err error) {
	d = state.Difference{Module: after.module, Groups: []state.Group{}}
	same := func() bool { return before.ID != "" && before.ID == after.ID }
	if before.module != after.module && !same() {
		return d, fmt.Errorf("%w: the one is of a %s, the other of a %s", state.ErrBadProperty, before.module, after.module)
	}
	module, err := l.module(after.module)
	if err != nil {
		return d, err
	}
	itemizer, able := module.(state.Itemizer)
	if !able {
		d.Unable = fmt.Sprintf("the module %s does not know what its snapshots consist of", after.module)
	}
	c := difference.Compare(options(module, records))
	defer func() { err = errors.Join(err, c.Close()) }()
	items, err := itemsOf(ctx, itemizer, before, after)
	if err != nil {
		return d, err
	}
	for _, live := range []bool{true, false} {
		for side, v := range []*view{before, after} {
			if live != (v.Live != nil) || !live && (!able || same()) {
				continue
			}
			if err := v.add(ctx, items, c, difference.Side(side)); err != nil { //nolint:gosec // 0 or 1
				return d, err
			}
		}
	}
	before.Records, after.Records = c.Records(difference.Old), c.Records(difference.New)
	d.Old, d.New, d.Same = before.Aspect, after.Aspect, same()
	switch {
	case d.Same:
		d.Old.Records = max(d.Old.Records, d.New.Records) // one of the two was not read
		d.New.Records = d.Old.Records
		d.Unable = ""
	case able:
		d.Groups, err = c.Result(ctx)
	}
	return d, err
}

// itemsFunc is state.Itemizer's Items.
type itemsFunc func(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error

// itemsOf is how the items of both sides are found; nil if they cannot be. Where keys are found before, both sides have the same.
func itemsOf(ctx context.Context, itemizer state.Itemizer, before, after *view) (itemsFunc, error) {
	finder, ok := itemizer.(state.KeyFinder)
	switch {
	case itemizer == nil:
		return nil, nil
	case !ok || before.ID != "" && before.ID == after.ID:
		return itemizer.Items, nil
	}
	var keys map[string][]string
	var err error
	from := before
	if before.Live == nil && after.Live != nil {
		from = after // it can be asked
	}
	if from.Live != nil {
		keys, err = finder.LiveKeys(ctx, from.target)
	} else {
		err = from.each(ctx, func(r io.Reader) error {
			keys, err = finder.Keys(ctx, r)
			return err
		})
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", from.name, err)
	}
	return func(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error {
		return finder.ItemsBy(ctx, keys, snapshot, visit)
	}, nil
}

// options are those of a comparison of a module's items.
func options(module state.Module, records int) difference.Options {
	o := difference.Options{Scratch: extsort.File(""), Records: max(records, 0)}
	if p, ok := module.(state.Presenter); ok {
		o.Group, o.Name = p.Group, p.Name
	}
	return o
}

// add reads a state whole, and adds its items to a comparison if there is somebody who can tell them. Of a live one the size
// and the id are known afterwards.
func (v *view) add(ctx context.Context, items itemsFunc, c *difference.Comparison, side difference.Side) error {
	hash := blake3.New(32, nil)
	var size int64
	err := v.each(ctx, func(r io.Reader) error {
		if v.Live != nil {
			r = io.TeeReader(r, hash)
		}
		counted := readerFunc(func(b []byte) (int, error) {
			n, err := r.Read(b)
			size += int64(n)
			return n, err
		})
		if items != nil {
			if err := items(ctx, counted, func(i state.Item) error { return c.Add(side, i) }); err != nil {
				return err
			}
		}
		return copyStream(ctx, io.Discard, counted)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", v.name, err)
	}
	if v.Live != nil {
		v.ID, v.Size = state.SnapshotID(hex.EncodeToString(hash.Sum(nil))), size
	}
	return nil
}
