package fileset

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

// On a disk with room for one and a half copies, a restore and a fork fail, leave the state before them and nothing
// of their own.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	testenv.SmallDisk(t, disk, "1m")
	m := New(nil)
	target := newTarget(t, state.Properties{})
	target.Container.Directory = disk
	check(t, m.Activate(t.Context(), target))
	exports, err := m.Exports(target)
	check(t, err)
	large := filepath.Join(exports["path"], "large")
	check(t, os.WriteFile(large, bytes.Repeat([]byte("x"), 700_000), 0o600))
	first := snapshot(t, m, target)
	into := target
	into.Component.Name, into.Component.Session = "site@blue", "blue"
	for range 2 {
		if _, err := m.Fork(t.Context(), target, into); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("fork: %v", err)
		}
		if err := m.Restore(t.Context(), target, bytes.NewReader(first)); !errors.Is(err, unix.ENOSPC) {
			t.Fatalf("restore: %v", err)
		}
		if !bytes.Equal(first, snapshot(t, m, target)) {
			t.Fatal("the state is another")
		}
		if left, err := os.ReadDir(disk); err != nil || len(left) != 1 {
			t.Fatalf("left %v, %v", left, err)
		}
	}
	check(t, os.Truncate(large, 0))
	_, err = m.Fork(t.Context(), target, into)
	check(t, err)
	check(t, m.Restore(t.Context(), target, bytes.NewReader(first)))
}
