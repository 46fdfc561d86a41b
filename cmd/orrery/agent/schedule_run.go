package agent

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orrery/state"
	"orrery/state/retention"
	"orrery/state/schedule"
)

// Run carries out on m what is due, or with now all; done hears of each snapshot. The error says what failed. While
// another process carries out the schedule nothing is done, and the error is state.ErrInUse.
func (s Schedule) Run(ctx context.Context, m Machine, now bool, done func(policy string, r state.Ref)) error {
	patience := time.Duration(0)
	if now { // somebody wants it done: a node that only looks is soon over
		patience = editPatience
	}
	unlock, err := s.lock(ctx, runLock, patience)
	if err != nil {
		return err
	}
	defer unlock()
	policies, err := s.Policies()
	if err != nil {
		return err
	}
	past, err := s.Past() // after the lock, so that what another process has done is not due
	if err != nil {
		return err
	}
	for name := range past {
		if !hasPolicy(policies, name) {
			delete(past, name)
		}
	}
	var failed []error
	for _, p := range policies {
		when, err := schedule.Parse(p.When)
		if err != nil {
			return err
		}
		before := past[p.Name]
		if !now && !when.Due(before.Last, time.Now()) {
			continue
		}
		after, err := s.carryOut(ctx, m, p, before, done)
		if ctx.Err() != nil {
			return ctx.Err() // it stays due
		}
		past[p.Name] = after
		failed = append(failed, err, saveJSON(s.file(pastFile), past))
	}
	return errors.Join(failed...)
}

func hasPolicy(policies []schedule.Policy, name string) bool {
	for _, p := range policies {
		if p.Name == name {
			return true
		}
	}
	return false
}

// carryOut takes the snapshots of one policy, one component after the other.
func (s Schedule) carryOut(ctx context.Context, m Machine, p schedule.Policy, past schedule.Past, done func(policy string, r state.Ref)) (schedule.Past, error) {
	everything, err := m.Stateful(ctx)
	if err != nil {
		return past, fmt.Errorf("policy %s: %w", p.Name, err)
	}
	past.Started(time.Now())
	var failed []error
	for _, ref := range p.Components(everything) {
		if err := take(ctx, m, p, ref, past); err != nil {
			past.Failed[ref.String()] = err.Error()
			failed = append(failed, fmt.Errorf("policy %s: %w", p.Name, err))
			continue
		}
		done(p.Name, ref)
	}
	return past, errors.Join(failed...)
}

// take takes one component's snapshot, looks at it as the policy says, and drops old ones once it is good.
func take(ctx context.Context, m Machine, p schedule.Policy, ref state.Ref, past schedule.Past) error {
	began := time.Now()
	taken, err := m.Care.TakeSnapshots(ctx, state.SnapshotRequest{Refs: []state.Ref{ref}, Reason: "schedule"})
	if err != nil {
		return err
	}
	past.Taken[ref.String()] = began
	id := taken[0].Snapshot
	verified := p.Verify > 0 && past.Count%p.Verify == 0
	if verified {
		if err := m.Store.Verify(ctx, id); err != nil {
			return fmt.Errorf("snapshot %s of %s: %w", id, ref, err)
		}
		at := time.Now()
		if _, err := m.Store.Relabel(ctx, ref, taken[0].Number, state.Relabel{Verified: &at}); err != nil {
			return err
		}
	}
	if p.Test > 0 && past.Count%p.Test == 0 {
		if _, err := m.Care.TestRestore(ctx, ref, id); err != nil {
			return err
		}
		verified = true
	}
	if verified || p.Verify == 0 {
		past.Good[ref.String()] = began
	}
	if !retention.Empty(p.Retention) {
		_, err = m.Store.Prune(ctx, ref, p.Retention, false)
	}
	return err
}

// schedulePoll is how often a node looks for what is due.
const schedulePoll = 5 * time.Second

// keepSchedule carries out what the node's folder has a schedule of, until ctx ends.
func (n *Node) keepSchedule(ctx context.Context) error {
	s := Schedule{Dir: n.dir}
	m := Machine{Keeper: n.local.keeper, Store: n.local.store, Care: n.local.keeper, Modules: func(context.Context) ([]state.Description, error) {
		return n.local.describe(), nil
	}}
	ticker := time.NewTicker(schedulePoll)
	defer ticker.Stop()
	complained := ""
	for {
		err := s.Run(ctx, m, false, func(policy string, r state.Ref) {
			n.log.InfoContext(ctx, "snapshot by schedule", "policy", policy, "component", r.String())
		})
		// What fails each time, such as a schedule that cannot be read, is said once.
		switch {
		case err == nil:
			complained = ""
		case ctx.Err() == nil && !errors.Is(err, state.ErrInUse) && err.Error() != complained:
			n.log.ErrorContext(ctx, "the schedule of snapshots failed", "error", err)
			complained = err.Error()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}
