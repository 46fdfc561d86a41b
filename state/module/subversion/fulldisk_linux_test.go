package subversion

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
)

// A restore that finds no room leaves the state before it and nothing of its own.
func TestFullDisk(t *testing.T) {
	m, source := New(nil), newTarget(t, "source")
	activate(t, source)
	var large strings.Builder
	for n := range 1 << 18 {
		large.WriteString(string(rune('a' + n*n%26)))
		large.WriteString(strings.Repeat("x", n%7))
	}
	commit(t, source, "large", large.String())
	target := newTarget(t, "target")
	disk := target.Container.Directory
	testenv.SmallDisk(t, disk, "700k")
	activate(t, target)
	commit(t, target, "small", "x")
	before := snapshot(t, target)
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 400<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(snapshot(t, source))); err == nil {
		t.Error("restored where there is no room")
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(disk); err != nil || len(left) != 1 || !bytes.Equal(snapshot(t, target), before) {
		t.Errorf("left %v, %v", left, err)
	}
}
