package postgresql

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"orrery/internal/cow"
	"orrery/internal/testenv"
	"orrery/state"
)

// sharing are the file systems that a fork may be on, and how to come by a folder on one.
var sharing = map[string]func(testing.TB) string{"xfs": testenv.XFS, "btrfs": testenv.Btrfs, "overlay": testenv.Reachable}

func TestThin(t *testing.T) {
	t.Parallel()
	for name, folder := range sharing {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tryThin(t, folder(t), name)
		})
	}
}

// tryThin makes forks in a folder and leads one through its life.
func tryThin(t *testing.T, folder, name string) {
	t.Helper()
	m := New(Config{})
	source := newTarget(t, "thin-"+name)
	source.Container.Properties["forks"] = folder
	activate(t, source)
	change(t, source, 1)
	client(t, databaseName(source)) // somebody is connected
	into := source
	into.Component = m.Beside(source.Component, "fork-of-"+name+"@blue")
	into.Directory = t.TempDir()
	t.Cleanup(func() {
		if err := m.CollectGarbage(context.Background(), into); err != nil {
			t.Error(err)
		}
		if left, err := filepath.Glob(filepath.Join(folder, "fork-*")); err != nil || len(left) != 0 {
			t.Errorf("left: %v, %v", left, err)
		}
	})
	fork := func() {
		t.Helper()
		began := time.Now()
		if err := m.ForkBy(t.Context(), source, into, state.ForkThin); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: forked in %v", name, time.Since(began))
	}
	fork()
	if err := m.CollectGarbage(t.Context(), into); err != nil {
		t.Fatal(err)
	}
	change(t, source, 2) // after the base was taken
	want := digestOf(t, source)
	fork()
	for range 2 {
		activate(t, into)
	}
	c, ok, err := thinOf(into)
	if lower, lowerErr := c.Lower(); err != nil || lowerErr != nil || !ok || (lower != "") != (name == "overlay") {
		t.Errorf("lower %q, %v, %v", lower, err, lowerErr)
	}
	if got := thinDigest(t, into, digestQuery); got != want {
		t.Errorf("the fork is not what the source was:\n%.200s\n%.200s", got, want)
	}
	content := snapshot(t, into)
	if !bytes.Equal(content, snapshot(t, source)) {
		t.Error("the fork's snapshot is another")
	}
	thinDigest(t, into, "with x as (delete from moon returning 1) select count(*)::text from x")
	if digestOf(t, source) != want {
		t.Error("a change of the fork is seen in its source")
	}
	lives(t, m, into, content)
	if got := thinDigest(t, into, digestQuery); got != want {
		t.Error("the restored fork differs")
	}
}

// lives stops, kills, starts and restores a fork.
func lives(t *testing.T, m *Module, into state.Target, content []byte) {
	t.Helper()
	if err := m.Deactivate(t.Context(), into); err != nil {
		t.Fatal(err)
	}
	if err := m.Deactivate(t.Context(), into); err != nil {
		t.Fatal(err)
	}
	if err := m.Health(t.Context(), into); !errors.Is(err, state.ErrInactive) {
		t.Error(err)
	}
	if bytes.Equal(snapshot(t, into), content) {
		t.Error("the fork's change is lost")
	}
	c, _, err := thinOf(into)
	if err != nil || c.Running() {
		t.Errorf("the server runs after a snapshot of the inactive fork: %v", err)
	}
	activate(t, into)
	pid, err := os.ReadFile(filepath.Join(c.Data(), "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(pid), "\n")
	if out, err := exec.CommandContext(t.Context(), "kill", "-KILL", first).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	testenv.Eventually(t, "the end of the server", func() bool { return !c.Running() })
	testenv.Eventually(t, "a start after a kill", func() bool { return m.Activate(t.Context(), into) == nil })
	if err := m.Restore(t.Context(), into, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := m.Health(t.Context(), into); err != nil {
		t.Error(err)
	}
}

// thinDigest asks the fork's own server.
func thinDigest(t *testing.T, into state.Target, sql string) string {
	t.Helper()
	return ask[string](t, forkClient(t, into), sql)
}

func TestThinRefused(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	source := newTarget(t, "thin-refused")
	activate(t, source)
	into := source
	into.Component = m.Beside(source.Component, "thin-refused@blue")
	into.Directory = t.TempDir()
	if os.Geteuid() == 0 { // the test's own folder is root's
		err := m.ForkBy(t.Context(), source, into, state.ForkThin)
		if !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "cannot reach") {
			t.Error(err)
		}
	}
	c := cow.Copy{Folder: filepath.Join(t.TempDir(), "a,b")}
	base := t.TempDir()
	if err := os.WriteFile(filepath.Join(base, "file"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if how, err := c.Make(t.Context(), base); err == nil && how != "reflink" || err != nil && !errors.Is(err, cow.ErrNotShared) {
		t.Errorf("%s, %v", how, err)
	}
	if err := m.CollectGarbage(t.Context(), into); err != nil {
		t.Error(err)
	}
}
