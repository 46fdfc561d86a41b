package keeper

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"orrery/internal/progress"
	"orrery/state"
)

// Reasons of the generations that the keeper makes by itself.
const (
	reasonPreRestore = "pre-restore"
	reasonRestore    = "restore"
	// reasonRestoreUnread is that of a restore over a state that could not be read.
	reasonRestoreUnread = "restore-over-unreadable"
	reasonGarbage       = "pre-garbage"
	reasonPreMigration  = "pre-migration"
)

// Snapshot takes a snapshot into the store; see state.Keeper.
func (k *Keeper) Snapshot(ctx context.Context, r state.Ref, reason string) (state.Generation, error) {
	unlock, err := k.locks.lock(ctx, r)
	if err != nil {
		return state.Generation{}, err
	}
	defer unlock()
	rec, err := k.load(r)
	if err != nil {
		return state.Generation{}, fmt.Errorf("cannot take a snapshot of %s: %w", r, err)
	}
	if k.tracker(r) != nil { // a move, whose snapshots are its own business
		g, err := k.snapshot(ctx, rec, reason)
		if err != nil {
			return g, fmt.Errorf("cannot take a snapshot of %s: %w", r, err)
		}
		return g, nil
	}
	var g state.Generation
	o := &occasion{operation: OperationSnapshot, ref: r}
	err = k.around(ctx, o, func() error {
		g, err = k.snapshot(ctx, rec, reason)
		o.generation, o.snapshot = g.Number, g.Snapshot
		return err
	})
	if err != nil {
		return g, fmt.Errorf("cannot take a snapshot of %s: %w", r, err)
	}
	return g, nil
}

func (k *Keeper) snapshot(ctx context.Context, rec record, reason string) (state.Generation, error) {
	return k.snapshotInto(ctx, rec, reason, state.Source{}, func() {})
}

// snapshotInto is snapshot, with what source says of its group and tags. It calls begun once the moment of the snapshot has
// come, as early as it knows.
func (k *Keeper) snapshotInto(ctx context.Context, rec record, reason string, source state.Source, begun func()) (state.Generation, error) {
	defer begun()
	module, err := k.stateful(rec.Component)
	if err != nil {
		return state.Generation{}, err
	}
	if rec.Phase == state.PhaseStaged {
		return state.Generation{}, fmt.Errorf("it was never active here: %w", state.ErrInactive)
	}
	_, target, err := k.reach(rec)
	if err != nil {
		return state.Generation{}, err
	}
	began := time.Now()
	var g state.Generation
	source.Server = k.version(ctx, rec, target)
	if t := k.tracker(rec.ref()); t != nil {
		g, err = k.saveTracked(ctx, rec, reason, t, source, begun)
	} else {
		source.Write = func(w io.Writer) error { return module.Snapshot(ctx, target, &beginning{w, begun}) }
		g, err = k.config.Store.Save(ctx, rec.ref(), rec.Component.Module, reason, source)
	}
	if err != nil {
		return g, err
	}
	k.log.InfoContext(ctx, "snapshot taken", "component", rec.ref().String(), "reason", reason, "snapshot", string(g.Snapshot),
		"generation", g.Number, "bytes", g.Size, "stored", g.Stored, "took", time.Since(began))
	return g, nil
}

// beginning calls begun before anything is written.
type beginning struct {
	to    io.Writer
	begun func()
}

// Write implements io.Writer.
func (b *beginning) Write(p []byte) (int, error) {
	b.begun()
	return b.to.Write(p)
}

// version is what hosts the component, empty if that is not known: a snapshot does not fail for want of it.
func (k *Keeper) version(ctx context.Context, rec record, target state.Target) string {
	v, ok := k.modules[rec.Component.Module].(state.Versioner)
	if !ok || rec.Phase != state.PhaseActive {
		return ""
	}
	version, err := v.Version(ctx, target)
	if err != nil {
		k.log.WarnContext(ctx, "cannot find a server's version", "component", rec.ref().String(), "error", err)
		return ""
	}
	return version
}

// Restore replaces a component's state by a snapshot; see state.Keeper. Active components of this machine that
// refer to it are taken out of service meanwhile, so that they do not go on with the state before. The
// restored state becomes the newest generation, with reason "restore", so that repeating a restore changes nothing.
func (k *Keeper) Restore(ctx context.Context, r state.Ref, id state.SnapshotID) error {
	return k.restoreInto(ctx, state.RestoreRequest{Ref: r, ID: id, Force: true})
}

// restoreInto carries out a restore into the component itself.
func (k *Keeper) restoreInto(ctx context.Context, q state.RestoreRequest) error {
	if len(q.With) > 0 {
		return k.restoreTogether(ctx, q)
	}
	r := q.Ref
	all, err := k.records()
	if err != nil {
		return err
	}
	refs := []state.Ref{r}
	for _, rec := range dependents(all, r) {
		refs = append(refs, rec.ref())
	}
	unlock, err := k.locks.lockAll(ctx, refs)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := k.load(r)
	if err == nil {
		err = k.free(ctx, rec)
	}
	if err == nil {
		err = rec.changeable()
	}
	if err != nil {
		return fmt.Errorf("cannot restore %s: %w", r, err)
	}
	// Again, now that nothing changes; what began to depend on it meanwhile is not locked, and an error.
	if all, err = k.records(); err != nil {
		return err
	}
	stop := dependents(all, r)
	if slices.ContainsFunc(stop, func(d record) bool { return !slices.Contains(refs, d.ref()) }) {
		return fmt.Errorf("cannot restore %s: what refers to it is just being activated: %w (repeat it)", r, state.ErrInUse)
	}
	if err := k.restore(ctx, rec, q, stop); err != nil {
		return fmt.Errorf("cannot restore %s: %w", r, err)
	}
	return nil
}

func (k *Keeper) restore(ctx context.Context, rec record, q state.RestoreRequest, stop []record) (err error) {
	if _, err := k.stateful(rec.Component); err != nil {
		return err
	}
	if rec.Phase == state.PhaseStaged {
		return fmt.Errorf("it was never active here: %w", state.ErrInactive)
	}
	if q.ID, err = k.choose(ctx, rec, q.ID); err != nil {
		return err
	}
	o := &occasion{operation: OperationRestore, ref: rec.ref(), snapshot: q.ID}
	return k.around(ctx, o, func() error { return k.restoreAlone(ctx, rec, q, stop) })
}

// restoreAlone restores while what refers to the component is out of service.
func (k *Keeper) restoreAlone(ctx context.Context, rec record, q state.RestoreRequest, stop []record) (err error) {
	if err := k.untrack(rec.ref()); err != nil {
		return err
	}
	defer func() {
		for _, d := range slices.Backward(stop) {
			if again := k.resume(context.WithoutCancel(ctx), d); again != nil {
				err = errors.Join(err, fmt.Errorf("cannot activate %s again: %w", d.ref(), again))
			}
		}
	}()
	for _, d := range stop {
		k.log.InfoContext(ctx, "stopped during a restore", "component", d.ref().String(), "restored", rec.ref().String())
		if err := k.deactivate(ctx, d); err != nil {
			return fmt.Errorf("cannot stop %s, which refers to it: %w", d.ref(), err)
		}
	}
	if !q.Force {
		if err := k.awaitClients(ctx, rec, q.Wait); err != nil {
			return err
		}
	}
	return k.whileShut(ctx, rec, q, func() error { return k.replace(ctx, rec, q) })
}

// whileShut does something while clients cannot reach an active component, where its module knows about clients. What
// they wrote after the snapshot of the state before, and were told is safe, would be lost otherwise.
func (k *Keeper) whileShut(ctx context.Context, rec record, q state.RestoreRequest, do func() error) (err error) {
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	if _, ok := module.(state.Clients); !ok || rec.Phase != state.PhaseActive || q.Part != "" {
		return do()
	}
	rec.Shut = true // recorded first, so that the next command opens what a crash leaves shut
	if err := k.save(rec); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.open(context.WithoutCancel(ctx), &rec)) }()
	if err := module.Deactivate(ctx, target); err != nil {
		return fmt.Errorf("cannot keep clients out: %w", err)
	}
	return do()
}

// open lets clients reach a component again.
func (k *Keeper) open(ctx context.Context, rec *record) error {
	if rec.Phase == state.PhaseActive {
		if err := k.resume(ctx, *rec); err != nil {
			return fmt.Errorf("clients cannot reach it (activate it): %w", err)
		}
	}
	rec.Shut = false
	return k.save(*rec)
}

// resume activates a component that was stopped for a while.
func (k *Keeper) resume(ctx context.Context, rec record) error {
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	return module.Activate(ctx, target)
}

// choose finds the snapshot to restore and verifies it.
func (k *Keeper) choose(ctx context.Context, rec record, id state.SnapshotID) (state.SnapshotID, error) {
	if id == "" {
		generations, err := k.config.Store.Generations(ctx, rec.ref())
		if err != nil {
			return "", err
		}
		if len(generations) == 0 {
			return "", state.ErrNoSnapshot
		}
		id = generations[len(generations)-1].Snapshot
	}
	s, err := k.config.Store.Get(ctx, id)
	if err != nil {
		return "", err
	}
	if err := k.fits(ctx, s, rec.Component); err != nil {
		return "", err
	}
	return id, k.config.Store.Verify(ctx, id)
}

// fits says whether a snapshot is one of a component's kind. Where two modules wrote the same bytes, the store describes
// them by the first of the two; so what is in the component's own history fits, whatever the description says.
func (k *Keeper) fits(ctx context.Context, s state.Snapshot, c state.Component) error {
	if s.Module == c.Module {
		return nil
	}
	generations, err := k.config.Store.Generations(ctx, c.Ref())
	if err != nil {
		return err
	}
	if slices.ContainsFunc(generations, func(g state.Generation) bool { return g.Snapshot == s.ID }) {
		return nil
	}
	return fmt.Errorf("snapshot %s is of a %s, not of a %s", s.ID, s.Module, c.Module)
}

// replace restores a verified snapshot over the present state, which becomes a generation if it can be read.
func (k *Keeper) replace(ctx context.Context, rec record, q state.RestoreRequest) error {
	before, err := k.snapshot(ctx, rec, reasonPreRestore)
	reason := reasonRestore
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && q.Part != "":
		return fmt.Errorf("the state before is in no snapshot: %w", err)
	case err != nil:
		// The module keeps the files that it cannot read.
		reason = reasonRestoreUnread
		k.log.WarnContext(ctx, "the state before a restore cannot be read, so there is no generation of it",
			"component", rec.ref().String(), "error", err)
	case before.Snapshot == q.ID:
		k.log.InfoContext(ctx, "nothing to restore, the state is the snapshot's", "component", rec.ref().String(), "snapshot", string(q.ID))
		return nil
	}
	if q.Part != "" {
		return k.replacePart(ctx, rec, q)
	}
	if err := k.restoreFrom(ctx, rec, q.ID); err != nil {
		return err
	}
	g, err := k.config.Store.Adopt(ctx, rec.ref(), reason, q.ID)
	if err != nil {
		return fmt.Errorf("restored, and cannot add a generation: %w", err)
	}
	k.log.InfoContext(ctx, "restored", "component", rec.ref().String(), "snapshot", string(q.ID), "generation", g.Number)
	return nil
}

// restoreFrom has the module read a snapshot.
func (k *Keeper) restoreFrom(ctx context.Context, rec record, id state.SnapshotID) (err error) {
	module, err := k.stateful(rec.Component)
	if err != nil {
		return err
	}
	_, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	reader, err := k.config.Store.Open(ctx, id)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, reader.Close()) }()
	task := progress.Start(ctx, "restore "+rec.ref().String(), reader.Size())
	defer task.End()
	warning := k.newerServer(ctx, rec, target, id)
	if warning != "" {
		k.log.WarnContext(ctx, "a restore from a newer server", "component", rec.ref().String(), "snapshot", string(id), "because", warning)
	}
	if err = module.Restore(ctx, target, task.Reader(reader)); err != nil && warning != "" && ctx.Err() == nil {
		err = fmt.Errorf("%s: %w", warning, err)
	}
	return err
}

// CollectGarbage deletes the state of an inactive component; see state.Keeper. Nothing happens if there is none.
func (k *Keeper) CollectGarbage(ctx context.Context, r state.Ref) error {
	unlock, err := k.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := k.load(r)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err == nil {
		err = k.collect(ctx, rec)
	}
	if err != nil {
		return fmt.Errorf("cannot collect the garbage of %s: %w", r, err)
	}
	k.log.InfoContext(ctx, "garbage collected", "component", r.String())
	return nil
}

func (k *Keeper) collect(ctx context.Context, rec record) error {
	if rec.Phase == state.PhaseActive {
		return fmt.Errorf("%w (deactivate it first)", state.ErrActive)
	}
	if err := k.free(ctx, rec); err != nil {
		return err
	}
	if err := k.unfollowed(rec.ref()); err != nil {
		return err
	}
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	if err := k.discard(ctx, module, target); err != nil {
		return err
	}
	_, stateful := module.(state.Stateful)
	if stateful && rec.Phase == state.PhaseInactive && rec.Component.Session == "" && rec.Forking == nil && !rec.Collecting {
		g, err := k.snapshot(ctx, rec, reasonGarbage)
		if err != nil {
			return fmt.Errorf("its last state is in no snapshot: %w", err)
		}
		if err := k.config.Store.Verify(ctx, g.Snapshot); err != nil {
			return err
		}
	}
	return k.removeState(ctx, rec)
}

// removeState deletes what may be deleted. That is recorded first: a part of a state is none.
func (k *Keeper) removeState(ctx context.Context, rec record) error {
	module, target, err := k.reach(rec)
	if err != nil {
		return err
	}
	if s, ok := module.(state.Stateful); ok {
		rec.Collecting = true
		if err := k.save(rec); err != nil {
			return err
		}
		if err := s.CollectGarbage(ctx, target); err != nil {
			return err
		}
	}
	return k.forget(rec.ref())
}
