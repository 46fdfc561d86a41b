package postgresql

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
)

var keepLog sync.Once

// newReplica is a component that is to be a replica of source, with what it leaves behind looked at when the test ends.
func newReplica(t *testing.T, source state.Target, name, folder string) state.Target {
	t.Helper()
	m := New(Config{})
	keepLog.Do(func() { // other tests write a lot, and have the server remove it
		execute(t, "postgres", "alter system set wal_keep_size = '512MB'")
		execute(t, "postgres", "select pg_reload_conf()")
	})
	source.Container.Properties["forks"] = folder
	into := source
	into.Component = m.Beside(source.Component, name)
	into.Directory = t.TempDir()
	t.Cleanup(func() {
		for range 2 {
			if err := m.CollectGarbage(context.Background(), into); err != nil {
				t.Error(err)
			}
		}
		if left, err := filepath.Glob(filepath.Join(folder, "fork-*")); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
	return into
}

// follows waits until a replica has all that its source has.
func follows(t *testing.T, source, replica state.Target) {
	t.Helper()
	want := digestOf(t, source)
	var lag state.Lag
	defer func() {
		if t.Failed() {
			t.Logf("%+v", lag)
		}
	}()
	testenv.Eventually(t, "the replica's having what its source has", func() bool {
		lag = lagOf(t, replica)
		return lag.Linked && lag.Bytes == 0 && lag.Behind == 0 && lag.Problem == "" && thinDigest(t, replica, digestQuery) == want
	})
}

func lagOf(t *testing.T, replica state.Target) state.Lag {
	t.Helper()
	lag, err := New(Config{}).Lag(t.Context(), replica)
	if err != nil {
		t.Fatal(err)
	}
	return lag
}

func TestReplica(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	source := newTarget(t, "replica-source")
	replica := newReplica(t, source, "replica@blue", testenv.Reachable(t))
	activate(t, source)
	change(t, source, 1)
	if err := m.Replicate(t.Context(), source, replica); err != nil {
		t.Fatal(err)
	}
	if err := m.Replicate(t.Context(), source, replica); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	activate(t, replica)
	follows(t, source, replica)
	change(t, source, 2)
	follows(t, source, replica)
	if err := m.Health(t.Context(), replica); err != nil {
		t.Error(err)
	}
	sameSnapshot(t, source, replica)
	refusesWrites(t, m, replica)

	if err := m.Deactivate(t.Context(), replica); err != nil {
		t.Fatal(err)
	}
	still := snapshot(t, replica)
	change(t, source, 3)
	if !bytes.Equal(snapshot(t, replica), still) {
		t.Error("an inactive replica changed")
	}
	if _, err := m.Lag(t.Context(), replica); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
	activate(t, replica)
	follows(t, source, replica)
	killReplica(t, m, replica)
	change(t, source, 4)
	activate(t, replica)
	follows(t, source, replica)
	if slots := ask[int](t, client(t, "postgres"), "select count(*)::int from pg_replication_slots where not temporary"); slots != 0 {
		t.Errorf("%d slots are left at the source", slots)
	}
	promotes(t, m, source, replica)
}

// sameSnapshot waits until source and replica have the same snapshot: other tests' transactions keep the server busy.
func sameSnapshot(t *testing.T, source, replica state.Target) {
	t.Helper()
	want := snapshot(t, source)
	testenv.Eventually(t, "the same snapshot of source and replica", func() bool { return bytes.Equal(snapshot(t, replica), want) })
}

// refusesWrites tries to change a replica, as its clients and as the keeper would.
func refusesWrites(t *testing.T, m *Module, replica state.Target) {
	t.Helper()
	conn := forkClient(t, replica)
	for _, hostile := range []string{
		"delete from moon", "create table mine (id int)", "set transaction_read_only = off; delete from moon",
		"begin read write; delete from moon", "set default_transaction_read_only = off; set session characteristics as transaction read write; delete from moon",
		"alter role current_user nologin", "select setval('moon_id_seq', 1)", "create temporary table t (id int)", "lock table moon in exclusive mode",
		"copy moon from program 'true'", "do $$ begin update moon set name = ''; end $$",
	} {
		if _, err := conn.Exec(t.Context(), hostile); !hasCode(err, "25006") && !hasCode(err, "55000") && !hasCode(err, "42601") && !hasCode(err, "22023") && !hasCode(err, "0A000") {
			t.Errorf("%s: %v", hostile, err)
		}
		_, _ = conn.Exec(t.Context(), "rollback") // there may be no transaction
	}
	if err := m.Integrity(t.Context(), replica); err != nil {
		t.Error(err)
	}
	if n, err := m.Size(t.Context(), replica); err != nil || n <= 0 {
		t.Errorf("%d, %v", n, err)
	}
}

// killReplica kills the replica's server as a crash would.
func killReplica(t *testing.T, m *Module, replica state.Target) {
	t.Helper()
	c, _, err := thinOf(replica)
	if err != nil {
		t.Fatal(err)
	}
	pid, ok := c.Process()
	if !ok {
		t.Fatal("the replica's server does not run")
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the end of the server", func() bool { return !c.Running() })
	if err := m.Health(t.Context(), replica); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
	testenv.Eventually(t, "a start after a kill", func() bool { return m.Activate(t.Context(), replica) == nil })
}

// promotes makes a replica a component by itself.
func promotes(t *testing.T, m *Module, source, replica state.Target) {
	t.Helper()
	if _, err := m.Promote(t.Context(), source); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
	change(t, source, 5)
	want := digestOf(t, source)
	for range 2 {
		if method, err := m.Promote(t.Context(), replica); err != nil || method != state.ForkThin {
			t.Fatalf("%q, %v", method, err)
		}
	}
	if thinDigest(t, replica, digestQuery) != want {
		t.Error("what was committed before is not in the promoted replica")
	}
	c, _, err := thinOf(replica)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{passName, sourceName, "standby.signal"} {
		if _, err := os.Lstat(filepath.Join(c.Data(), name)); err == nil {
			t.Errorf("%s is left", name)
		}
	}
	content := snapshot(t, replica)
	thinDigest(t, replica, "with x as (delete from moon returning 1) select count(*)::text from x")
	if digestOf(t, source) != want {
		t.Error("a change of the promoted replica is seen in its source")
	}
	change(t, source, 6)
	lives(t, m, replica, content)
	if thinDigest(t, replica, digestQuery) != want {
		t.Error("the restored component differs")
	}
	if _, err := m.Lag(t.Context(), replica); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
}
