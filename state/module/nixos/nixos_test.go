package nixos

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// world is a Nix store of its own, for the real nix-env, and configurations in it whose switch-to-configuration notes what it is asked.
type world struct {
	dir string
	env map[string]string
}

func newWorld(t *testing.T) world {
	t.Helper()
	testenv.Need(t, "nix-env", "apt-get install nix-bin", "/usr/bin/nix-env")
	dir := t.TempDir()
	w := world{dir, map[string]string{"NIX_STORE_DIR": dir + "/store", "NIX_STATE_DIR": dir + "/var", "NIX_LOG_DIR": dir + "/log", "NIX_CONFIG": "build-users-group =", "HOME": dir}}
	t.Cleanup(func() { // the store makes what it has read-only
		must(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				err = os.Chmod(path, 0o700) //nolint:gosec // so that it can be removed
			}
			return err
		}))
	})
	return w
}

// add makes a configuration and returns its path in the store. A bad one refuses to be switched to.
func (w world) add(t *testing.T, name string, bad bool) string {
	t.Helper()
	folder := filepath.Join(w.dir, name)
	must(t, os.MkdirAll(filepath.Join(folder, "bin"), 0o755))
	status := 0
	if bad {
		status = 1
	}
	text := fmt.Sprintf("#!/bin/sh\necho %s \"$1\" >>%s/calls\necho the unit of %s does not start >&2\nexit %d\n", name, w.dir, name, status)
	must(t, os.WriteFile(filepath.Join(folder, "bin", "switch-to-configuration"), []byte(text), 0o755))
	cmd := exec.CommandContext(t.Context(), "nix-store", "--add", folder)
	cmd.Env = os.Environ()
	for k, v := range w.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	out, err := cmd.Output()
	must(t, err)
	return strings.TrimSpace(string(out))
}

func (w world) target(t *testing.T, name, configuration string) state.Target {
	t.Helper()
	return state.Target{
		Component: state.Component{Name: name, Container: "nixos", Properties: state.Properties{"configuration": configuration}},
		Container: state.Container{Name: "nixos", Properties: state.Properties{"profile": filepath.Join(w.dir, "profile-"+name), "environment": w.env}}, Directory: t.TempDir(),
	}
}

func (w world) calls(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(w.dir, "calls"))
	must(t, err)
	must(t, os.Remove(filepath.Join(w.dir, "calls")))
	return strings.ReplaceAll(string(content), "\n", ";")
}

func TestConformance(t *testing.T) {
	w := newWorld(t)
	configuration := w.add(t, "one", false)
	moduletest.Run(t, moduletest.Harness{
		Module:    Module{},
		NewTarget: func(t *testing.T, name string) state.Target { t.Helper(); return w.target(t, name, configuration) },
		Bad:       []state.Properties{{}, {"configuration": "relative"}},
	})
}

func TestRollback(t *testing.T) {
	w := newWorld(t)
	one, two, broken := w.add(t, "one", false), w.add(t, "two", false), w.add(t, "broken", true)
	first, m := w.target(t, "system", one), Module{}
	profile := func() string {
		path, err := filepath.EvalSymlinks(filepath.Join(w.dir, "profile-system"))
		must(t, err)
		return path
	}
	must(t, m.Activate(t.Context(), first))
	must(t, m.Activate(t.Context(), first))
	if got := w.calls(t); got != "one switch;" || profile() != one {
		t.Errorf("%q, profile %s", got, profile())
	}
	next := w.target(t, "system", broken)
	if err := m.Activate(t.Context(), next); err == nil || !strings.Contains(err.Error(), "unit of broken") {
		t.Error(err)
	}
	if got := w.calls(t); got != "broken switch;one switch;" || profile() != one {
		t.Errorf("%q, profile %s", got, profile())
	}
	next = w.target(t, "system", two)
	next.Component.Properties["testNixOS"] = true
	must(t, m.Activate(t.Context(), next))
	must(t, m.Health(t.Context(), next))
	must(t, m.Deactivate(t.Context(), next))
	must(t, m.Deactivate(t.Context(), next))
	if got := w.calls(t); got != "two test;one test;" || profile() != one {
		t.Errorf("%q, profile %s", got, profile())
	}
}
