package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"orrery/internal/commandline"
	"orrery/internal/testenv"
	"orrery/state"
)

// orreryIn runs the program as a process of its own, on the folder dir.
func orreryIn(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "orrery", append([]string{"--dir", dir}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("orrery %v: %w: %s", args, err, stderr.String())
	}
	return out, err
}

// filesets activates filesets, all at once, and gives each a content of its own.
func filesets(t *testing.T, dir string, names ...string) {
	t.Helper()
	failed := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() {
			_, failed[i] = orreryIn(t.Context(), dir, "component", "activate", name, "--module", "fileset")
		})
	}
	all.Wait()
	out, err := orreryIn(t.Context(), dir, "component", "list", "-o", "json")
	var listed []state.Status
	if err = errors.Join(errors.Join(failed...), err); err == nil {
		err = json.Unmarshal(out, &listed)
	}
	if err != nil || len(listed) != len(names) {
		t.Fatalf("%d components: %v", len(listed), err)
	}
	for _, s := range listed {
		content := strings.Repeat(s.Component.Name+"\n", 1000)
		if err := os.WriteFile(filepath.Join(s.Exports["path"], "content"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// atOnce takes twenty snapshots in as many processes that are started together.
func atOnce(t *testing.T, dir string, args func(i int) []string) []state.Generation {
	t.Helper()
	const processes = 20
	taken, failed := make([]state.Generation, processes), make([]error, processes)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range processes {
		all.Go(func() {
			<-start
			out, err := orreryIn(t.Context(), dir, append([]string{"component", "snapshot", "-o", "json"}, args(i)...)...)
			var answer []state.Generation
			if err == nil {
				err = json.Unmarshal(out, &answer)
			}
			if err == nil && len(answer) != 1 {
				err = fmt.Errorf("%d generations", len(answer))
			}
			if failed[i] = err; err == nil {
				taken[i] = answer[0]
			}
		})
	}
	close(start)
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Fatal(err)
	}
	return taken
}

// Twenty processes that take snapshots of one component at the same time all get the right answer, and no tag is lost.
func TestTwentySnapshotsOfOneComponent(t *testing.T) {
	dir := t.TempDir()
	filesets(t, dir, "pages")
	tag := func(i int) string { return fmt.Sprintf("process-%02d", i) }
	taken := atOnce(t, dir, func(i int) []string { return []string{"fileset/pages", "--tag", tag(i)} })
	for i, g := range taken {
		if g.Number != 1 || g.Snapshot != taken[0].Snapshot {
			t.Errorf("process %d has generation %d with snapshot %s", i, g.Number, g.Snapshot)
		}
	}
	all := generationsIn(t, dir)
	if len(all) != 1 || len(all[0].Tags) != len(taken) {
		t.Fatalf("%+v", all)
	}
	if _, err := orreryIn(t.Context(), dir, "snapshot", "verify", "--read-data"); err != nil {
		t.Fatal(err)
	}
}

func generationsIn(t *testing.T, dir string) (all []state.Generation) {
	t.Helper()
	out, err := orreryIn(t.Context(), dir, "snapshot", "list", "-o", "json")
	if err == nil {
		err = json.Unmarshal(out, &all)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// And so do twenty that take snapshots of as many components.
func TestTwentySnapshotsOfTwentyComponents(t *testing.T) {
	dir := t.TempDir()
	name := func(i int) string { return fmt.Sprintf("pages-%02d", i) }
	var names []string
	for i := range 20 {
		names = append(names, name(i))
	}
	filesets(t, dir, names...)
	ids := map[state.SnapshotID]bool{}
	for i, g := range atOnce(t, dir, func(i int) []string { return []string{"fileset/" + name(i)} }) {
		if ids[g.Snapshot] = true; g.Number != 1 || g.Component != name(i) {
			t.Errorf("process %d has generation %d of %s", i, g.Number, g.Component)
		}
	}
	if all := generationsIn(t, dir); len(ids) != 20 || len(all) != 20 {
		t.Fatalf("%d snapshots, %d generations", len(ids), len(all))
	}
	if _, err := orreryIn(t.Context(), dir, "snapshot", "verify", "--read-data"); err != nil {
		t.Fatal(err)
	}
}

// Prunes take nothing away that snapshots, restores and copies in other processes work with, at the same time.
func TestPrunesBesideTheOthers(t *testing.T) {
	dir, disk := t.TempDir(), filepath.Join(t.TempDir(), "disk")
	names := []string{"a", "b", "c", "d"}
	filesets(t, dir, names...)
	run := func(args ...string) []byte {
		t.Helper()
		out, err := orreryIn(t.Context(), dir, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	run("store", "init", disk)
	want := map[string]map[state.SnapshotID]bool{}
	for _, name := range names {
		want[name] = map[state.SnapshotID]bool{}
		for i, content := range []string{"", "between", "last"} {
			run("component", "shell", "fileset/"+name, "--command", "printf '%s' "+content+" >more")
			var g []state.Generation
			if err := json.Unmarshal(run("component", "snapshot", "fileset/"+name, "-o", "json"), &g); err != nil {
				t.Fatal(err)
			}
			if i != 1 {
				want[name][g[0].Snapshot] = true
			}
		}
		run("snapshot", "pin", "fileset/"+name+"@1")
	}
	var lines [][]string
	for _, name := range names {
		ref := "fileset/" + name
		lines = append(lines, []string{"component", "snapshot", ref, "--tag", "beside"}, []string{"component", "restore", ref, "--generation", "1"},
			[]string{"snapshot", "copy", ref + "@1", "--to", disk}, []string{"snapshot", "prune", "--keep-last", "1"}, []string{"component", "snapshot", ref})
	}
	failed := make([]error, len(lines))
	start := make(chan struct{})
	var all sync.WaitGroup
	for i, line := range lines {
		all.Go(func() {
			<-start
			_, failed[i] = orreryIn(t.Context(), dir, line...)
		})
	}
	close(start)
	all.Wait()
	if err := errors.Join(failed...); err != nil {
		t.Fatal(err)
	}
	run("snapshot", "prune", "--keep-last", "1")
	run("snapshot", "verify", "--read-data")
	run("snapshot", "verify", "--read-data", "--store", disk)
	seen := map[string]int{}
	for _, g := range generationsIn(t, dir) {
		if seen[g.Component]++; !want[g.Component][g.Snapshot] {
			t.Errorf("%s has generation %d of a state that it never had then", g.Component, g.Number)
		}
	}
	for _, name := range names {
		if seen[name] < 1 || seen[name] > 2 {
			t.Errorf("%s has %d generations", name, seen[name])
		}
	}
	var copied []state.Generation
	if err := json.Unmarshal(run("snapshot", "list", "--store", disk, "-o", "json"), &copied); err != nil || len(copied) != len(names) {
		t.Errorf("%+v, %v", copied, err)
	}
}

// slowModule is one whose snapshots hang after their first half while there is a file named slow.
const slowModule = `#!/bin/sh
set -e
data=$ORRERY_DIRECTORY/notes
case $1 in
describe) echo '{"protocol":1,"description":{"name":"slow","doc":"Notes.","stateful":true}}' ;;
activate) [ -e "$data" ] || printf 'first half, second half' >"$data" ;;
snapshot) printf 'first half'; [ ! -e "$SLOW" ] || { touch "$SLOW.began"; exec sleep 1000; }; printf ', second half' ;;
restore) cat >"$data.new" && mv "$data.new" "$data" ;;
collect-garbage) rm -f "$data" ;;
esac
`

// Ctrl-C in the middle of a snapshot ends it with status 130, and leaves nothing of it.
func TestInterruptedSnapshot(t *testing.T) {
	dir, modules := t.TempDir(), t.TempDir()
	slow := filepath.Join(t.TempDir(), "slow")
	script := strings.ReplaceAll(slowModule, "$SLOW", slow)
	if err := os.WriteFile(filepath.Join(modules, "slow"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ORRERY_MODULES_PATH", modules)
	if _, err := orreryIn(t.Context(), dir, "component", "activate", "notes", "--module", "slow"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(slow, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "orrery", "--dir", dir, "component", "snapshot", "slow/notes")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, "the snapshot began", func() bool { _, err := os.Stat(slow + ".began"); return err == nil })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var ended *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &ended) || ended.ExitCode() != commandline.Interrupted {
		t.Fatalf("%v, want status %d", err, commandline.Interrupted)
	}
	for _, folder := range []string{"tmp", "packs"} {
		if left, err := os.ReadDir(filepath.Join(dir, "store", folder)); err != nil || len(left) > 0 {
			t.Fatalf("%s has %v, %v", folder, left, err)
		}
	}
	if err := os.Remove(slow); err != nil {
		t.Fatal(err)
	}
	if all := generationsIn(t, dir); len(all) > 0 {
		t.Fatalf("%+v", all)
	}
	if _, err := orreryIn(t.Context(), dir, "component", "snapshot", "slow/notes"); err != nil {
		t.Fatal(err)
	}
	if _, err := orreryIn(t.Context(), dir, "snapshot", "verify", "--read-data"); err != nil {
		t.Fatal(err)
	}
}
