package keeper

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"orrery/state"
)

// mirror is a ledger whose replicas are the same map as their source.
type mirror struct {
	*ledger
	broken bool
}

var _ state.Replicator = (*mirror)(nil)

func (m *mirror) Replicate(_ context.Context, from, into state.Target) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.do("replicate", into)
	m.books[into.Component.Name] = m.books[from.Component.Name]
	if m.broken {
		return errProbe
	}
	return nil
}

func (*mirror) Lag(context.Context, state.Target) (state.Lag, error) {
	return state.Lag{Linked: true, Bytes: 7}, nil
}

func (m *mirror) Promote(_ context.Context, t state.Target) (string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.do("promote", t)
	m.books[t.Component.Name] = maps.Clone(m.books[t.Component.Name])
	return state.ForkThin, nil
}

func openMirror(t *testing.T) (machine, *mirror) {
	t.Helper()
	l, store := &mirror{ledger: newLedger()}, newStore(t)
	k, err := Open(Config{Directory: t.TempDir(), Store: store.Store, Modules: []state.Module{l}})
	check(t, err)
	must(k.Activate(t.Context(), book("a")))(t)
	l.put("a", "x", "1")
	return machine{k, store}, l
}

func TestReplica(t *testing.T) {
	ctx := t.Context()
	m, l := openMirror(t)
	a, b := bookRef("a"), bookRef("b")
	s := must(m.Replicate(ctx, state.ReplicaRequest{From: a, As: "b", Owner: "ann", Expires: time.Hour}))(t)
	if s.Phase != state.PhaseActive || s.Forked != state.ForkReplica || s.Branch.Origin != a || s.Branch.Owner != "ann" || s.Branch.Expires.IsZero() {
		t.Errorf("%+v", s)
	}
	if lag := must(m.Lag(ctx, b))(t); !lag.Linked || lag.Bytes != 7 {
		t.Errorf("%+v", lag)
	}
	first := must(m.Snapshot(ctx, b, "manual"))(t)
	if again := must(m.Snapshot(ctx, a, "manual"))(t); again.Snapshot != first.Snapshot {
		t.Error("the replica's snapshot is another")
	}
	l.put("a", "x", "2")
	must(m.Snapshot(ctx, b, "manual"))(t)
	refused(t, m, first.Snapshot)
	if l.get("b", "x") != "2" {
		t.Error("a refused operation changed the replica")
	}
	must(m.Activate(ctx, s.Component))(t)
	check(t, m.Deactivate(ctx, b))
	if _, err := m.Lag(ctx, b); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
	if _, err := m.Promote(ctx, b); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
	must(m.Activate(ctx, s.Component))(t)
	if s = must(m.ResetFork(ctx, b))(t); s.Forked != state.ForkReplica || s.Branch.Owner != "ann" {
		t.Errorf("%+v", s)
	}

	s = must(m.Promote(ctx, b))(t)
	if s.Forked != state.ForkThin || s.Branch.Method != state.ForkThin || s.Branch.Origin != a || !s.Branch.Expires.IsZero() {
		t.Errorf("%+v", s)
	}
	l.put("a", "x", "3")
	check(t, m.Restore(ctx, b, first.Snapshot))
	if l.get("b", "x") != "1" || l.get("a", "x") != "3" {
		t.Error("the promoted replica is no component by itself")
	}
	if _, err := m.Promote(ctx, b); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
	check(t, m.Deactivate(ctx, a))
	check(t, m.CollectGarbage(ctx, a))
}

// refused tries what would change a replica b of a, or take its state away.
func refused(t *testing.T, m machine, id state.SnapshotID) {
	t.Helper()
	ctx := t.Context()
	a, b := bookRef("a"), bookRef("b")
	_, migrating := m.Migrate(ctx, b, false)
	_, restoring := m.RestoreAs(ctx, state.RestoreRequest{Ref: a, ID: id, With: []state.Restoring{{Ref: b, ID: id}}, Force: true})
	for what, err := range map[string]error{"restore": m.Restore(ctx, b, id), "migrate": migrating, "restore together": restoring} {
		if !errors.Is(err, state.ErrReplica) || !strings.Contains(err.Error(), "promote") || !strings.Contains(err.Error(), "ledger/a") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, as := range []string{"a", "b"} {
		if _, err := m.Replicate(ctx, state.ReplicaRequest{From: a, As: as}); !errors.Is(err, state.ErrInUse) {
			t.Errorf("as %s: %v", as, err)
		}
	}
	if _, err := m.Replicate(ctx, state.ReplicaRequest{From: b, As: "c"}); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "replicate ledger/a") {
		t.Error(err)
	}
	if _, err := m.ForkAs(ctx, state.ForkRequest{From: a, As: "b"}); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	check(t, m.Deactivate(ctx, b))
	if err := m.Stage(ctx, book("b"), id); !errors.Is(err, state.ErrReplica) {
		t.Error(err)
	}
	must(m.Activate(ctx, book("b")))(t)
	check(t, m.Deactivate(ctx, a))
	if err := m.CollectGarbage(ctx, a); !errors.Is(err, state.ErrInUse) || !strings.Contains(err.Error(), "its replica ledger/b") {
		t.Error(err)
	}
	must(m.Activate(ctx, book("a")))(t)
	if _, err := m.Lag(ctx, a); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
}

// What is interrupted leaves nothing, and an expired replica is deleted.
func TestReplicaEnds(t *testing.T) {
	ctx := t.Context()
	m, l := openMirror(t)
	l.broken = true
	if _, err := m.Replicate(ctx, state.ReplicaRequest{From: bookRef("a"), As: "b"}); !errors.Is(err, errProbe) {
		t.Error(err)
	}
	if _, err := m.Status(ctx, bookRef("b")); !errors.Is(err, state.ErrNotFound) || l.books["b"] != nil {
		t.Error(err)
	}
	l.broken = false
	must(m.Replicate(ctx, state.ReplicaRequest{From: bookRef("a"), As: "b", Expires: time.Nanosecond}))(t)
	check(t, m.Sweep(ctx))
	if _, err := m.Status(ctx, bookRef("b")); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	must(m.Replicate(ctx, state.ReplicaRequest{From: bookRef("a"), As: "b"}))(t)
	check(t, m.DeleteFork(ctx, bookRef("b")))
	check(t, m.Deactivate(ctx, bookRef("a")))
	if _, err := m.Replicate(ctx, state.ReplicaRequest{From: bookRef("a"), As: "b"}); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
	plain, _ := openLedger(t, Config{}, "a")
	if _, err := plain.Replicate(ctx, state.ReplicaRequest{From: bookRef("a"), As: "b"}); !errors.Is(err, state.ErrNotAble) {
		t.Error(err)
	}
	if _, err := plain.Replicate(ctx, state.ReplicaRequest{From: bookRef("a"), As: "b", Expires: -1}); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
}
