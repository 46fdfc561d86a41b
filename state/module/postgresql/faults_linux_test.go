package postgresql

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
	"orrery/state"
)

// stalling takes what is written; when it has met a text it does something, once, before it takes more.
type stalling struct {
	until string
	then  func()
	seen  []byte
}

func (s *stalling) Write(p []byte) (int, error) {
	if s.then == nil {
		return len(p), nil
	}
	if s.seen = append(s.seen, p...); bytes.Contains(s.seen, []byte(s.until)) {
		s.then()
		s.then, s.seen = nil, nil
	}
	return len(p), nil
}

// heavyTarget is an active component on a server of the test's own, of which each part of a dump is more than what lies
// between two programs.
func heavyTarget(t *testing.T, name string, p *testenv.Postgres) state.Target {
	t.Helper()
	target := elsewhere(t, newTarget(t, name), p)
	activate(t, target)
	at(t, p, target, `create table heavy (id int primary key, v text); insert into heavy select i, repeat(md5(i::text), 20) from generate_series(1, 8000) i;
		do $$ begin
			execute format('create function long() returns text language sql as %L', format('select %L', repeat('before ', 100000)));
			execute format('create policy long on heavy using (v <> %L)', repeat('after ', 100000));
		end $$`)
	return target
}

// heavyDigest is the state of such a component.
func heavyDigest(t *testing.T, p *testenv.Postgres, target state.Target) string {
	t.Helper()
	return askAt[string](t, p, databaseName(target), "select count(*) || ' ' || sum(hashtext(h::text)) || ' ' || (select count(*) from planet) from heavy h")
}

// sidesOn counts side databases.
func sidesOn(t *testing.T, p *testenv.Postgres) int {
	t.Helper()
	return askAt[int](t, p, "postgres", "select count(*) from pg_database where datname like $1", sidePrefix+"%")
}

// killBackend kills the server's process that carries out a statement of this module.
func killBackend(t *testing.T, p *testenv.Postgres, statement string) {
	t.Helper()
	pid := 0
	testenv.Eventually(t, "a session that does "+statement, func() bool {
		pid = askAt[int](t, p, "postgres", "select coalesce(max(pid), 0) from pg_stat_activity where application_name in ('orrery', 'psql') and query ilike $1 and pid <> pg_backend_pid()", statement+"%")
		return pid != 0
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
}

// killProgram kills the program that works on a database and has a text in its arguments.
func killProgram(t *testing.T, target state.Target, argument string) {
	t.Helper()
	testenv.Eventually(t, "a program with "+argument, func() bool {
		matches, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			t.Error(err)
		}
		for _, path := range matches {
			env, _ := os.ReadFile(path) // it may have ended
			line, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
			var pid int
			_, err := fmt.Sscanf(path, "/proc/%d/environ", &pid)
			if err == nil && bytes.Contains(env, []byte("PGDATABASE="+databaseName(target)+"\x00")) && bytes.Contains(line, []byte(argument)) {
				return syscall.Kill(pid, syscall.SIGKILL) == nil
			}
		}
		return false
	})
}

func awaitServer(t *testing.T, p *testenv.Postgres) {
	t.Helper()
	testenv.Eventually(t, "a server that serves again", func() bool {
		conn, err := reach(t, p, "postgres")
		if err == nil {
			_ = conn.Close(t.Context())
		}
		return err == nil
	})
}

// TestDumpDies has the server, a process of it or a pg_dump die in the middle of a dump: no dump, an error that says who, and
// the next one is as it was.
func TestDumpDies(t *testing.T) {
	t.Parallel()
	p := testenv.OwnPostgreSQL(t, "", "--locale=C")
	target := heavyTarget(t, "dump-dies", p)
	want := snapshot(t, target)
	const rows = "COPY public.heavy"
	for _, c := range []struct {
		name, until, says string
		then              func()
		again             func()
	}{
		{"backend", rows, "cannot copy the rows of table public.", func() { killBackend(t, p, "copy (select") }, func() { awaitServer(t, p) }},
		{"server", rows, "cannot copy the rows of table public.", func() { p.Kill(t) }, func() { p.Start(t) }},
		{"the first pg_dump", magic2, "pg_dump: signal: killed", func() { killProgram(t, target, "--section=pre-data") }, func() {}},
		{"the last pg_dump", rows, "pg_dump: signal: killed", func() { killProgram(t, target, "--section=post-data") }, func() {}},
	} {
		var b bytes.Buffer
		err := New(Config{}).Snapshot(t.Context(), target, io.MultiWriter(&b, &stalling{until: c.until, then: c.then}))
		if err == nil || !strings.Contains(err.Error(), c.says) || !strings.HasPrefix(err.Error(), "cannot snapshot database pg/dump-dies: ") || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", c.name, err)
		}
		if body, err := openDump(&b); err == nil {
			if _, err := io.ReadAll(body); !errors.Is(err, state.ErrCorrupt) {
				t.Errorf("%s: what came passes for a dump: %v", c.name, err)
			}
		}
		c.again()
		same(t, "after the death of "+c.name, snapshot(t, target), want)
	}
}

// TestRestoreDies has the server or a process of it die in the middle of a restore: the state is what it was, and
// the side database is gone at once, or where no server was there to drop it, with the next operation.
func TestRestoreDies(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	p := testenv.OwnPostgreSQL(t, "", "--locale=C")
	target := heavyTarget(t, "restore-dies", p)
	content := snapshot(t, target)
	at(t, p, target, "delete from heavy where id % 2 = 0")
	before := heavyDigest(t, p, target)
	for _, c := range []struct {
		name  string
		then  func()
		again func()
	}{
		{"backend", func() { killBackend(t, p, "COPY public.heavy") }, func() { awaitServer(t, p) }},
		{"server", func() { p.Kill(t) }, func() { p.Start(t); activate(t, target) }},
	} {
		half := bytes.Index(content, []byte("\n4000\t"))
		r := io.MultiReader(bytes.NewReader(content[:half]), &once{do: c.then}, bytes.NewReader(content[half:]))
		err := m.Restore(t.Context(), target, r)
		if err == nil || !strings.HasPrefix(err.Error(), "cannot restore database pg/restore-dies: ") || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v", c.name, err)
		}
		c.again()
		if heavyDigest(t, p, target) != before {
			t.Errorf("%s: the state changed", c.name)
		}
		// A server that has not come up again by then keeps it for a while.
		if n := sidesOn(t, p); n != 0 && (err == nil || !strings.Contains(err.Error(), "stays until the next operation drops it")) {
			t.Errorf("%s: %d side databases are left: %v", c.name, n, err)
		}
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Error(err)
	}
	if n := sidesOn(t, p); n != 0 {
		t.Errorf("%d side databases are left", n)
	}
	same(t, "restored at last", snapshot(t, target), content)
}

// once is an empty reader that does something when it is read.
type once struct{ do func() }

func (o *once) Read([]byte) (int, error) {
	o.do()
	return 0, io.EOF
}

// TestSmallDisk restores more than the disk of the server holds.
func TestSmallDisk(t *testing.T) {
	t.Parallel()
	testenv.PostgreSQL(t) // skips before anything is mounted
	disk, log := t.TempDir(), t.TempDir()
	testenv.SmallDisk(t, disk, "256m")
	for folder := log; len(folder) > len(os.TempDir()); folder = filepath.Dir(folder) { // the server's user passes through, and writes below the last
		if err := os.Chmod(folder, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	m := New(Config{})
	p := testenv.OwnPostgreSQL(t, disk, "--locale=C", "--waldir="+filepath.Join(log, "wal"))
	target := heavyTarget(t, "small-disk", p)
	content := snapshot(t, target)
	at(t, p, target, "delete from heavy where id % 2 = 0; checkpoint")
	before := heavyDigest(t, p, target)
	filler := filepath.Join(disk, "filler")
	fillDisk(t, filler, 6<<20) // less than the rows and what the server writes at once of a new database
	err := m.Restore(t.Context(), target, bytes.NewReader(content))
	if err == nil || !strings.Contains(err.Error(), "No space left on device") {
		t.Errorf("%v", err)
	}
	if heavyDigest(t, p, target) != before || sidesOn(t, p) != 0 {
		t.Error("the state changed, or a side database is left")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Error(err)
	}
	same(t, "restored where there is room", snapshot(t, target), content)
}

// fillDisk takes what is left of a disk, but for so many bytes.
func fillDisk(t *testing.T, filler string, but int64) {
	t.Helper()
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 64<<10)
	for err == nil {
		_, err = f.Write(block)
	}
	info, failed := f.Stat()
	if !errors.Is(err, unix.ENOSPC) || failed != nil {
		t.Fatal(err, failed)
	}
	if err := errors.Join(f.Truncate(info.Size()-but), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestNewerFormat has a snapshot of a program that is newer than this one.
func TestNewerFormat(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "newer-format")
	activate(t, target)
	before := digestOf(t, target)
	newer := strings.Replace(string(snapshot(t, target)), magic2, magicBegin+"3\n\n", 1)
	for what, try := range map[string]func(io.Reader) error{
		"restore": func(r io.Reader) error { return m.Restore(t.Context(), target, r) },
		"part":    func(r io.Reader) error { return m.RestorePart(t.Context(), target, r, "planet") },
		"items":   func(r io.Reader) error { return m.Items(t.Context(), r, func(state.Item) error { return nil }) },
		"export":  func(r io.Reader) error { return m.Export(t.Context(), r, io.Discard) },
		"import":  func(r io.Reader) error { return m.Import(t.Context(), r, io.Discard) },
	} {
		if err := try(strings.NewReader(newer)); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "version 3") || !strings.Contains(err.Error(), "upgrade orrery") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if digestOf(t, target) != before {
		t.Error("the state changed")
	}
	noSides(t, target)
}

// TestFirstFormat restores a dump of version 1, also in part.
func TestFirstFormat(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target, content := restored(t, "first-format")
	before := digestOf(t, target)
	physical := target
	physical.Component.Properties = state.Properties{"database": databaseName(target), "rowOrder": "physical"}
	old := snapshot(t, physical)
	if !bytes.HasPrefix(old, []byte(magic)) {
		t.Fatalf("%.40q", old)
	}
	if a, b := itemsOf(t, m, old), itemsOf(t, m, content); a == "" || a != b { // by which a test restore compares them
		t.Error("the versions have other items")
	}
	change(t, target, 2)
	if err := m.RestorePart(t.Context(), target, bytes.NewReader(old), "moon"); err != nil {
		t.Error(err)
	}
	if n := query[int](t, databaseName(target), "select count(*) from moon"); n != 300 {
		t.Errorf("%d rows", n)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(old)); err != nil {
		t.Fatal(err)
	}
	if digestOf(t, target) != before {
		t.Error("not the state")
	}
	same(t, "from a dump of version 1", snapshot(t, target), content)
}

// itemsOf lists what a snapshot consists of, in an order of its own.
func itemsOf(t *testing.T, m *Module, content []byte) string {
	t.Helper()
	var all []string
	if err := m.Items(t.Context(), bytes.NewReader(content), func(i state.Item) error {
		all = append(all, fmt.Sprintf("%s %s %s", i.Part, i.Key, i.Content))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// TestTablesChangeMeanwhile has a client that alters a table when the dump has locked it and pg_dump has not, and others whose
// uncommitted changes the dump waits for.
func TestTablesChangeMeanwhile(t *testing.T) {
	t.Parallel()
	target := newTarget(t, "meanwhile")
	activate(t, target)
	name := databaseName(target)
	execute(t, name, "create view seen as select id, name from planet")
	for _, sql := range []string{"drop table moon cascade", "alter table planet rename note to remark", "create table late (); alter table planet add column size int"} {
		conn := client(t, name)
		if _, err := conn.Exec(t.Context(), "begin; "+sql); err != nil {
			t.Fatal(err)
		}
		done := make(chan []byte, 1)
		go func() {
			var b bytes.Buffer
			if err := New(Config{}).Snapshot(t.Context(), target, &b); err != nil {
				t.Errorf("%s: %v", sql, err)
			}
			done <- b.Bytes()
		}()
		testenv.Eventually(t, "a dump that waits", func() bool {
			return query[bool](t, "postgres", "select exists (select from pg_stat_activity where datname = $1 and wait_event_type = 'Lock')", name)
		})
		if _, err := conn.Exec(t.Context(), "commit"); err != nil {
			t.Fatal(err)
		}
		same(t, sql, <-done, snapshot(t, target))
	}
	// A client that waits for the dump, before pg_dump begins: for a table that pg_dump locks, and for one while it holds a
	// view that pg_dump reads.
	for column, sql := range map[string]string{
		"behind": "alter table planet add column behind int",
		"around": "begin; alter view seen set (security_barrier = true); alter table planet add column around int; commit",
	} {
		content := snapshot(t, withPgDump(t, target, sql))
		if !bytes.Contains(content, []byte(column+" integer")) {
			t.Errorf("%s: the client was not let through", sql)
		}
		same(t, sql, snapshot(t, target), content)
	}
}

// withPgDump is the target with a pg_dump that has a client begin something which waits for a lock, once, before it begins itself.
func withPgDump(t *testing.T, target state.Target, sql string) state.Target {
	t.Helper()
	p, tools := testenv.PostgreSQL(t), t.TempDir()
	script := fmt.Sprintf(`#!/bin/sh
case "$*" in *--section=*) if mkdir %[1]s/once 2>/dev/null; then
	env -u PGOPTIONS PGAPPNAME=client %[2]s/psql -Xqc '%[3]s' >/dev/null 2>&1 </dev/null &
	until [ "$(%[2]s/psql -XAtqc "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and application_name = 'client' and datname = current_database()")" = 1 ]; do :; done
	touch %[1]s/waits
elif [ ! -e %[1]s/waits ]; then
	until [ -e %[1]s/waits ]; do :; done
fi; esac
exec %[2]s/pg_dump "$@"
`, tools, p.Bin, sql)
	if err := errors.Join(os.WriteFile(filepath.Join(tools, "pg_dump"), []byte(script), 0o700), os.Symlink(filepath.Join(p.Bin, "psql"), filepath.Join(tools, "psql"))); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	target.Container.Properties = maps.Clone(target.Container.Properties)
	target.Container.Properties["tools"] = tools
	return target
}
