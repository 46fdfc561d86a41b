package sqlite

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
	"orrery/state"
)

// fill takes what is left of a disk, but for so many bytes.
func fill(t *testing.T, folder string, but int64) {
	t.Helper()
	name := filepath.Join(folder, "filler")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 4096)
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

// On a disk that becomes full at whatever point, each operation either is done or fails and leaves the state before it
// and no piece of its own; and once there is room it works.
func TestFullDisk(t *testing.T) {
	m := New(nil)
	from := activate(t, m, notesSchema)
	query(t, path(from), "INSERT INTO note(text) VALUES(hex(randomblob(30000)))", "SELECT 1")
	larger := snapshot(t, m, from)
	disk := t.TempDir()
	testenv.SmallDisk(t, disk, "1m")
	target := newTarget(t, "notes", nil)
	target.Container.Directory = disk
	if err := m.Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	query(t, path(target), "CREATE TABLE small(x)", "INSERT INTO small VALUES(randomblob(9000))", "PRAGMA wal_checkpoint(TRUNCATE)", "SELECT 1")
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	small := snapshot(t, m, target)
	into := target
	into.Component.Name, into.Component.Session = "notes@blue", "blue"
	failures := 0
	for free := int64(0); free <= 400<<10; free += 8 << 10 {
		for name, do := range map[string]func() error{
			"restore": func() error { return m.Restore(t.Context(), target, bytes.NewReader(larger)) },
			"stage":   func() error { return commitStage(t.Context(), m, target, larger) },
			"fork":    func() error { _, err := m.Fork(t.Context(), target, into); return err },
		} {
			fill(t, disk, free)
			err := do()
			if err := os.Remove(filepath.Join(disk, "filler")); err != nil { // reading takes a little room too
				t.Fatal(err)
			}
			got := snapshot(t, m, target)
			if err != nil {
				failures++
			}
			if changed := err == nil && name != "fork"; changed && !bytes.Equal(got, larger) || !changed && !bytes.Equal(got, small) {
				t.Fatalf("%s with %d bytes free: %v, and another state", name, free, err)
			}
			again(t, m, target, into, small)
		}
	}
	if failures < 6 {
		t.Errorf("the disk was full %d times", failures)
	}
	query(t, path(target), "INSERT INTO small VALUES(1)", "SELECT 1")
}

// again frees the disk, finds nothing left behind and brings the small state back.
func again(t *testing.T, m *Module, target, into state.Target, small []byte) {
	t.Helper()
	err := errors.Join(discardStage(t, m, target), m.CollectGarbage(t.Context(), into), m.Restore(t.Context(), target, bytes.NewReader(small)))
	if err != nil {
		t.Fatal(err)
	}
	left, err := filepath.Glob(filepath.Join(target.Container.Directory, "*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("left %v, %v", left, err)
	}
}

func discardStage(t *testing.T, m *Module, target state.Target) error {
	t.Helper()
	s, err := m.NewStage(t.Context(), target)
	if err != nil {
		return err
	}
	return s.Discard()
}
