package influxdb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
)

// Where the node's disk has no room for what was read, the snapshot fails, nothing of it stays, and once there is room it works.
func TestFullDisk(t *testing.T) {
	m, target := New(), activated(t, targets(testenv.Influx(t, false))(t, "full"))
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=64k"); err != nil {
		testenv.Missing(t, "a tmpfs of its own ("+err.Error()+")", "run the test as root")
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	target.Directory = disk
	write(t, target, "", "m f=1 1")
	small := snapshot(t, target)
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprintf("big s=%q %d", strings.Repeat("x", 1000), i))
	}
	write(t, target, "", lines...)
	if err := m.Snapshot(t.Context(), target, io.Discard); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(small)); err != nil { // it needs no room here
		t.Error(err)
	}
	if got := snapshot(t, target); !bytes.Equal(got, small) {
		t.Errorf("%s", got)
	}
}
