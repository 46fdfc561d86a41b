package keeper

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
	"orrery/state"
)

// On a full disk operations fail; the records and the state stay what they were, and once there is room all goes on.
func TestFullDisk(t *testing.T) {
	ctx, disk := t.Context(), t.TempDir()
	testenv.SmallDisk(t, disk, "2m")
	m := open(t, filepath.Join(disk, "keeper"), newStore(t))
	must(m.Activate(ctx, notes))(t)
	m.exec(t, notesRef, "CREATE TABLE note(text)", "INSERT INTO note VALUES(hex(randomblob(50000)))")
	first := must(m.Snapshot(ctx, notesRef, "manual"))(t)
	m.exec(t, notesRef, "DELETE FROM note")
	second := must(m.Snapshot(ctx, notesRef, "manual"))(t)
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 3<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	if err := m.Restore(ctx, notesRef, first.Snapshot); err == nil {
		t.Error("restored on a full disk")
	} else {
		t.Log(err)
	}
	if _, err := m.Fork(ctx, notesRef, blueNotes); err == nil {
		t.Error("forked on a full disk")
	} else {
		t.Log(err)
	}
	if _, err := m.Activate(ctx, state.Component{Name: "other", Module: notes.Module}); err == nil {
		t.Error("activated a component on a full disk")
	} else {
		t.Log(err)
	}
	check(t, os.Remove(filler))
	if g := must(m.Snapshot(ctx, notesRef, "manual"))(t); !reflect.DeepEqual(g, second) {
		t.Fatalf("after the full disk: %+v", g)
	}
	check(t, m.Restore(ctx, notesRef, first.Snapshot))
	if s := must(m.Status(ctx, notesRef))(t); s.Phase != state.PhaseActive || s.Detail != "" {
		t.Fatalf("%+v", s)
	}
	check(t, m.Close(ctx))
}
