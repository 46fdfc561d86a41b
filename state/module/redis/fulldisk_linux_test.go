package redis

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
)

// On a disk without room for its temporary files each operation fails, leaves the state and no piece of its own, and works once
// there is room.
func TestFullDisk(t *testing.T) {
	folder := t.TempDir()
	testenv.SmallDisk(t, folder, "128k")
	p := on(t, testenv.StartRedis(t, "", ""))
	m, large, target := New(), p.target(t, "large"), p.target(t, "target")
	for i := range 100 {
		do(t, large, "SET", fmt.Sprint("k", i), strings.Repeat("x", 10000))
	}
	content := snapshot(t, large)
	target.Directory = folder
	change(t, target, 1)
	before := snapshot(t, target)
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("restore: %v", err)
	}
	s := newSorter(folder, 10000)
	for i := range 100 {
		if err := s.add(record{fmt.Append(nil, i), []byte{placeElement}, make([]byte, 5000)}); err != nil {
			if !errors.Is(err, unix.ENOSPC) {
				t.Error(err)
			}
			break
		}
		if i == 99 {
			t.Error("the sorter finds room where there is none")
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(folder); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
	if !bytes.Equal(snapshot(t, target), before) {
		t.Error("a restore that failed changed the state")
	}
	p.clean(t)
	restore(t, target, before)
}

// A server that cannot write its data, because its disk is full, still gives a snapshot; what it refuses is said and changes nothing,
// and works once there is room.
func TestServersFullDisk(t *testing.T) {
	folder := t.TempDir()
	testenv.SmallDisk(t, folder, "256k")
	r := testenv.StartRedis(t, "", "repl-diskless-sync-delay 0\nrdbcompression no\nsave 86400 1000000\ndir "+folder)
	p := on(t, r)
	m, target := New(), p.target(t, "target")
	change(t, target, 1)
	content := snapshot(t, target)
	change(t, target, 2)
	before, changed := digest(t, target), snapshot(t, target)
	full := filepath.Join(folder, "full")
	if err := os.WriteFile(full, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	for range 2 {
		if !bytes.Equal(snapshot(t, target), changed) {
			t.Error("the snapshot is another one")
		}
	}
	if got := fmt.Sprint(do(t, target, "INFO", "persistence")); !strings.Contains(got, "rdb_last_bgsave_status:err") {
		t.Errorf("the server could save: %s", got)
	}
	for name, err := range map[string]error{
		"health":  m.Health(t.Context(), target),
		"restore": m.Restore(t.Context(), target, bytes.NewReader(content)),
	} {
		if err == nil || !strings.Contains(err.Error(), "MISCONF") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if digest(t, target) != before {
		t.Error("a refused restore changed the state")
	}
	if err := os.Remove(full); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the server is not saving", func() bool {
		return strings.Contains(fmt.Sprint(do(t, target, "INFO", "persistence")), "rdb_bgsave_in_progress:0")
	})
	do(t, target, "BGSAVE")
	testenv.Eventually(t, "the server saves", func() bool {
		return strings.Contains(fmt.Sprint(do(t, target, "INFO", "persistence")), "rdb_last_bgsave_status:ok")
	})
	restore(t, target, content)
	if !bytes.Equal(snapshot(t, target), content) {
		t.Error("restored another state")
	}
	p.clean(t)
}
