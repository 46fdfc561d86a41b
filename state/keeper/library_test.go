package keeper

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"orrery/state"
	"orrery/state/module/sqlite"
)

// TestImportIsAllOrNothing has what is imported break off, and be something else, and then be whole.
func TestImportIsAllOrNothing(t *testing.T) {
	m := open(t, t.TempDir(), newStore(t))
	must(m.Activate(t.Context(), notes))(t)
	m.exec(t, notesRef, "CREATE TABLE notes (text TEXT)", "INSERT INTO notes VALUES ('one')")
	g := must(m.Snapshot(t.Context(), notesRef, "manual"))(t)
	var plain bytes.Buffer
	if err := m.Export(t.Context(), state.ExportRequest{ID: g.Snapshot}, &plain); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "plain.db")
	if err := os.WriteFile(file, plain.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	other := state.Ref{Container: sqlite.Name, Component: "other"}
	broken := errors.New("the line is dead")
	for _, raw := range []bool{false, true} {
		half := plain.Bytes()[:plain.Len()/2]
		for name, content := range map[string]io.Reader{
			"cut": bytes.NewReader(half), "empty": bytes.NewReader(nil), "text": bytes.NewReader(bytes.Repeat([]byte("no database "), 999)),
			"failing": io.MultiReader(bytes.NewReader(half), readerFunc(func([]byte) (int, error) { return 0, broken })),
		} {
			_, err := m.Import(t.Context(), state.ImportRequest{Ref: other, Raw: raw}, content)
			if want := map[bool]error{true: broken, false: state.ErrCorrupt}[name == "failing"]; !errors.Is(err, want) {
				t.Errorf("%s, raw %v: %v", name, raw, err)
			}
		}
	}
	if all := must(m.store.Generations(t.Context(), other))(t); len(all) != 0 {
		t.Errorf("%d generations of what was refused", len(all))
	}
	got := must(m.Import(t.Context(), state.ImportRequest{Ref: other}, bytes.NewReader(plain.Bytes())))(t)
	if got.Snapshot != g.Snapshot || got.Reason != reasonImport {
		t.Errorf("imported as %+v, exported from %s", got, g.Snapshot)
	}
}
