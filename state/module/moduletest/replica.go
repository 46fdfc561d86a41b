package moduletest

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
)

// Replicas says how replicas are tried of a module that makes them.
type Replicas struct {
	// Beside returns a component that was never activated and may become a replica of source. It cleans up behind the test.
	Beside func(t *testing.T, source state.Target, name string) state.Target
	// Digest and Change are those of the Harness, for a replica, and Change for one that was promoted.
	Digest func(t *testing.T, target state.Target) string
	Change func(t *testing.T, target state.Target, n int)
}

// RunReplicas tries replicas only, on a service that is not the one for everything else.
func RunReplicas(t *testing.T, h Harness) {
	t.Helper()
	r, ok := h.Module.(state.Replicator)
	if !ok || h.Replicas == nil {
		t.Fatal("the module makes no replicas, or the harness does not say how")
	}
	t.Run("Replicate", replicatorHarness{h, r}.replicate)
}

type replicatorHarness struct {
	Harness
	m state.Replicator
}

// follows waits until a replica has what its source has, and says so.
func (h replicatorHarness) follows(t *testing.T, source, replica state.Target) {
	t.Helper()
	want := h.Digest(t, source)
	testenv.Eventually(t, "the replica's having what its source has", func() bool {
		lag, err := h.m.Lag(t.Context(), replica)
		if err != nil || lag.Lost {
			t.Fatalf("%+v, %v", lag, err)
		}
		return lag.Linked && lag.Problem == "" && lag.Bytes == 0 && lag.Behind == 0 && h.Replicas.Digest(t, replica) == want
	})
}

func (h replicatorHarness) replicate(t *testing.T) {
	source := h.active(t, "replica-source")
	h.Change(t, source, 1)
	replica := h.Replicas.Beside(t, source, "replica@blue")
	if err := h.m.Replicate(t.Context(), source, replica); err != nil {
		t.Fatal(err)
	}
	if h.Replicas.Digest(t, replica) != h.Digest(t, source) {
		t.Error("a replica that was just made lacks what its source has")
	}
	if err := h.m.Replicate(t.Context(), source, replica); !errors.Is(err, state.ErrInUse) {
		t.Errorf("again: %v", err)
	}
	h.activate(t, replica)
	h.Change(t, source, 2)
	h.follows(t, source, replica)
	want := h.snapshot(t, h.m, source)
	testenv.Eventually(t, "the same snapshot of source and replica", func() bool { return bytes.Equal(h.snapshot(t, h.m, replica), want) })
	h.refuses(t, replica, want)
	h.deactivate(t, replica)
	if _, err := h.m.Lag(t.Context(), replica); !errors.Is(err, state.ErrInactive) {
		t.Errorf("lag of an inactive replica: %v", err)
	}
	h.Change(t, source, 3)
	h.activate(t, replica)
	h.follows(t, source, replica)
	h.restore(t, h.m, source, want)
	h.follows(t, source, replica)
	h.promote(t, source, replica)
}

// refuses tries what writes a component: only the source may change a replica.
func (h replicatorHarness) refuses(t *testing.T, replica state.Target, content []byte) {
	t.Helper()
	tried := map[string]error{"restore": h.m.Restore(t.Context(), replica, bytes.NewReader(content))}
	if m, ok := h.Module.(state.PartRestorer); ok {
		tried["part"] = m.RestorePart(t.Context(), replica, bytes.NewReader(content), "moon")
	}
	if m, ok := h.Module.(state.Migrator); ok {
		tried["migrate"] = m.Migrate(t.Context(), replica, state.Migration{Number: 1, Name: "0001-x.sql"}, []byte("select 1"))
	}
	if m, ok := h.Module.(state.Quiescer); ok {
		_, tried["quiesce"] = m.Quiesce(t.Context(), replica)
	}
	for what, err := range tried {
		if !errors.Is(err, state.ErrReplica) || !strings.Contains(err.Error(), "promote") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func (h replicatorHarness) promote(t *testing.T, source, replica state.Target) {
	t.Helper()
	before := h.Digest(t, source)
	for range 2 {
		if method, err := h.m.Promote(t.Context(), replica); err != nil || method == "" {
			t.Fatalf("%q, %v", method, err)
		}
	}
	if h.Replicas.Digest(t, replica) != before {
		t.Error("the promoted replica differs from its source")
	}
	h.Replicas.Change(t, replica, 4)
	if h.Digest(t, source) != before {
		t.Error("a change of the promoted replica is seen in its source")
	}
	after := h.Replicas.Digest(t, replica)
	h.Change(t, source, 5)
	h.deactivate(t, replica)
	h.activate(t, replica)
	if h.Replicas.Digest(t, replica) != after {
		t.Error("a change of the source is seen in the promoted replica")
	}
	for _, target := range []state.Target{source, replica} {
		if _, err := h.m.Lag(t.Context(), target); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("lag of what is no replica: %v", err)
		}
	}
	if _, err := h.m.Promote(t.Context(), source); !errors.Is(err, state.ErrBadProperty) {
		t.Errorf("promoted what is no replica: %v", err)
	}
	h.deactivate(t, replica)
	for range 2 {
		if err := h.m.CollectGarbage(t.Context(), replica); err != nil {
			t.Errorf("collect garbage: %v", err)
		}
	}
}
