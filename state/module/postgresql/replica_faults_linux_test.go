package postgresql

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/internal/mark"
)

// countOn counts a replica's planets.
func countOn(t *testing.T, replica state.Target) string {
	t.Helper()
	return thinDigest(t, replica, "select count(*)::text from planet")
}

// What goes wrong at the source is said, and what can be mended by itself is.
func TestReplicaFaults(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	p := testenv.OwnPostgreSQL(t, "", "--locale=C")
	source := elsewhere(t, newTarget(t, "replica-faults"), p)
	replica := newReplica(t, source, "replica-faults@blue", testenv.Reachable(t))
	activate(t, source)
	cancelledReplica(t, m, source, replica)
	if err := m.Replicate(t.Context(), source, replica); err != nil {
		t.Fatal(err)
	}
	p.Stop(t)
	testenv.Eventually(t, "the loss of the source", func() bool { return !lagOf(t, replica).Linked })
	lag := lagOf(t, replica)
	if lag.Problem == "" || lag.Lost || lag.Bytes != -1 || countOn(t, replica) != "3" {
		t.Errorf("%+v", lag)
	}
	if err := m.Health(t.Context(), replica); err != nil {
		t.Error(err)
	}
	activate(t, replica)
	p.Start(t)
	at(t, p, source, "insert into planet values (4, 'Mars')")
	awaitCount(t, replica, "4")
	otherPassword(t, p, source, replica)
	afterCrashes(t, m, p, source, replica)
	loseLog(t, m, p, source, replica)
}

func awaitCount(t *testing.T, replica state.Target, n string) {
	t.Helper()
	testenv.Eventually(t, n+" planets in the replica", func() bool {
		lag := lagOf(t, replica)
		return lag.Linked && lag.Problem == "" && lag.Bytes == 0 && countOn(t, replica) == n
	})
}

// cancelledReplica interrupts the making of a replica, which leaves nothing.
func cancelledReplica(t *testing.T, m *Module, source, replica state.Target) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	folder, ok := source.Container.Properties["forks"].(string)
	if !ok {
		t.Fatal("no folder")
	}
	done := make(chan error, 1)
	go func() { done <- m.Replicate(ctx, source, replica) }()
	testenv.Eventually(t, "the replica's folder", func() bool {
		found, err := filepath.Glob(filepath.Join(folder, "fork-*"))
		return err != nil || len(found) > 0 || len(done) > 0
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled replication: %v", err)
	}
	if left, err := filepath.Glob(filepath.Join(folder, "fork-*")); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
	if k, err := mark.Read[forkMark](replica); err != nil || k.Method != "" {
		t.Errorf("%+v, %v", k, err)
	}
}

// otherPassword has the replica come with a password that is not the source's any more.
func otherPassword(t *testing.T, p *testenv.Postgres, source, replica state.Target) {
	t.Helper()
	c, _, err := thinOf(replica)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Write(passName, "*:*:*:*:sesame two\n"); err != nil {
		t.Fatal(err)
	}
	at(t, p, source, "select pg_terminate_backend(pid) from pg_stat_replication")
	testenv.Eventually(t, "a word about the password", func() bool {
		lag := lagOf(t, replica)
		return !lag.Linked && !lag.Lost && strings.Contains(lag.Problem, "password authentication failed") && !strings.Contains(lag.Problem, "sesame")
	})
	activate(t, replica) // with the container's
	awaitCount(t, replica, "4")
}

// afterCrashes activates what a command that was killed left behind.
func afterCrashes(t *testing.T, m *Module, p *testenv.Postgres, source, replica state.Target) {
	t.Helper()
	if err := m.Deactivate(t.Context(), replica); err != nil {
		t.Fatal(err)
	}
	c, _, err := thinOf(replica)
	if err == nil {
		err = c.Start(t.Context(), stillOptions) // for a snapshot
	}
	if err != nil {
		t.Fatal(err)
	}
	at(t, p, source, "insert into planet values (5, 'Jupiter')")
	activate(t, replica)
	awaitCount(t, replica, "5")
}

// loseLog has the source remove what an inactive replica would have to read, and makes the replica anew.
func loseLog(t *testing.T, m *Module, p *testenv.Postgres, source, replica state.Target) {
	t.Helper()
	if err := m.Deactivate(t.Context(), replica); err != nil {
		t.Fatal(err)
	}
	at(t, p, source, "alter system set min_wal_size = '32MB'")
	at(t, p, source, "alter system set max_wal_size = '32MB'")
	at(t, p, source, "select pg_reload_conf()")
	for range 5 {
		at(t, p, source, "insert into moon (planet, name) values (1, 'x')")
		at(t, p, source, "select pg_switch_wal()")
		at(t, p, source, "checkpoint")
	}
	activate(t, replica)
	testenv.Eventually(t, "the loss of the log", func() bool { return lagOf(t, replica).Lost })
	if lag := lagOf(t, replica); lag.Linked || !strings.Contains(lag.Problem, "has already been removed") || lag.Bytes <= 0 {
		t.Errorf("%+v", lag)
	}
	if err := m.Health(t.Context(), replica); err == nil || !strings.Contains(err.Error(), "replica rebuild") {
		t.Error(err)
	}
	if countOn(t, replica) != "5" {
		t.Error("a replica that is lost does not serve what it has")
	}
	if err := m.CollectGarbage(t.Context(), replica); err != nil {
		t.Fatal(err)
	}
	if err := m.Replicate(t.Context(), source, replica); err != nil {
		t.Fatal(err)
	}
	at(t, p, source, "insert into planet values (6, 'Saturn')")
	awaitCount(t, replica, "6")
	interruptedPromotion(t, m, p, replica)
}

// interruptedPromotion goes on with a promotion that had begun when everything was killed, and promotes without a source.
func interruptedPromotion(t *testing.T, m *Module, p *testenv.Postgres, replica state.Target) {
	t.Helper()
	p.Kill(t)
	testenv.Eventually(t, "the loss of the source", func() bool { return !lagOf(t, replica).Linked })
	if err := m.Deactivate(t.Context(), replica); err != nil {
		t.Fatal(err)
	}
	k, err := mark.Read[forkMark](replica)
	if err != nil {
		t.Fatal(err)
	}
	k.Promoting = true
	if err := mark.Write(replica, k); err != nil {
		t.Fatal(err)
	}
	activate(t, replica)
	if k, err = mark.Read[forkMark](replica); err != nil || k.Method != state.ForkThin || k.Promoting {
		t.Errorf("%+v, %v", k, err)
	}
	if got := thinDigest(t, replica, "with x as (delete from planet where id > 3 returning 1) select count(*)::text from x"); got != "3" {
		t.Errorf("%s planets were deleted", got)
	}
	if content := snapshot(t, replica); !bytes.Contains(content, []byte("Venus")) {
		t.Error("the snapshot of the promoted replica lacks something")
	}
	p.Start(t)
}
