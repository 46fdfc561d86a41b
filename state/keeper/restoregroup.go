package keeper

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"orrery/state"
)

// restored is a component of several that are restored together.
type restored struct {
	rec    record
	to     state.SnapshotID
	before state.SnapshotID // its state before, once that is replaced
}

// restoreTogether restores several components, all or none. What refers to any of them is out of service meanwhile.
func (k *Keeper) restoreTogether(ctx context.Context, q state.RestoreRequest) error {
	if q.Part != "" || q.As != "" {
		return fmt.Errorf("cannot restore several components: %w: neither a part nor another name is possible then", state.ErrBadProperty)
	}
	wanted := append([]state.Restoring{{Ref: q.Ref, ID: q.ID}}, q.With...)
	var refs []state.Ref
	for _, w := range wanted {
		if slices.Contains(refs, w.Ref) {
			return fmt.Errorf("cannot restore %s twice: %w", w.Ref, state.ErrBadProperty)
		}
		refs = append(refs, w.Ref)
	}
	stop, err := k.dependentsOf(refs)
	if err != nil {
		return err
	}
	locked := slices.Clone(refs)
	for _, d := range stop {
		locked = append(locked, d.ref())
	}
	unlock, err := k.locks.lockAll(ctx, locked)
	if err != nil {
		return err
	}
	defer unlock()
	members := make([]*restored, len(wanted))
	for i, w := range wanted {
		if members[i], err = k.toRestore(ctx, w); err != nil {
			return fmt.Errorf("cannot restore %s: %w (nothing was restored of the %d components)", w.Ref, err, len(wanted))
		}
	}
	// Again, now that nothing changes.
	if stop, err = k.dependentsOf(refs); err != nil {
		return err
	}
	if slices.ContainsFunc(stop, func(d record) bool { return !slices.Contains(locked, d.ref()) }) {
		return fmt.Errorf("cannot restore %d components: what refers to them is just being activated: %w (repeat it)", len(refs), state.ErrInUse)
	}
	return k.restoreInHooks(ctx, members, func() error { return k.replaceAll(ctx, members, q, stop) })
}

// dependentsOf are the components that refer to any of refs, and are not among them, in the order of their activation.
func (k *Keeper) dependentsOf(refs []state.Ref) ([]record, error) {
	all, err := k.records()
	if err != nil {
		return nil, err
	}
	of := map[state.Ref]bool{}
	for _, r := range refs {
		for _, d := range dependents(all, r) {
			of[d.ref()] = !slices.Contains(refs, d.ref())
		}
	}
	return slices.DeleteFunc(inOrder(all), func(rec record) bool { return !of[rec.ref()] }), nil
}

// toRestore finds out whether a component can be restored, as far as that can be known before.
func (k *Keeper) toRestore(ctx context.Context, w state.Restoring) (*restored, error) {
	rec, err := k.load(w.Ref)
	if err != nil {
		return nil, err
	}
	if err := k.free(ctx, rec); err != nil {
		return nil, err
	}
	if err := rec.changeable(); err != nil {
		return nil, err
	}
	if _, err := k.stateful(rec.Component); err != nil {
		return nil, err
	}
	if rec.Phase == state.PhaseStaged {
		return nil, fmt.Errorf("it was never active here: %w", state.ErrInactive)
	}
	id, err := k.choose(ctx, rec, w.ID)
	return &restored{rec: rec, to: id}, err
}

// restoreInHooks runs do between the hooks of all members.
func (k *Keeper) restoreInHooks(ctx context.Context, members []*restored, do func() error) error {
	if len(members) == 0 {
		return do()
	}
	o := &occasion{operation: OperationRestore, ref: members[0].rec.ref(), snapshot: members[0].to}
	return k.around(ctx, o, func() error { return k.restoreInHooks(ctx, members[1:], do) })
}

// replaceAll restores the members one after the other, and where that fails brings back those that were restored.
func (k *Keeper) replaceAll(ctx context.Context, members []*restored, q state.RestoreRequest, stop []record) (err error) {
	for _, m := range members {
		if err := k.untrack(m.rec.ref()); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, k.resumeAll(context.WithoutCancel(ctx), stop)) }()
	for _, d := range slices.Backward(stop) {
		if err := k.deactivate(ctx, d); err != nil {
			return fmt.Errorf("cannot stop %s, which refers to one of them: %w", d.ref(), err)
		}
	}
	for _, m := range members {
		if q.Force {
			break
		}
		if err := k.awaitClients(ctx, m.rec, q.Wait); err != nil {
			return fmt.Errorf("cannot restore %s: %w (nothing was restored of the %d components)", m.rec.ref(), err, len(members))
		}
	}
	return k.whileAllShut(ctx, members, q, func() error {
		for _, m := range members {
			if err := k.replaceOne(ctx, m); err != nil {
				err = fmt.Errorf("cannot restore %s: %w", m.rec.ref(), err)
				return errors.Join(err, k.bringBack(context.WithoutCancel(ctx), members))
			}
		}
		return nil
	})
}

// whileAllShut does something while clients can reach none of the members.
func (k *Keeper) whileAllShut(ctx context.Context, members []*restored, q state.RestoreRequest, do func() error) error {
	if len(members) == 0 {
		return do()
	}
	return k.whileShut(ctx, members[0].rec, q, func() error { return k.whileAllShut(ctx, members[1:], q, do) })
}

func (k *Keeper) resumeAll(ctx context.Context, stopped []record) error {
	var failed []error
	for _, d := range stopped {
		if err := k.resume(ctx, d); err != nil {
			failed = append(failed, fmt.Errorf("cannot activate %s again: %w", d.ref(), err))
		}
	}
	return errors.Join(failed...)
}

// replaceOne restores a member whose state before can be read: without that it could not be brought back.
func (k *Keeper) replaceOne(ctx context.Context, m *restored) error {
	before, err := k.snapshot(ctx, m.rec, reasonPreRestore)
	if err != nil {
		return fmt.Errorf("the state before is in no snapshot (restore it alone): %w", err)
	}
	if before.Snapshot == m.to {
		return nil
	}
	if err := k.restoreFrom(ctx, m.rec, m.to); err != nil {
		return err
	}
	m.before = before.Snapshot
	if _, err := k.config.Store.Adopt(ctx, m.rec.ref(), reasonRestore, m.to); err != nil {
		return fmt.Errorf("restored, and cannot add a generation: %w", err)
	}
	return nil
}

// bringBack restores the state before of those members that have another one by now.
func (k *Keeper) bringBack(ctx context.Context, members []*restored) error {
	var failed []error
	for _, m := range slices.Backward(members) {
		if m.before == "" {
			continue
		}
		err := k.restoreFrom(ctx, m.rec, m.before)
		if err == nil {
			_, err = k.config.Store.Adopt(ctx, m.rec.ref(), reasonRestore, m.before)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("cannot bring back what %s was before (its snapshot is %s): %w", m.rec.ref(), m.before, err))
		}
	}
	return errors.Join(failed...)
}
