package sqlite

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"orrery/state"
)

func newTarget(t *testing.T, name string, properties state.Properties) state.Target {
	t.Helper()
	folder := t.TempDir()
	return state.Target{
		Component: state.Component{Name: name, Module: Name, Container: Name, Properties: properties},
		Container: state.Container{Name: Name, Module: Name, Directory: folder},
		Directory: t.TempDir(),
	}
}

// activate makes a database with the given schema.
func activate(t *testing.T, m *Module, schema string) state.Target {
	t.Helper()
	file := filepath.Join(t.TempDir(), "schema.sql")
	if err := os.WriteFile(file, []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	target := newTarget(t, "notes", state.Properties{"schema": file})
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	return target
}

// query runs statements in the database through a pool of its own and returns the last one's single value.
func query(t *testing.T, file string, statements ...string) string {
	t.Helper()
	value, err := tryQuery(t.Context(), file, statements...)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return value
}

func tryQuery(ctx context.Context, file string, statements ...string) (value string, err error) {
	pool, err := sql.Open("sqlite", "file:"+file+"?mode=rw&_pragma=busy_timeout(5000)&_pragma=synchronous(off)")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	pool.SetMaxOpenConns(1)
	for _, s := range statements[:len(statements)-1] {
		if _, err := pool.ExecContext(ctx, s); err != nil {
			return "", fmt.Errorf("%s: %w", s, err)
		}
	}
	err = pool.QueryRowContext(ctx, statements[len(statements)-1]).Scan(&value)
	if errors.Is(err, sql.ErrNoRows) {
		return "", nil
	}
	return value, err
}

func snapshot(t *testing.T, m *Module, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.Snapshot(t.Context(), target, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// intact fails unless snapshot is a sound database, and returns a value from it.
func intact(t *testing.T, snapshot []byte, q string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "snapshot.db")
	if err := os.WriteFile(file, snapshot, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := query(t, file, "PRAGMA integrity_check"); got != "ok" {
		t.Fatalf("integrity check of a snapshot: %s", got)
	}
	return query(t, file, q)
}

func TestLifeOfADatabase(t *testing.T) {
	m := New(nil)
	target := activate(t, m, "CREATE TABLE note(id INTEGER PRIMARY KEY, text); INSERT INTO note(text) VALUES('a');")
	db := path(target)
	if got := query(t, db, "INSERT INTO note(text) VALUES('b')", "SELECT count(*) FROM note"); got != "2" {
		t.Fatalf("%s notes", got)
	}
	first := snapshot(t, m, target)
	if again := snapshot(t, m, target); !bytes.Equal(first, again) {
		t.Fatal("two snapshots of one state differ")
	}
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if again := snapshot(t, m, target); !bytes.Equal(first, again) {
		t.Fatal("deactivation changed the snapshot")
	}
	if got := intact(t, first, "SELECT count(*) FROM note"); got != "2" {
		t.Fatalf("%s notes in the snapshot", got)
	}
	query(t, db, "DELETE FROM note", "SELECT 1")
	if err := m.Restore(t.Context(), target, bytes.NewReader(first)); err != nil {
		t.Fatal(err)
	}
	if got := query(t, db, "SELECT count(*) FROM note"); got != "2" {
		t.Fatalf("%s notes after restore", got)
	}
	if again := snapshot(t, m, target); !bytes.Equal(first, again) {
		t.Fatal("the restored state has another snapshot")
	}
	if err := m.CollectGarbage(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(target.Container.Directory)
	if err != nil || len(left) > 0 {
		t.Fatalf("left after garbage collection: %v, %v", left, err)
	}
	if len(m.files) != 0 {
		t.Fatalf("descriptors left open: %v", m.files)
	}
}
