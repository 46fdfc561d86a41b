package mysql

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"orrery/internal/testenv"
	"orrery/state"
)

// sharing are the file systems that a fork may be on, and how to come by a folder on one.
var sharing = map[string]func(testing.TB) string{"xfs": testenv.XFS, "btrfs": testenv.Btrfs, "overlay": testenv.Reachable}

// at connects to a component as its clients do, by what it exports.
func at(t *testing.T, target state.Target) *sql.DB {
	t.Helper()
	return atAs(t, target, "")
}

// atAs is at, by another account.
func atAs(t *testing.T, target state.Target, user string) *sql.DB {
	t.Helper()
	exports, err := New(Config{}).Exports(target)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		exports["user"] = user
	}
	c := driver.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.MultiStatements = exports["user"], testenv.SharedMariaDB(t).Password, "tcp", exports["host"]+":"+exports["port"], exports["database"], true
	c.Logger = &driver.NopLogger{}
	connector, err := driver.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func do(t *testing.T, target state.Target, text string) {
	t.Helper()
	if _, err := at(t, target).ExecContext(t.Context(), text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func TestThin(t *testing.T) {
	t.Parallel()
	testenv.Need(t, "mariadb-backup", "apt-get install mariadb-backup")
	s := testenv.StartMariaDB(t, "--log-bin=binlog", "--server-id=1", "--binlog-format=MIXED")
	for name, folder := range sharing {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			forks := folder(t)
			source := newTarget(t, "thin-"+name)
			source.Container.Properties["port"], source.Container.Properties["forks"] = s.Port, forks
			tryThin(t, source, forks, name)
		})
	}
}

// tryThin makes forks in a folder and leads one through its life.
func tryThin(t *testing.T, source state.Target, folder, name string) {
	t.Helper()
	m := New(Config{})
	activate(t, source)
	into := source
	into.Component = m.Beside(source.Component, "fork-of-"+name+"@blue")
	into.Directory = t.TempDir()
	t.Cleanup(func() {
		if err := m.CollectGarbage(context.Background(), into); err != nil {
			t.Error(err)
		}
		if left, err := filepath.Glob(filepath.Join(folder, "fork-*")); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
	fork := func() {
		t.Helper()
		began := time.Now()
		if err := m.ForkBy(t.Context(), source, into, state.ForkThin); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: forked in %v", name, time.Since(began))
	}
	fork()
	if err := m.CollectGarbage(t.Context(), into); err != nil {
		t.Fatal(err)
	}
	// After the base was taken: rows, tables, routines, and another file of the log.
	do(t, source, "insert into moon (planet, name) values (1, 'late'), (2, 'later'); create table extra (id int primary key, b blob); flush binary logs; insert into extra values (1, x'00ff')")
	want := snapshot(t, source)
	fork()
	do(t, source, "insert into extra values (2, 'after the fork')")
	for range 2 {
		activate(t, into)
	}
	bases, err := filepath.Glob(filepath.Join(folder, "base-*"))
	if err != nil || len(bases) != 1 {
		t.Errorf("bases: %v, %v", bases, err)
	}
	c, ok, err := thinOf(into)
	if lower, lowerErr := c.Lower(); err != nil || lowerErr != nil || !ok || (lower != "") != (name == "overlay") {
		t.Errorf("lower %q, %v, %v", lower, err, lowerErr)
	}
	if got := snapshot(t, into); !bytes.Equal(got, want) {
		t.Errorf("the fork is not what the source was: %s", firstDifference(want, got))
	}
	before := snapshot(t, source)
	do(t, into, "delete from moon; drop table extra")
	if !bytes.Equal(snapshot(t, source), before) {
		t.Error("a change of the fork is seen in its source")
	}
	lives(t, m, into, want)
	if err := m.ForkBy(t.Context(), source, into, state.ForkThin); !errors.Is(err, state.ErrInUse) {
		t.Errorf("a fork over a fork: %v", err)
	}
}

// lives stops, kills, starts and restores a fork.
func lives(t *testing.T, m *Module, into state.Target, content []byte) {
	t.Helper()
	for range 2 {
		if err := m.Deactivate(t.Context(), into); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Health(t.Context(), into); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
	if bytes.Equal(snapshot(t, into), content) {
		t.Error("the fork's change is lost")
	}
	c, _, err := thinOf(into)
	if err != nil || c.Running() {
		t.Errorf("the server runs after a snapshot of the inactive fork: %v", err)
	}
	activate(t, into)
	number, err := strconv.Atoi(strings.TrimSpace(readFile(t, filepath.Join(c.Folder, "pid"))))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(number, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the end of the server", func() bool { return !c.Running() })
	activate(t, into)
	if err := m.Restore(t.Context(), into, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := m.Health(t.Context(), into); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(snapshot(t, into), content) {
		t.Error("the restored fork differs")
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestThinRefused(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	source := newTarget(t, "thin-refused") // on a server without a binary log
	activate(t, source)
	into := source
	into.Component, into.Directory = m.Beside(source.Component, "thin-refused@blue"), t.TempDir()
	if err := m.ForkBy(t.Context(), source, into, state.ForkThin); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "log_bin") {
		t.Error(err)
	}
	if err := m.ForkBy(t.Context(), source, into, "layered"); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "thin, copy") {
		t.Error(err)
	}
	if err := m.Snapshot(t.Context(), into, io.Discard); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("something was left: %v", err)
	}
}

func TestSchemaChange(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"insert into t values (1)\n/*!*/;\n": false, "rename table a to b\n": true, "/* x */ ALTER table t\n": true,
		"DROP /*!40005 TEMPORARY */ TABLE IF EXISTS `x`\n": false, "create temporary table x (y int)\n": false, "BINLOG '\ncreateXX\n'": false,
	} {
		var c schemaChange
		for _, b := range []byte(text) {
			if _, err := c.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		if c.found != want {
			t.Errorf("%q: %v", text, c.found)
		}
	}
}
