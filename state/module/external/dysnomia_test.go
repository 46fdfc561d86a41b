//go:build dysnomia

package external

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/state"
)

// The real modules of Dysnomia, where it is installed: go test -tags dysnomia, with DYSNOMIA_PREFIX.
func TestDysnomiaItself(t *testing.T) {
	prefix := os.Getenv("DYSNOMIA_PREFIX")
	if prefix == "" {
		t.Fatal("set DYSNOMIA_PREFIX to where Dysnomia is installed")
	}
	data, component := t.TempDir(), t.TempDir()
	if err := os.WriteFile(filepath.Join(component, ".dysnomia-fileset"), []byte("mkdir data\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	m := open(t, filepath.Join(prefix, "libexec/dysnomia/fileset"))
	a := target(t, "fileset", "shop", state.Properties{"targetDir": data})
	a.Component.Properties = state.Properties{"path": component}
	s, ok := m.(state.Stateful)
	if !ok {
		t.Fatal("no state")
	}
	file := filepath.Join(data, "data", "one")
	if err := errors.Join(s.Activate(t.Context(), a), os.WriteFile(file, []byte("1"), 0o600)); err != nil {
		t.Fatal(err)
	}
	var first, second bytes.Buffer
	if err := errors.Join(s.Snapshot(t.Context(), a, &first), os.WriteFile(file, []byte("2"), 0o600), s.Snapshot(t.Context(), a, &second)); err != nil {
		t.Fatal(err)
	}
	for _, snapshot := range []struct{ stream, content string }{{first.String(), "1"}, {second.String(), "2"}, {first.String(), "1"}} {
		if err := s.Restore(t.Context(), a, strings.NewReader(snapshot.stream)); err != nil {
			t.Fatal(err)
		}
		if content, err := os.ReadFile(file); err != nil || string(content) != snapshot.content {
			t.Errorf("%q, %v", content, err)
		}
	}
	if err := errors.Join(s.Deactivate(t.Context(), a), s.Deactivate(t.Context(), a), s.CollectGarbage(t.Context(), a)); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Error("the state is still there")
	}
}
