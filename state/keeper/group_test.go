package keeper

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"orrery/state"
	"orrery/state/module/sqlite"
)

// Where one member of a group fails, at whatever, no generation of any stays, and all go on.
func TestGroupIsAllOrNothing(t *testing.T) {
	ctx := t.Context()
	for _, fails := range []string{"snapshot a", "snapshot b", "snapshot c", "unlock b"} {
		m, l := openLedger(t, Config{}, "a", "b", "c")
		before := must(m.TakeSnapshots(ctx, state.SnapshotRequest{Refs: []state.Ref{bookRef("b")}}))(t)
		l.put("a", "x", "1")
		q := state.SnapshotRequest{Refs: []state.Ref{bookRef("a"), bookRef("b"), bookRef("c")}, Reason: "manual"}
		l.fails = fails
		_, err := m.TakeSnapshots(ctx, q)
		_, who, _ := strings.Cut(fails, " ")
		if !errors.Is(err, errProbe) || !strings.Contains(err.Error(), "ledger/"+who) || !strings.Contains(err.Error(), "nothing was saved of the 3") {
			t.Errorf("%s: %v", fails, err)
		}
		if all := must(m.config.Store.Generations(ctx, state.Ref{}))(t); len(all) != 1 || all[0].Number != before[0].Number {
			t.Errorf("%s: %+v", fails, all)
		}
		l.fails = ""
		check(t, m.Sweep(ctx)) // lets go what could not be let go then
		if left := must(os.ReadDir(m.groups()))(t); len(l.locked) != 0 || len(left) > 0 {
			t.Errorf("%s: locked %v, left %v", fails, l.locked, left)
		}
		all := must(m.TakeSnapshots(ctx, q))(t)
		if len(all) != 3 || all[0].GroupSize != 3 || all[0].Unfinished || len(must(m.config.Store.Generations(ctx, state.Ref{}))(t)) != 4 {
			t.Errorf("%s: %+v", fails, all)
		}
	}
}

// What a killed keeper left of a group is seen by nobody, stays in no history, and keeps nobody from going on.
func TestUnfinishedGroup(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a", "b")
	refs := []state.Ref{bookRef("a"), bookRef("b")}
	must(m.Snapshot(ctx, refs[0], "manual"))(t)
	l.put("a", "x", "1")
	half := func(group string) state.Generation {
		check(t, m.beginGroup(group, refs))
		rec := must(m.load(refs[0]))(t)
		return must(m.snapshotInto(ctx, rec, "manual", state.Source{Group: group, GroupSize: 2}, func() {}))(t)
	}
	g := half("half")
	seen := func() []state.Generation { return must(m.config.Store.Generations(ctx, state.Ref{}))(t) }
	if all := seen(); len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	// Neither do prunes take it away, nor do they leave nothing but it.
	p := must(m.config.Store.Prune(ctx, refs[0], state.Retention{Last: 1}, false))(t)
	if len(p.Generations) != 0 || len(seen()) != 1 {
		t.Fatalf("%+v, %+v", p, seen())
	}
	check(t, m.config.Store.Verify(ctx, g.Snapshot))
	// A snapshot of the same state is one of its own.
	own := must(m.Snapshot(ctx, refs[0], "manual"))(t)
	if own.Number == g.Number || own.Unfinished || len(seen()) != 2 {
		t.Fatalf("%+v, %+v", own, seen())
	}
	check(t, m.Sweep(ctx))
	if all := seen(); len(all) != 2 || all[1].Number != own.Number {
		t.Fatalf("%+v", all)
	}
	// Where a member is seen, all were saved.
	half("whole")
	rec := must(m.load(refs[1]))(t)
	must(m.snapshotInto(ctx, rec, "manual", state.Source{Group: "whole", GroupSize: 2}, func() {}))(t)
	must(m.config.Store.Conclude(ctx, "whole", refs[:1]))(t)
	if len(seen()) != 3 {
		t.Fatalf("%+v", seen())
	}
	check(t, m.Sweep(ctx))
	if len(seen()) != 4 {
		t.Fatalf("%+v", seen())
	}
	if _, err := m.config.Store.Conclude(ctx, "nothing", refs); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
}

// groupWorker takes snapshots of groups until it is killed.
func groupWorker(ctx context.Context, folder string) error {
	k, err := openFolder(ctx, folder)
	if err != nil {
		return err
	}
	for {
		all, err := k.TakeSnapshots(ctx, state.SnapshotRequest{Refs: groupRefs, Reason: "manual"})
		if err != nil || len(all) != len(groupRefs) {
			return fmt.Errorf("%d generations: %w", len(all), err)
		}
		fmt.Println("group")
	}
}

var groupRefs = []state.Ref{notesRef, {Container: notesRef.Container, Component: "more"}, {Container: notesRef.Container, Component: "most"}}

// A keeper that is killed at any point of a group leaves no half group, and loses none that somebody was told of.
func TestKilledInAGroup(t *testing.T) {
	ctx, folder := t.Context(), t.TempDir()
	k, err := openFolder(ctx, folder)
	check(t, err)
	for _, r := range groupRefs {
		c := notes
		c.Name = r.Component
		must(k.Activate(ctx, c))(t)
	}
	check(t, k.Close(ctx))
	self, err := os.Executable()
	check(t, err)
	told := 0
	for round := range 12 {
		command := exec.CommandContext(ctx, self, folder)
		command.Env = append(os.Environ(), roleEnvironment+"=group")
		command.Stderr = os.Stderr
		out, err := command.StdoutPipe()
		check(t, err)
		check(t, command.Start())
		lines := bufio.NewScanner(out)
		lines.Scan()
		told++
		timer := time.NewTimer(time.Duration(round*round) * time.Millisecond / 2) // a moment to be killed at
		<-timer.C
		check(t, command.Process.Kill())
		for lines.Scan() {
			told++
		}
		_ = command.Wait() // it was killed
		k, err := openFolder(ctx, folder)
		check(t, err)
		check(t, k.Sweep(ctx))
		groups := map[string]int{}
		for _, g := range must(k.config.Store.Generations(ctx, state.Ref{}))(t) {
			groups[g.Group]++
		}
		for group, n := range groups {
			if n != len(groupRefs) {
				t.Errorf("round %d: group %s has %d generations", round, group, n)
			}
		}
		if len(groups) < told {
			t.Errorf("round %d: %d groups, and %d were told of", round, len(groups), told)
		}
		if left, err := filepath.Glob(filepath.Join(k.groups(), "*.json")); err != nil || len(left) > 0 {
			t.Errorf("round %d: left %v, %v", round, left, err)
		}
		check(t, k.Release())
	}
}

// A group is restored as a whole or not at all.
func TestRestoreTogether(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a", "b", "c")
	refs := []state.Ref{bookRef("a"), bookRef("b"), bookRef("c")}
	put := func(value string) {
		for _, r := range refs {
			l.put(r.Component, "x", value)
		}
	}
	put("1")
	then := must(m.TakeSnapshots(ctx, state.SnapshotRequest{Refs: refs, Reason: "manual"}))(t)
	put("2")
	is := func(want string) {
		t.Helper()
		for _, r := range refs {
			if got := l.get(r.Component, "x"); got != want {
				t.Errorf("%s has %s, want %s", r, got, want)
			}
		}
	}
	q := state.RestoreRequest{Ref: refs[0], ID: then[0].Snapshot, With: []state.Restoring{{Ref: refs[1], ID: then[1].Snapshot}, {Ref: refs[2], ID: then[2].Snapshot}}}
	for _, fails := range []string{"restore b", "restore c", "snapshot c"} {
		l.fails = fails
		_, err := m.RestoreAs(ctx, q)
		if _, who, _ := strings.Cut(fails, " "); !errors.Is(err, errProbe) || !strings.Contains(err.Error(), "ledger/"+who) {
			t.Errorf("%s: %v", fails, err)
		}
		l.fails = ""
		is("2")
	}
	l.clients = 1
	if _, err := m.RestoreAs(ctx, q); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	is("2")
	l.clients = 0
	must(m.RestoreAs(ctx, q))(t)
	is("1")
	if l.exposed || len(l.shut) > 0 {
		t.Errorf("clients could reach one of them, or cannot now: %v", l.shut)
	}
	must(m.RestoreAs(ctx, q))(t)
	is("1")
	if _, err := m.Undo(ctx, state.RestoreRequest{Ref: refs[1]}); err != nil || l.get("b", "x") != "2" {
		t.Error(err)
	}
	for _, bad := range []state.RestoreRequest{
		{Ref: refs[0], ID: then[0].Snapshot, With: []state.Restoring{{Ref: refs[0], ID: then[0].Snapshot}}},
		{Ref: refs[0], ID: then[0].Snapshot, Part: "x", With: q.With},
	} {
		if _, err := m.RestoreAs(ctx, bad); !errors.Is(err, state.ErrBadProperty) {
			t.Error(err)
		}
	}
	q.With[1].ID = "00"
	if _, err := m.RestoreAs(ctx, q); err == nil || !strings.Contains(err.Error(), "nothing was restored of the 3") {
		t.Error(err)
	}
}

// quiet is a ledger whose books can be kept still, and whose snapshots end only after their clients went on.
type quiet struct {
	*ledger
	on chan struct{}
}

func (q quiet) Quiesce(_ context.Context, t state.Target) (func(context.Context) error, error) {
	if err := q.Lock(context.Background(), t); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		defer func() { q.on <- struct{}{} }()
		return q.Unlock(ctx, t)
	}, nil
}

func (q quiet) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	var b bytes.Buffer
	if err := q.ledger.Snapshot(ctx, t, &b); err != nil {
		return err
	}
	if _, err := w.Write(b.Next(1)); err != nil {
		return err
	}
	<-q.on
	_, err := b.WriteTo(w)
	return err
}

// Clients wait only until the last snapshot of a group has begun.
func TestClientsGoOnBeforeTheEnd(t *testing.T) {
	l := newLedger()
	q := quiet{l, make(chan struct{}, 2)}
	k := must(Open(Config{Directory: t.TempDir(), Store: newStore(t).Store, Modules: []state.Module{q}}))(t)
	for _, name := range []string{"a", "b"} {
		must(k.Activate(t.Context(), book(name)))(t)
	}
	l.take()
	request := state.SnapshotRequest{Refs: []state.Ref{bookRef("a"), bookRef("b")}, Reason: "manual"}
	must(k.TakeSnapshots(t.Context(), request))(t)
	if seen := l.take(); len(seen) != 6 || seen[0] != "lock a" || seen[1] != "lock b" || seen[4] != "unlock b" || seen[5] != "unlock a" || len(l.locked) > 0 {
		t.Errorf("%q, locked %v", seen, l.locked)
	}
	l.veto = "b"
	if _, err := k.TakeSnapshots(t.Context(), request); !errors.Is(err, state.ErrVeto) || len(l.locked) > 0 {
		t.Errorf("%v, locked %v", err, l.locked)
	}
}

// One client writes to two databases in turn: in no group is one of them further than that.
func TestGroupIsOfOneMoment(t *testing.T) {
	ctx := t.Context()
	m := open(t, t.TempDir(), newStore(t))
	names := []string{"a", "b"}
	request := state.SnapshotRequest{Reason: "manual"}
	ref := func(name string) state.Ref { return state.Ref{Container: sqlite.Name, Component: name} }
	count := func(name string) string { return m.exec(t, ref(name), "SELECT n FROM counter") }
	for _, name := range names {
		must(m.Activate(ctx, state.Component{Name: name, Module: sqlite.Name}))(t)
		m.exec(t, ref(name), "CREATE TABLE counter(n)", "INSERT INTO counter VALUES(0)", "SELECT 1")
		request.Refs = append(request.Refs, ref(name))
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			for _, name := range names {
				select {
				case <-stop:
					return
				default:
					m.exec(t, ref(name), "UPDATE counter SET n = n + 1", "SELECT 1")
				}
			}
		}
	}()
	var groups [][]state.Generation
	for range 10 {
		groups = append(groups, must(m.TakeSnapshots(ctx, request))(t))
	}
	close(stop)
	<-stopped
	for _, group := range groups {
		var counts []int
		for _, g := range group {
			check(t, m.Restore(ctx, ref(g.Component), g.Snapshot))
			counts = append(counts, must(strconv.Atoi(count(g.Component)))(t))
		}
		if ahead := counts[0] - counts[1]; ahead != 0 && ahead != 1 {
			t.Errorf("a group has %v", counts)
		}
	}
}
