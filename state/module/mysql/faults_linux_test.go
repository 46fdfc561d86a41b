package mysql

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
	"orrery/state"
)

// moment is a point in a stream at which something happens.
type moment struct {
	left int
	do   func()
}

func (e *moment) pass(n int) {
	if e.left -= n; e.left <= 0 && e.do != nil {
		do := e.do
		e.do = nil
		do()
	}
}

type happening struct {
	moment
	w io.Writer
	r io.Reader
}

func (h *happening) Write(b []byte) (int, error) {
	h.pass(len(b))
	return h.w.Write(b)
}

func (h *happening) Read(b []byte) (int, error) {
	n, err := h.r.Read(b[:min(len(b), 16<<10)])
	h.pass(n)
	return n, err
}

// large makes a state of some MB, so that its dump takes a while.
func large(t *testing.T, s *testenv.MariaDB, database string) {
	t.Helper()
	db := clientOf(t, s, database)
	for _, statement := range []string{
		"create table large (id int primary key, filler text)",
		"insert into large select seq, concat(sha2(seq, 512), sha2(-seq, 512), repeat('x', 200)) from seq_1_to_20000",
	} {
		if _, err := db.ExecContext(t.Context(), statement); err != nil {
			t.Fatal(err)
		}
	}
}

// TestKilledServer kills the server in the middle of a dump and of a restore: both fail, and once the server is there again the state is what it was.
func TestKilledServer(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	s := testenv.StartMariaDB(t, "--innodb-flush-log-at-trx-commit=1")
	target := newTargetOn(t, s, "killed", schema)
	activate(t, target)
	large(t, s, databaseName(target))
	content := snapshot(t, target)
	if _, err := clientOf(t, s, databaseName(target)).ExecContext(t.Context(), "delete from large where id % 2; insert into log values (7)"); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, target)
	operations := map[string]func() error{
		"snapshot": func() error {
			return m.Snapshot(t.Context(), target, &happening{moment: moment{1 << 20, func() { s.Kill(t) }}, w: io.Discard})
		},
		"restore": func() error {
			return m.Restore(t.Context(), target, &happening{moment: moment{len(content) / 2, func() { s.Kill(t) }}, r: bytes.NewReader(content)})
		},
	}
	for name, operation := range operations {
		err := operation()
		if err == nil {
			t.Errorf("%s: nothing is said of the server's end", name)
		}
		if err := m.Snapshot(t.Context(), target, io.Discard); !errors.Is(err, state.ErrUnreachable) {
			t.Errorf("%s: without a server: %v", name, err)
		}
		s.Restart(t)
		activate(t, target)
		if after := snapshot(t, target); !bytes.Equal(before, after) {
			t.Errorf("%s: %s", name, firstDifference(before, after))
		}
		if sides := scanOf(t, s, "select count(*) from information_schema.schemata where schema_name like 'orrery-side-%'"); sides != "0" {
			t.Errorf("%s: %s side databases are left", name, sides)
		}
	}
}

func scanOf(t *testing.T, s *testenv.MariaDB, text string) (v string) {
	t.Helper()
	if err := clientOf(t, s, "").QueryRowContext(t.Context(), text).Scan(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// TestFullDisk restores onto a server whose disk is full, of which MariaDB 10.11 may itself end: once there is room, the
// state is the one before, and a restore works.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	folder := testenv.XFS(t)
	s := testenv.StartMariaDBIn(t, folder, "--innodb-flush-log-at-trx-commit=1")
	target := newTargetOn(t, s, "full", schema)
	activate(t, target)
	large(t, s, databaseName(target))
	content := snapshot(t, target)
	if _, err := clientOf(t, s, databaseName(target)).ExecContext(t.Context(), "drop table large"); err != nil {
		t.Fatal(err)
	}
	before := snapshot(t, target)
	filler := filepath.Join(folder, "filler")
	fill(t, filler, 2<<20)
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err == nil {
		t.Error("restored onto a full disk")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "an activation", func() bool {
		if !s.Running(t) {
			s.Restart(t)
		}
		return m.Activate(t.Context(), target) == nil
	})
	if after := snapshot(t, target); !bytes.Equal(before, after) {
		t.Error(firstDifference(before, after))
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(snapshot(t, target), content) {
		t.Error("not restored")
	}
}

// fill takes what is left of a disk, but for so many bytes.
func fill(t *testing.T, name string, but int64) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	for size := int64(1 << 30); size >= 64<<10; {
		end, err := f.Seek(0, io.SeekEnd)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Fallocate(int(f.Fd()), 0, end, size); err != nil {
			size /= 2
		}
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(info.Size()-but), f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestCancelledDump ends the context in the middle of a dump.
func TestCancelledDump(t *testing.T) {
	t.Parallel()
	target := newTarget(t, "cancelled-dump")
	activate(t, target)
	large(t, testenv.SharedMariaDB(t), databaseName(target))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	err := New(Config{}).Snapshot(ctx, target, &happening{moment: moment{1 << 20, cancel}, w: io.Discard})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestSecretsInArguments looks at the arguments of all processes while the tool runs.
func TestSecretsInArguments(t *testing.T) {
	t.Parallel()
	target := newTarget(t, "arguments")
	activate(t, target)
	large(t, testenv.SharedMariaDB(t), databaseName(target))
	looked := false
	look := func() {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			t.Error(err)
		}
		for _, line := range lines {
			content, err := os.ReadFile(line)
			if err != nil {
				continue // it ended
			}
			looked = looked || bytes.Contains(content, []byte("mariadb-dump")) && bytes.Contains(content, []byte(databaseName(target)))
			if bytes.Contains(content, []byte("sesame")) {
				t.Errorf("a password is among the arguments: %q", content)
			}
		}
	}
	if err := New(Config{}).Snapshot(t.Context(), target, &happening{moment: moment{1 << 20, look}, w: io.Discard}); err != nil {
		t.Fatal(err)
	}
	if !looked {
		t.Error("the dump tool was not seen")
	}
}
