package ejabberd

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
)

// On a full disk a snapshot and a restore fail, and the host stays as it is and in service; once there is room they work.
func TestFullDisk(t *testing.T) {
	m, target := &Module{memory: 1}, newTarget(t, "full") // nothing is sorted in memory
	activate(t, target)
	change(t, target, 1)
	small := snapshot(t, target)
	change(t, target, 2)
	before := digest(t, target)
	disk := t.TempDir()
	testenv.SmallDisk(t, disk, "4096")
	cramped := target
	cramped.Directory = disk
	if err := m.Activate(t.Context(), cramped); err != nil {
		t.Fatal(err)
	}
	fails := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", what, err)
		}
		if digest(t, target) != before {
			t.Errorf("%s: the state is another", what)
		}
		if err := m.Health(t.Context(), cramped); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	fails("snapshot", m.Snapshot(t.Context(), cramped, new(bytes.Buffer)))
	fails("restore", m.Restore(t.Context(), cramped, bytes.NewReader(small)))
	if err := unix.Mount("tmpfs", disk, "tmpfs", unix.MS_REMOUNT, "size=16m"); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(t.Context(), cramped, bytes.NewReader(small)); err != nil || !bytes.Equal(snapshot(t, target), small) {
		t.Errorf("once there is room: %v", err)
	}
}
