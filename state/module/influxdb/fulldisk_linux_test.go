package influxdb

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
)

// Where the node's disk has no room for what was read, the snapshot fails, nothing of it stays, and once there is room it works.
func TestFullDisk(t *testing.T) {
	m, target := New(), activated(t, targets(testenv.Influx(t, false))(t, "full"))
	disk := t.TempDir()
	testenv.SmallDisk(t, disk, "64k")
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

// A server whose disk is full refuses points: the restore ends in an error, nothing of it stays, and the state before is there.
func TestServersFullDisk(t *testing.T) {
	disk := t.TempDir()
	testenv.SmallDisk(t, disk, "3m")
	m, target := New(), activated(t, targets(testenv.StartInflux(t, testenv.InfluxSettings{Data: disk}))(t, "server-full"))
	other := activated(t, targets(testenv.Influx(t, false))(t, "other"))
	write(t, target, "", "m f=1 1")
	before := snapshot(t, target)
	for n := range 4 { // what does not compress, in requests of their own
		var lines []string
		for i := range 200 {
			lines = append(lines, fmt.Sprintf("big s=%q %d", noise(1000), n*200+i))
		}
		write(t, other, "", lines...)
	}
	large := snapshot(t, other)
	var room unix.Statfs_t
	if err := unix.Statfs(disk, &room); err != nil {
		t.Fatal(err)
	}
	full := filepath.Join(disk, "full")
	if err := os.WriteFile(full, make([]byte, int64(room.Bavail)*room.Bsize-256<<10), 0o600); err != nil { // the server can begin
		t.Fatal(err)
	}
	for range 2 {
		err := m.Restore(t.Context(), target, bytes.NewReader(large))
		if err == nil || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("restore: %v", err)
		}
		if left := sides(t, target); len(left) > 0 {
			t.Errorf("left %q", left)
		}
		if !bytes.Equal(snapshot(t, target), before) {
			t.Error("another state")
		}
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(large)); err != nil || !bytes.Equal(snapshot(t, target), large) {
		t.Errorf("once there is room: %v", err)
	}
}

func noise(length int) string {
	b := make([]byte, length/2)
	_, _ = rand.Read(b)
	return hex.EncodeToString(b)
}
