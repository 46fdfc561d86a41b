package external

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orrery/state"
	"orrery/state/module/moduletest"
)

func open(t *testing.T, path string) state.Module {
	t.Helper()
	m, err := Open(t.Context(), path, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// target makes a component of a module, whose container has properties.
func target(t *testing.T, module, name string, properties state.Properties) state.Target {
	t.Helper()
	return state.Target{
		Component: state.Component{Name: name, Module: module, Container: "box"},
		Container: state.Container{Name: "box", Module: module, Properties: properties, Directory: t.TempDir()},
		Directory: t.TempDir(),
	}
}

// harness is that of a module whose components are folders.
func harness(m state.Module, properties state.Properties, folder func(state.Target) string) moduletest.Harness {
	return moduletest.Harness{
		Module: m,
		NewTarget: func(t *testing.T, name string) state.Target {
			t.Helper()
			return target(t, m.Describe().Name, name, properties)
		},
		Bad: []state.Properties{{"path": 5}, {"path": "not absolute"}, {"greeting": true}},
		Change: func(t *testing.T, target state.Target, n int) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(folder(target), fmt.Sprintf("file %d", n)), []byte(time.Now().String()), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		Digest: func(t *testing.T, target state.Target) string {
			t.Helper()
			entries, err := os.ReadDir(folder(target))
			if err != nil {
				t.Fatal(err)
			}
			var b strings.Builder
			for _, e := range entries {
				content, err := os.ReadFile(filepath.Join(folder(target), e.Name()))
				if err != nil {
					t.Fatal(err)
				}
				fmt.Fprintf(&b, "%s: %s\n", e.Name(), content)
			}
			return b.String()
		},
	}
}

func TestStreamingConformance(t *testing.T) {
	m := open(t, "../../../examples/modules/folder")
	moduletest.Run(t, harness(m, nil, func(t state.Target) string { return filepath.Join(t.Directory, "data") }))
}

func TestDysnomiaConformance(t *testing.T) {
	data := t.TempDir()
	m := open(t, "testdata/keeping")
	moduletest.Run(t, harness(m, state.Properties{"dataDir": data}, func(t state.Target) string { return filepath.Join(data, t.Component.Name) }))
}

// Defect 10: any generation can be restored by a module that knows only the latest, and a failing restore is undone.
func TestEveryGenerationCanBeRestored(t *testing.T) {
	data := t.TempDir()
	m := open(t, "testdata/keeping")
	s, ok := m.(state.Stateful)
	if !ok {
		t.Fatal("no state")
	}
	a := target(t, "keeping", "shop", state.Properties{"dataDir": data, "odd": "it's \"odd\" $(touch " + data + "/evil)\n*"})
	if err := s.Activate(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(data, "shop", "value")
	var streams []string
	for _, content := range []string{"a", "b", "poison", "c"} {
		var b bytes.Buffer
		if err := errors.Join(os.WriteFile(file, []byte(content), 0o600), s.Snapshot(t.Context(), a, &b)); err != nil {
			t.Fatal(err)
		}
		streams = append(streams, b.String())
	}
	for i, want := range []string{"a", "b", "b", "c"} { // the module refuses the third when all is done
		err := s.Restore(t.Context(), a, strings.NewReader(streams[i]))
		if (err != nil) != (i == 2) {
			t.Errorf("%d: %v", i, err)
		}
		if content, err := os.ReadFile(file); err != nil || string(content) != want {
			t.Errorf("%d: %q, %v", i, content, err)
		}
	}
	locker, ok := m.(state.Locker)
	if !ok {
		t.Fatal("no lock")
	}
	if err := locker.Lock(t.Context(), a); !errors.Is(err, state.ErrVeto) {
		t.Errorf("%v", err)
	}
	if odd, err := os.ReadFile(filepath.Join(data, "shop", "odd")); err != nil || string(odd) != a.Container.Properties["odd"] {
		t.Errorf("the module saw %q", odd)
	}
	if exists, err := filepath.Glob(data + "/evil"); err != nil || len(exists) > 0 {
		t.Error("a value was carried out")
	}
}

func script(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+content), 0o700); err != nil { //nolint:gosec // it is a program
		t.Fatal(err)
	}
	return path
}

const describing = `[ "$1" = describe ] && { echo '{"protocol":1,"description":{"name":"own","doc":"x","stateful":true,
"properties":[{"name":"count","type":"int","required":true,"doc":"x"}]},"abilities":["lock"]}'; exit; }
`

func TestExitStatuses(t *testing.T) {
	m := open(t, script(t, "own", describing+"echo \"$CONTAINER_secret\" >&2; exit \"$PROPERTY_count\""))
	a := target(t, "own", "shop", state.Properties{"secret": "x y"})
	for status, want := range statuses {
		a.Component.Properties = state.Properties{"count": status}
		if err := m.Activate(t.Context(), a); !errors.Is(err, want) {
			t.Errorf("%d: %v", status, err)
		}
	}
	a.Component.Properties = state.Properties{"count": 1}
	if err := m.Activate(t.Context(), a); err == nil || !strings.Contains(err.Error(), "x y") {
		t.Errorf("%v", err)
	}
	for _, bad := range []state.Properties{nil, {"count": "x"}, {"count": 1.5}, {"other": 1, "count": 1}} {
		if err := m.Check(state.Component{Properties: bad}); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	a.Container.Properties = state.Properties{"secret": "a\x00b"}
	if err := m.Activate(t.Context(), a); !errors.Is(err, state.ErrBadProperty) {
		t.Errorf("%v", err)
	}
}

func TestReservedVariables(t *testing.T) {
	m := open(t, "testdata/keeping")
	for _, name := range []string{"PATH", "LD_PRELOAD", "BASH_ENV", "DYSNOMIA_STATEDIR"} {
		if err := m.Activate(t.Context(), target(t, "keeping", "shop", state.Properties{"dataDir": t.TempDir(), name: "x"})); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTimeLimit(t *testing.T) {
	path := script(t, "own", describing+"sleep 1000 & sleep 1000")
	m, err := Open(t.Context(), path, Config{Limit: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	a := target(t, "own", "shop", nil)
	a.Component.Properties = state.Properties{"count": 1}
	if err := m.Activate(t.Context(), a); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("%v", err)
	}
}

func TestOpen(t *testing.T) {
	for name, path := range map[string]string{
		"version":     script(t, "own", `echo '{"protocol":2,"description":{"name":"own"}}'`),
		"other name":  script(t, "own", `echo '{"protocol":1,"description":{"name":"other"}}'`),
		"ability":     script(t, "own", `echo '{"protocol":1,"description":{"name":"own"},"abilities":["fly"]}'`),
		"cut":         script(t, "own", `echo '{"protocol":1,'`),
		"file's name": script(t, "Own Module", ""),
	} {
		if m, err := Open(t.Context(), path, Config{}); err == nil {
			t.Errorf("%s: %v", name, m.Describe())
		}
	}
	folder := filepath.Dir(script(t, "own", describing))
	if all := Load(t.Context(), []string{"/nonexistent", folder, folder}, []string{"sqlite-database"}, Config{}); len(all) != 1 {
		t.Errorf("%d modules", len(all))
	}
	if all := Load(t.Context(), []string{folder}, []string{"own"}, Config{}); len(all) != 0 {
		t.Error("a module took the name of another")
	}
}

func sealed(tb testing.TB, content []byte) []byte {
	tb.Helper()
	var b bytes.Buffer
	s := newSealing(&b)
	if _, err := s.Write(content); err != nil {
		tb.Fatal(err)
	}
	if err := s.finish(); err != nil {
		tb.Fatal(err)
	}
	return b.Bytes()
}

func TestSeal(t *testing.T) {
	for _, content := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("0123456789"), 300_000)} {
		got, err := io.ReadAll(newUnsealing(bytes.NewReader(sealed(t, content))))
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%d of %d bytes, %v", len(got), len(content), err)
		}
	}
}

func FuzzUnseal(f *testing.F) {
	f.Add(sealed(f, []byte("hello")))
	f.Add(sealed(f, nil))
	f.Add([]byte(seal))
	f.Fuzz(func(t *testing.T, stream []byte) {
		content, err := io.ReadAll(newUnsealing(bytes.NewReader(stream)))
		if err == nil && len(content) <= maxChunk {
			var again bytes.Buffer
			s := newSealing(&again)
			_, err := s.Write(content)
			if err := errors.Join(err, s.finish()); err != nil {
				t.Fatal(err)
			}
			if back, err := io.ReadAll(newUnsealing(&again)); err != nil || !bytes.Equal(back, content) {
				t.Errorf("another content: %v", err)
			}
		}
		if err != nil && !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%v", err)
		}
	})
}
