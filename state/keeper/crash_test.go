package keeper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"orrery/state"
	"orrery/state/module/sqlite"
	"orrery/state/store"
)

// roleEnvironment makes the test binary another program: one that works on a keeper's folder until it is killed.
const roleEnvironment = "ORRERY_KEEPER_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnvironment) == "" {
		os.Exit(m.Run())
	}
	ctx := context.Background()
	if os.Getenv(roleEnvironment) == "group" {
		err := groupWorker(ctx, os.Args[1])
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if err := worker(ctx, os.Args[1], []state.SnapshotID{state.SnapshotID(os.Args[2]), state.SnapshotID(os.Args[3])}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func openFolder(ctx context.Context, folder string) (*Keeper, error) {
	s, err := store.Open(ctx, filepath.Join(folder, "store"), store.Options{})
	if err != nil {
		return nil, err
	}
	return Open(Config{Directory: filepath.Join(folder, "keeper"), Store: s, Modules: []state.Module{sqlite.New(nil)}})
}

var blueNotes = state.Component{Name: "notes@blue", Module: sqlite.Name, Container: sqlite.Name, Session: "blue"}

// worker brings the component to one snapshot and the other in turns, in all ways that there are.
func worker(ctx context.Context, folder string, ids []state.SnapshotID) error {
	k, err := openFolder(ctx, folder)
	if err != nil {
		return err
	}
	activate := func(c state.Component) error { _, err := k.Activate(ctx, c); return err }
	for i := 0; ; i++ {
		id, other := ids[i%2], ids[1-i%2]
		for _, step := range []func() error{
			func() error { return k.Restore(ctx, notesRef, id) },
			func() error { _, err := k.Fork(ctx, notesRef, blueNotes); return err },
			func() error { _, err := k.TestRestore(ctx, notesRef, id); return err },
			func() error {
				_, err := k.ForkAs(ctx, state.ForkRequest{From: notesRef, As: "try", At: other})
				return err
			},
			func() error { return k.DeleteFork(ctx, state.Ref{Container: sqlite.Name, Component: "try"}) },
			func() error { return k.Deactivate(ctx, notesRef) },
			func() error { return k.Stage(ctx, notes, id) },
			func() error { return k.Stage(ctx, notes, other) },
			func() error { return k.Commit(ctx, notesRef, other) },
			func() error { return activate(notes) },
			func() error { return k.Deactivate(ctx, blueNotes.Ref()) },
			func() error { return k.CollectGarbage(ctx, blueNotes.Ref()) },
			func() error { return k.Deactivate(ctx, notesRef) },
			func() error { return k.CollectGarbage(ctx, notesRef) },
			func() error { return activate(notes) },
		} {
			if err := step(); err != nil {
				return err
			}
			fmt.Println("step")
		}
	}
}

// A keeper that is killed at any point leaves a folder with which the next one goes on, and no state but those that
// somebody asked for.
func TestKilledKeeper(t *testing.T) {
	ctx, folder := t.Context(), t.TempDir()
	k, err := openFolder(ctx, folder)
	check(t, err)
	m := machine{Keeper: k}
	must(m.Activate(ctx, notes))(t)
	empty := must(m.Snapshot(ctx, notesRef, "manual"))(t).Snapshot
	m.exec(t, notesRef, "CREATE TABLE note(text)", "INSERT INTO note VALUES('one')")
	one := must(m.Snapshot(ctx, notesRef, "manual"))(t).Snapshot
	m.exec(t, notesRef, "INSERT INTO note VALUES(randomblob(100000))")
	two := must(m.Snapshot(ctx, notesRef, "manual"))(t).Snapshot
	check(t, m.Close(ctx))
	self, err := os.Executable()
	check(t, err)
	for round := range 17 { // the worker has 15 steps
		command := exec.CommandContext(ctx, self, folder, string(one), string(two))
		command.Env = append(os.Environ(), roleEnvironment+"=worker")
		command.Stderr = os.Stderr
		out, err := command.StdoutPipe()
		check(t, err)
		check(t, command.Start())
		lines := bufio.NewScanner(out)
		for range round {
			lines.Scan()
		}
		// Not a wait for something: a moment to be killed at.
		timer := time.NewTimer(time.Duration(round%7) * time.Millisecond)
		<-timer.C
		check(t, command.Process.Kill())
		_ = command.Wait() // it was killed
		goesOn(t, folder, empty, one, two)
	}
}

func goesOn(t *testing.T, folder string, states ...state.SnapshotID) {
	t.Helper()
	ctx := t.Context()
	k, err := openFolder(ctx, folder)
	check(t, err)
	check(t, k.Boot(ctx, func(state.Component) bool { return true }))
	for _, rec := range must(k.records())(t) {
		if rec.Scratch || rec.Forking != nil || rec.Collecting {
			t.Errorf("after a crash and a boot: %+v", rec)
		}
	}
	for _, s := range must(k.List(ctx))(t) {
		if s.Phase == state.PhaseFailed {
			t.Errorf("after a crash: %+v", s)
		}
		if s.Component.Session != "" && s.Phase == state.PhaseActive {
			check(t, k.Deactivate(ctx, s.Component.Ref()))
		}
	}
	check(t, k.CollectGarbage(ctx, blueNotes.Ref()))
	if s, err := k.Status(ctx, notesRef); errors.Is(err, state.ErrNotFound) || err == nil && s.Phase == state.PhaseStaged {
		must(k.Activate(ctx, notes))(t)
	} else {
		check(t, err)
	}
	g := must(k.Snapshot(ctx, notesRef, "check"))(t)
	found := false
	for _, id := range states {
		found = found || g.Snapshot == id
	}
	if !found {
		t.Errorf("after a crash the state is %s", g.Snapshot)
	}
	must(k.Activate(ctx, notes))(t)
	check(t, k.Close(ctx))
}
