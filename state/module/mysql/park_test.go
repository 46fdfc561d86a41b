package mysql

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
)

// TestInactiveIsOutOfReach finds that clients, also those that may do everything, can neither read nor write an inactive component, while its
// snapshots, restores and its size are what they are of an active one.
func TestInactiveIsOutOfReach(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "fence")
	name := databaseName(target)
	activate(t, target)
	execute(t, "", "create user 'fence reader'@localhost")
	t.Cleanup(func() {
		if _, err := client(t, "").ExecContext(context.Background(), "drop user 'fence reader'@localhost"); err != nil {
			t.Error(err)
		}
	})
	execute(t, name, "grant execute on function greet to 'fence reader'@localhost; grant select on planet to 'fence reader'@localhost")
	change(t, target, 1)
	content, before := snapshot(t, target), digestOf(t, target)
	change(t, target, 2)
	latest := snapshot(t, target)
	there, err := client(t, name).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := m.Deactivate(t.Context(), target); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := there.ExecContext(t.Context(), "insert into planet (name) values ('late')"); err == nil {
		t.Error("a client that was connected writes an inactive component")
	}
	if err := client(t, name).PingContext(t.Context()); err == nil || !strings.Contains(err.Error(), "Unknown database") {
		t.Errorf("a new client: %v", err)
	}
	if !bytes.Equal(snapshot(t, target), latest) {
		t.Error("the snapshot of the inactive component is another")
	}
	if err := m.Health(t.Context(), target); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
	if size, err := m.Size(t.Context(), target); err != nil || size == 0 {
		t.Error(size, err)
	}
	if found, err := m.Exists(t.Context(), target); err != nil || !found {
		t.Error(found, err)
	}
	if running := query(t, "", "select count(*) from information_schema.events where event_schema like ? and status = 'ENABLED'", sidePrefix+digest(name)+"%"); running != "0" {
		t.Error("an event of an inactive component runs")
	}
	for range 2 {
		if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	if query(t, "", "select count(*) from information_schema.schemata where schema_name = ?", name) != "0" {
		t.Error("a restore brought an inactive component into its clients' reach")
	}
	activate(t, target)
	if digestOf(t, target) != before || !bytes.Equal(snapshot(t, target), content) {
		t.Error("not what was restored")
	}
	if query(t, "", "select count(*) from mysql.procs_priv where db = ? and user = 'fence reader'", name) != "1" ||
		query(t, "", "select count(*) from mysql.tables_priv where db = ? and user = 'fence reader'", name) != "1" {
		t.Error("somebody's rights are lost")
	}
	if query(t, name, "select status from information_schema.events where event_schema = database()") != "ENABLED" {
		t.Error("the event does not run")
	}
	noSides(t, target)
}

// TestStrays refuses to put a component into the place of what somebody else made there meanwhile.
func TestStrays(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "strays")
	name := databaseName(target)
	activate(t, target)
	before := snapshot(t, target)
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	execute(t, "", "create database "+quote(name))
	execute(t, name, "create table stray (x int)")
	if err := m.Activate(t.Context(), target); !errors.Is(err, state.ErrInUse) || !strings.Contains(err.Error(), "stray") {
		t.Errorf("%v", err)
	}
	execute(t, name, "drop table stray")
	activate(t, target)
	if !bytes.Equal(snapshot(t, target), before) {
		t.Error("not what it was")
	}
}

// TestTriggersAreNeverMissing restores under clients that write all the time; each row says whether the trigger saw it.
func TestTriggersAreNeverMissing(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "triggers")
	name := databaseName(target)
	activate(t, target)
	execute(t, name, `create table seen (id int primary key auto_increment, by_trigger int not null default 0);
		create trigger sees before insert on seen for each row set new.by_trigger = seen_by();`)
	execute(t, name, "create function seen_by() returns int deterministic return 1")
	content := snapshot(t, target)
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 3 {
		db := client(t, name)
		writers.Go(func() {
			for ctx.Err() == nil {
				_, _ = db.ExecContext(ctx, "insert into seen values (null, 0)")
			}
		})
	}
	defer writers.Wait()
	defer cancel()
	for range 8 {
		if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
		if missed := query(t, name, "select count(*) from seen where by_trigger = 0"); missed != "0" {
			t.Errorf("%s rows were written without the trigger", missed)
		}
	}
	testenv.Eventually(t, "writes after the last restore", func() bool {
		return query(t, name, "select count(*) > 10 and min(by_trigger) = 1 from seen") == "1"
	})
}
