package git

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"

	"orrery/internal/testenv"
)

// A restore that finds no room leaves the state before it and nothing of its own.
func TestFullDisk(t *testing.T) {
	m, source := New(), newTarget(t, "source")
	activate(t, source)
	noise := make([]byte, 400<<10)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	push(t, source, "main", hex.EncodeToString(noise)[:100]+"\n")
	git(t, string(noise), at(t, source), "update-ref", "refs/noise", git(t, string(noise), at(t, source), "hash-object", "-w", "--stdin"))
	target := newTarget(t, "target")
	disk := target.Container.Directory
	testenv.SmallDisk(t, disk, "1m")
	activate(t, target)
	push(t, target, "main", "small")
	before, larger := snapshot(t, target), snapshot(t, source)
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 600<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(larger)); err == nil {
		t.Error("restored where there is no room")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(disk); err != nil || len(left) != 1 || !bytes.Equal(snapshot(t, target), before) {
		t.Errorf("left %v, %v", left, err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(larger)); err != nil || !bytes.Equal(snapshot(t, target), larger) {
		t.Errorf("with room: %v", err)
	}
}
