package etcd

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
)

// Where the node's disk has no room for the state before, or for the snapshot, nothing is changed and nothing stays.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	testenv.SmallDisk(t, disk, "16k")
	m, target := New(), targets(testenv.Etcd(t))(t, "full")
	many(t, target, 3, 1)
	small := snapshot(t, target)
	many(t, target, 600, 1)
	large := snapshot(t, target)
	full := target
	full.Directory = disk
	failed := func(what string, err error, want []byte) {
		t.Helper()
		if !errors.Is(err, unix.ENOSPC) {
			t.Errorf("%s: %v", what, err)
		}
		if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
			t.Errorf("%s: left %v, %v", what, left, err)
		}
		if !bytes.Equal(snapshot(t, target), want) {
			t.Errorf("%s: another state", what)
		}
	}
	var b bytes.Buffer
	failed("snapshot", m.Snapshot(t.Context(), full, &b), large)
	failed("restore of what is smaller", m.Restore(t.Context(), full, bytes.NewReader(small)), large)
	if err := m.Restore(t.Context(), target, bytes.NewReader(small)); err != nil || b.Len() > 0 {
		t.Errorf("%d bytes, %v", b.Len(), err)
	}
	failed("restore of what is larger", m.Restore(t.Context(), full, bytes.NewReader(large)), small)
	many(t, target, 4, 1)
	if err := m.Restore(t.Context(), full, bytes.NewReader(small)); err != nil || !bytes.Equal(snapshot(t, full), small) {
		t.Errorf("what fits: %v", err)
	}
}
