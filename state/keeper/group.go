package keeper

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"orrery/state"
)

// TakeSnapshots takes snapshots of one component or of several together; see state.Archivist.
func (k *Keeper) TakeSnapshots(ctx context.Context, q state.SnapshotRequest) ([]state.Generation, error) {
	refs := slices.Clone(q.Refs)
	slices.SortFunc(refs, func(a, b state.Ref) int { return strings.Compare(a.String(), b.String()) })
	refs = slices.Compact(refs)
	for _, tag := range q.Tags {
		if !state.ValidTag(tag) {
			return nil, fmt.Errorf("%w: tag %.80q has other than letters, digits and \"_.:-\", at most 64", state.ErrBadProperty, tag)
		}
	}
	unlock, err := k.locks.lockAll(ctx, refs)
	if err != nil {
		return nil, err
	}
	defer unlock()
	members := make([]*member, len(refs))
	for i, r := range refs {
		if members[i], err = k.member(ctx, r, q.Check); err != nil {
			return nil, fmt.Errorf("cannot take a snapshot of %s: %w%s", r, err, nothingSaved(refs))
		}
	}
	source := state.Source{Tags: q.Tags}
	if len(refs) > 1 {
		source.Group = strings.ToLower(rand.Text()[:16])
	}
	return k.inHooks(ctx, members, func() ([]state.Generation, error) { return k.together(ctx, members, q.Reason, source) })
}

func nothingSaved(refs []state.Ref) string {
	if len(refs) < 2 {
		return ""
	}
	return fmt.Sprintf(" (nothing was saved of the %d components)", len(refs))
}

// member is a component of a group.
type member struct {
	rec        record
	target     state.Target
	quiescer   state.Quiescer              // nil: it cannot be kept still in this way
	resume     func(context.Context) error // while it is kept still so
	locker     state.Locker                // nil: it cannot hold still, or does already
	held       bool
	begun      chan struct{} // closed when the moment of its snapshot has come
	generation state.Generation
	err        error
}

// member prepares a component: everything that may be refused before others are held up.
func (k *Keeper) member(ctx context.Context, r state.Ref, check bool) (*member, error) {
	rec, err := k.load(r)
	if err != nil {
		return nil, err
	}
	if _, err := k.stateful(rec.Component); err != nil {
		return nil, err
	}
	module, target, err := k.reach(rec)
	if err != nil {
		return nil, err
	}
	m := &member{rec: rec, target: target, begun: make(chan struct{})}
	if rec.Phase != state.PhaseActive {
		return m, nil
	}
	if integrity, ok := module.(state.Integrity); ok && check {
		if err := integrity.Integrity(ctx, target); err != nil {
			return nil, fmt.Errorf("its integrity: %w", err)
		}
	}
	m.quiescer, _ = module.(state.Quiescer)
	if locker, ok := module.(state.Locker); ok && rec.Lease == nil && m.quiescer == nil {
		m.locker = locker
	}
	return m, nil
}

// inHooks runs do between the hooks of all members.
func (k *Keeper) inHooks(ctx context.Context, members []*member, do func() ([]state.Generation, error)) (all []state.Generation, err error) {
	if len(members) == 0 {
		return do()
	}
	first := members[0]
	o := &occasion{operation: OperationSnapshot, ref: first.rec.ref()}
	err = k.around(ctx, o, func() error {
		all, err = k.inHooks(ctx, members[1:], do)
		o.generation, o.snapshot = first.generation.Number, first.generation.Snapshot
		return err
	})
	return all, err
}

// together takes the snapshots of all members. Of several, nobody sees any before all are there.
func (k *Keeper) together(ctx context.Context, members []*member, reason string, source state.Source) (all []state.Generation, err error) {
	if len(members) < 2 {
		for _, m := range members {
			m.generation, m.err = k.snapshotInto(ctx, m.rec, reason, source, func() {})
		}
		return outcome(members)
	}
	var refs []state.Ref
	for _, m := range members {
		refs = append(refs, m.rec.ref())
	}
	source.GroupSize = len(members)
	if err := k.beginGroup(source.Group, refs); err != nil {
		return nil, err
	}
	err = k.atOnePoint(ctx, members, reason, source)
	if err == nil {
		all, err = k.config.Store.Conclude(ctx, source.Group, refs)
	}
	if err != nil {
		settled, failed := k.settleGroup(context.WithoutCancel(ctx), source.Group, refs)
		switch {
		case failed != nil:
			return nil, errors.Join(err, fmt.Errorf("%w (the next command drops what was saved)", failed))
		case settled == nil:
			return nil, fmt.Errorf("%w%s", err, nothingSaved(refs))
		}
		all = settled
	} else if err := k.endGroup(source.Group); err != nil {
		return nil, err
	}
	for i, m := range members {
		m.generation = all[i]
	}
	return all, nil
}

// atOnePoint holds the members still, takes their snapshots at the same time and lets them go on: those that are kept still for
// the moment only when it has come for all, the others when all snapshots are complete.
func (k *Keeper) atOnePoint(ctx context.Context, members []*member, reason string, source state.Source) (err error) {
	defer func() {
		err = errors.Join(err, resume(context.WithoutCancel(ctx), members), k.goOn(context.WithoutCancel(ctx), members))
	}()
	for _, m := range members {
		if err := k.holdStill(ctx, m); err != nil {
			return fmt.Errorf("cannot take a snapshot of %s: %w", m.rec.ref(), err)
		}
	}
	var running sync.WaitGroup
	for _, m := range members {
		begun := sync.OnceFunc(func() { close(m.begun) })
		early := begun
		if m.quiescer == nil {
			early = func() {}
		}
		running.Go(func() {
			defer begun()
			m.generation, m.err = k.snapshotInto(ctx, m.rec, reason, source, early)
		})
	}
	for _, m := range members {
		<-m.begun
	}
	resumed := resume(context.WithoutCancel(ctx), members)
	running.Wait()
	_, err = outcome(members)
	return errors.Join(err, resumed)
}

// resume lets the clients of those go on that are kept still.
func resume(ctx context.Context, members []*member) error {
	var failed []error
	for _, m := range slices.Backward(members) {
		if m.resume == nil {
			continue
		}
		if err := m.resume(ctx); err != nil {
			failed = append(failed, fmt.Errorf("cannot let the clients of %s go on: %w", m.rec.ref(), err))
		}
		m.resume = nil
	}
	return errors.Join(failed...)
}

// outcome gathers the generations, or says what failed.
func outcome(members []*member) ([]state.Generation, error) {
	var all []state.Generation
	var failed []error
	for _, m := range members {
		if m.err != nil {
			failed = append(failed, fmt.Errorf("cannot take a snapshot of %s: %w", m.rec.ref(), m.err))
			continue
		}
		all = append(all, m.generation)
	}
	return all, errors.Join(failed...)
}

// holdStill asks a member to hold still. That is recorded first, so that what a crash leaves so is let go.
func (k *Keeper) holdStill(ctx context.Context, m *member) (err error) {
	if m.quiescer != nil {
		m.resume, err = m.quiescer.Quiesce(ctx, m.target)
		return err
	}
	if m.locker == nil {
		return nil
	}
	m.rec.Holding = true
	if err := k.save(m.rec); err != nil {
		return err
	}
	m.held = true
	return m.locker.Lock(ctx, m.target)
}

// goOn lets the members go on that were held.
func (k *Keeper) goOn(ctx context.Context, members []*member) error {
	var failed []error
	for _, m := range slices.Backward(members) {
		if m.held {
			failed = append(failed, k.letGo(ctx, &m.rec))
		}
	}
	return errors.Join(failed...)
}

// letGo ends the holding still for a group.
func (k *Keeper) letGo(ctx context.Context, rec *record) error {
	module, target, err := k.reach(*rec)
	if err != nil {
		return err
	}
	if locker, ok := module.(state.Locker); ok && rec.Phase == state.PhaseActive {
		if err := locker.Unlock(ctx, target); err != nil {
			return fmt.Errorf("cannot unlock %s: %w", rec.ref(), err)
		}
	}
	rec.Holding = false
	return k.save(*rec)
}
