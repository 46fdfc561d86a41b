package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"orrery/state"
)

func TestGroup(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a", "b", "c")
	q := state.SnapshotRequest{Refs: []state.Ref{bookRef("b"), bookRef("a"), bookRef("b")}, Reason: "manual", Tags: []string{"noon"}}
	all := must(m.TakeSnapshots(ctx, q))(t)
	if len(all) != 2 || all[0].Group == "" || all[0].Group != all[1].Group || all[0].Server != "Ledger 1" || !slices.Contains(all[1].Tags, "noon") {
		t.Fatalf("%+v", all)
	}
	seen := l.take()
	if len(seen) != 6 || seen[0] != "lock a" || seen[1] != "lock b" || seen[4] != "unlock b" || seen[5] != "unlock a" {
		t.Errorf("%q", seen)
	}
	l.veto = "c"
	q.Refs = append(q.Refs, bookRef("c"))
	l.put("a", "x", "1")
	_, err := m.TakeSnapshots(ctx, q)
	if !errors.Is(err, state.ErrVeto) || !strings.Contains(err.Error(), "nothing was saved of the 3") {
		t.Error(err)
	}
	if seen := l.take(); slices.Contains(seen, "snapshot a") || !slices.Contains(seen, "unlock a") || len(l.locked) != 0 {
		t.Errorf("%q, locked %v", seen, l.locked)
	}
	if all := must(m.config.Store.Generations(ctx, state.Ref{}))(t); len(all) != 2 {
		t.Errorf("%+v", all)
	}
	l.put("a", "damaged", "yes")
	if _, err := m.TakeSnapshots(ctx, state.SnapshotRequest{Refs: q.Refs[:2], Check: true}); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
	if _, err := m.TakeSnapshots(ctx, state.SnapshotRequest{Refs: q.Refs[:2], Tags: []string{"a b"}}); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
}

func TestLease(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a")
	ref := bookRef("a")
	first := must(m.Snapshot(ctx, ref, "manual"))(t)
	l.put("a", "x", "1")
	must(m.Lock(ctx, ref, "ann", time.Hour))(t)
	if l.locked["a"] != 1 {
		t.Error("the component does not hold still")
	}
	ann, bob := state.WithCaller(ctx, "ann"), state.WithCaller(ctx, "bob")
	for name, do := range map[string]func(context.Context) error{
		"deactivate": func(ctx context.Context) error { return m.Deactivate(ctx, ref) },
		"restore":    func(ctx context.Context) error { return m.Restore(ctx, ref, first.Snapshot) },
		"lock":       func(ctx context.Context) error { _, err := m.Lock(ctx, ref, "bob", time.Hour); return err },
		"unlock":     func(ctx context.Context) error { return m.Unlock(ctx, ref, "bob", false) },
	} {
		if err := do(bob); !errors.Is(err, state.ErrLocked) || !strings.Contains(err.Error(), "ann") {
			t.Errorf("%s: %v", name, err)
		}
	}
	check(t, m.Restore(ann, ref, first.Snapshot))
	if s := must(m.Status(ctx, ref))(t); s.Lease == nil || s.Lease.By != "ann" {
		t.Errorf("%+v", s.Lease)
	}
	check(t, m.Unlock(ctx, ref, "bob", true))
	check(t, m.Unlock(ctx, ref, "bob", true))
	if len(l.locked) != 0 {
		t.Error("the component still holds still")
	}
	must(m.Lock(ctx, ref, "ann", time.Nanosecond))(t)
	check(t, m.Sweep(ctx))
	if s := must(m.Status(ctx, ref))(t); s.Lease != nil || len(l.locked) != 0 {
		t.Errorf("an expired lease: %+v, %v", s.Lease, l.locked)
	}
	check(t, m.Deactivate(bob, ref))
	l.veto = "a"
	must(m.Activate(ctx, book("a")))(t)
	if _, err := m.Lock(ctx, ref, "ann", time.Hour); !errors.Is(err, state.ErrVeto) {
		t.Error(err)
	}
	check(t, m.Deactivate(bob, ref))
}

// What a keeper that was killed in the middle of a group left holding still goes on.
func TestKilledGroup(t *testing.T) {
	m, l := openLedger(t, Config{}, "a")
	rec := must(m.load(bookRef("a")))(t)
	rec.Holding = true
	check(t, m.save(rec))
	l.locked["a"] = 1
	check(t, m.Sweep(t.Context()))
	if len(l.locked) != 0 || must(m.load(bookRef("a")))(t).Holding {
		t.Error("it still holds still")
	}
}

// What a keeper that was killed in the middle of a restore left shut is opened.
func TestKilledRestore(t *testing.T) {
	m, l := openLedger(t, Config{}, "a")
	rec := must(m.load(bookRef("a")))(t)
	rec.Shut = true
	check(t, m.save(rec))
	l.shut["a"] = true
	check(t, m.Sweep(t.Context()))
	if l.shut["a"] || must(m.load(bookRef("a")))(t).Shut {
		t.Error("it is still shut")
	}
}

func TestUndo(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a")
	ref := bookRef("a")
	if _, err := m.Undo(ctx, state.RestoreRequest{Ref: ref}); !errors.Is(err, state.ErrNoSnapshot) {
		t.Error(err)
	}
	l.put("a", "x", "1")
	first := must(m.Snapshot(ctx, ref, "manual"))(t)
	l.put("a", "x", "2")
	check(t, m.Restore(ctx, ref, first.Snapshot))
	for _, want := range []string{"2", "1", "2"} {
		must(m.Undo(ctx, state.RestoreRequest{Ref: ref}))(t)
		if got := l.get("a", "x"); got != want {
			t.Fatalf("after undo: %s, not %s", got, want)
		}
	}
	l.put("a", "y", "3")
	must(m.RestoreAs(ctx, state.RestoreRequest{Ref: ref, ID: first.Snapshot, Part: "x"}))(t)
	if l.get("a", "x") != "1" || l.get("a", "y") != "3" {
		t.Errorf("after a partial restore: %v", l.books["a"])
	}
	must(m.Undo(ctx, state.RestoreRequest{Ref: ref}))(t)
	if l.get("a", "x") != "2" || l.get("a", "y") != "3" {
		t.Errorf("after undoing it: %v", l.books["a"])
	}
	if _, err := m.RestoreAs(ctx, state.RestoreRequest{Ref: ref, ID: first.Snapshot, Part: "nothing"}); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	s := must(m.RestoreAs(ctx, state.RestoreRequest{Ref: ref, ID: first.Snapshot, As: "then"}))(t)
	if s.Phase != state.PhaseActive || s.Forked != "" || l.get("then", "x") != "1" || s.Generation == 0 {
		t.Errorf("%+v", s)
	}
	if _, err := m.RestoreAs(ctx, state.RestoreRequest{Ref: ref, ID: first.Snapshot, As: "then"}); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	l.put("a", "x", "4")
	l.clients = 2
	if _, err := m.RestoreAs(ctx, state.RestoreRequest{Ref: ref, ID: first.Snapshot}); !errors.Is(err, state.ErrInUse) || !strings.Contains(err.Error(), "2 connected clients") {
		t.Error(err)
	}
	if l.get("a", "x") != "4" {
		t.Error("a refused restore changed the state")
	}
	must(m.RestoreAs(ctx, state.RestoreRequest{Ref: ref, ID: first.Snapshot, Force: true}))(t)
	if l.exposed || l.shut["a"] || must(m.load(ref))(t).Shut {
		t.Error("clients could write during a restore, or cannot now")
	}
	go func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.clients = 0
	}()
	must(m.RestoreAs(ctx, state.RestoreRequest{Ref: ref, Wait: time.Minute}))(t)
}

func TestTestRestore(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a")
	ref := bookRef("a")
	l.put("a", "x", "1")
	g := must(m.Snapshot(ctx, ref, "manual"))(t)
	tested := must(m.TestRestore(ctx, ref, ""))(t)
	if tested.Snapshot != g.Snapshot || tested.How != "bytes" {
		t.Errorf("%+v", tested)
	}
	l.loose = true
	if tested := must(m.TestRestore(ctx, ref, ""))(t); tested.How != "items" || tested.Items != 1 {
		t.Errorf("%+v", tested)
	}
	for _, l.loose = range []bool{false, true} {
		l.damaged = true
		if _, err := m.TestRestore(ctx, ref, ""); !errors.Is(err, state.ErrCorrupt) {
			t.Error(err)
		}
		l.damaged = false
	}
	if len(l.books) != 1 || l.get("a", "damaged") != "" {
		t.Errorf("books %v", l.books)
	}
	g = must(m.config.Store.Generations(ctx, ref))(t)[0]
	if g.Tested.IsZero() || g.Verified.IsZero() {
		t.Errorf("%+v", g)
	}
	// A crash leaves a scratch component, which nobody sees and the next sweep removes.
	left := record{Component: book("a@test-left"), Forking: &ref, Scratch: true, Phase: state.PhaseStaged}
	left.Component.Container, left.Component.Session = "ledger", "test-left"
	check(t, m.save(left))
	l.books["a@test-left"] = map[string]string{}
	if all := must(m.List(ctx))(t); len(all) != 1 {
		t.Errorf("%+v", all)
	}
	check(t, m.Sweep(ctx))
	if len(l.books) != 1 {
		t.Errorf("books %v", l.books)
	}
}

// scripts are artifacts by a name that stands for their hash.
type scripts map[string]string

func (s scripts) Path(sum string) (string, error) {
	if path, ok := s[sum]; ok {
		return path, nil
	}
	return "", state.ErrNotFound
}

func (s scripts) add(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	check(t, os.WriteFile(path, []byte(content), 0o600))
	s[content] = path
	return content
}

func TestMigrations(t *testing.T) {
	ctx, files := t.Context(), scripts{}
	m, l := openLedger(t, Config{Artifacts: files}, "a")
	with := func(contents ...string) state.Component {
		c := book("a")
		c.Files = map[string]string{}
		for i, content := range contents {
			c.Files[fmt.Sprintf("migrations/%04d-step.sql", i+1)] = files.add(t, content)
		}
		return c
	}
	must(m.Activate(ctx, with("x=1")))(t)
	must(m.Activate(ctx, with("x=1", "y=2;x=3")))(t)
	if l.get("a", "x") != "3" || l.get("a", "y") != "2" {
		t.Fatalf("%v", l.books["a"])
	}
	generations := must(m.config.Store.Generations(ctx, bookRef("a")))(t)
	if len(generations) != 2 || generations[1].Reason != "pre-migration" {
		t.Errorf("%+v", generations)
	}
	l.put("a", "x", "user")
	_, err := m.Activate(ctx, with("x=1", "y=2;x=3", "x=lost", "z=1;fail"))
	if !errors.Is(err, errProbe) || !strings.Contains(err.Error(), "0004-step.sql") {
		t.Errorf("failing migration: %v", err)
	}
	s := must(m.Status(ctx, bookRef("a")))(t)
	if l.get("a", "x") != "user" || l.get("a", "z") != "" || s.Phase != state.PhaseActive || len(s.Component.Files) != 2 {
		t.Errorf("after a failed migration: %v, %+v", l.books["a"], s)
	}
	if _, err := m.Activate(ctx, with("x=0", "y=2;x=3")); !errors.Is(err, state.ErrBadProperty) || !strings.Contains(err.Error(), "0001-step.sql was changed") {
		t.Errorf("changed migration: %v", err)
	}
	if left := must(m.Migrate(ctx, bookRef("a"), true))(t); len(left) != 0 {
		t.Errorf("%+v", left)
	}
	must(m.Activate(ctx, with("x=1")))(t) // a version before is no error
	for _, l.loose = range []bool{false, true} {
		l.whole = true
		l.take()
		if _, err := m.Activate(ctx, with("x=1", "y=2;x=3", "z=1;fail")); !errors.Is(err, errProbe) || !strings.Contains(err.Error(), "nothing was migrated") {
			t.Errorf("a migration that the module took back: %v", err)
		}
		if seen := l.take(); slices.Contains(seen, "restore a") {
			t.Errorf("restored although nothing had changed: %q", seen)
		}
		l.whole = false
		if _, err := m.Activate(ctx, with("x=1", "y=2;x=3", "z=1;fail")); !errors.Is(err, errProbe) || !slices.Contains(l.take(), "restore a") || l.get("a", "z") != "" {
			t.Errorf("a migration that left a part: %v, %v", err, l.books["a"])
		}
	}
	l.loose = false
	for name, applied := range map[string]struct{ wanted, applied []state.Migration }{
		"between": {[]state.Migration{{Number: 1}, {Number: 2}}, []state.Migration{{Number: 2}}},
		"changed": {[]state.Migration{{Number: 1, SHA256: "a"}}, []state.Migration{{Number: 1, SHA256: "b"}}},
	} {
		if left, err := pending(applied.wanted, applied.applied); err == nil {
			t.Errorf("%s: %v", name, left)
		}
	}
	for _, bad := range []map[string]string{{"migrations/x.sql": ""}, {"migrations/0.sql": ""}, {"migrations/1-a": "", "migrations/01-b": ""}} {
		if _, err := migrations(state.Component{Files: bad}); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%v: %v", bad, err)
		}
	}
}

// A component that cannot be migrated when it is activated first is out of service, and its record says why.
func TestUnmigratedComponent(t *testing.T) {
	ctx, files := t.Context(), scripts{}
	m, l := openLedger(t, Config{Artifacts: files}, "old")
	bad := files.add(t, "y=1;fail")
	for _, name := range []string{"new", "old"} {
		c := book(name)
		c.Files = map[string]string{"migrations/0001-bad.sql": bad}
		if name == "old" {
			check(t, m.Deactivate(ctx, bookRef("old")))
		}
		if _, err := m.Activate(ctx, c); !errors.Is(err, errProbe) {
			t.Errorf("%s: %v", name, err)
		}
		s := must(m.Status(ctx, bookRef(name)))(t)
		if s.Phase != state.PhaseInactive || !strings.Contains(s.Detail, "could not be migrated: migration 0001-bad.sql") || l.get(name, "y") != "" {
			t.Errorf("%s: %+v, %v", name, s, l.books[name])
		}
		c.Files["migrations/0001-bad.sql"] = files.add(t, "y=1")
		if s := must(m.Activate(ctx, c))(t); s.Phase != state.PhaseActive || s.Detail != "" || l.get(name, "y") != "1" {
			t.Errorf("%s: %+v, %v", name, s, l.books[name])
		}
	}
}

func TestForks(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a")
	ref := bookRef("a")
	l.put("a", "x", "1")
	first := must(m.Snapshot(ctx, ref, "manual"))(t)
	l.put("a", "x", "2")
	s := must(m.ForkAs(ctx, state.ForkRequest{From: ref, As: "now", Owner: "ann"}))(t)
	if s.Forked != state.ForkRestore || s.Branch.Origin != ref || s.Branch.Owner != "ann" || l.get("now", "x") != "2" {
		t.Errorf("%+v", s)
	}
	must(m.ForkAs(ctx, state.ForkRequest{From: ref, As: "then", At: first.Snapshot, Expires: time.Hour}))(t)
	if l.get("then", "x") != "1" {
		t.Errorf("%v", l.books)
	}
	l.put("now", "x", "3")
	l.put("then", "x", "3")
	l.put("a", "x", "4")
	must(m.ResetFork(ctx, bookRef("now")))(t)
	must(m.ResetFork(ctx, bookRef("then")))(t)
	if l.get("now", "x") != "4" || l.get("then", "x") != "1" {
		t.Errorf("after a reset: %v", l.books)
	}
	if _, err := m.ForkAs(ctx, state.ForkRequest{From: ref, As: "thin", Method: "thin"}); !errors.Is(err, state.ErrNotAble) {
		t.Error(err)
	}
	if _, err := m.ForkAs(ctx, state.ForkRequest{From: ref, As: "a"}); !errors.Is(err, state.ErrInUse) {
		t.Error(err)
	}
	if err := m.DeleteFork(ctx, ref); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
	for range 2 {
		check(t, m.DeleteFork(ctx, bookRef("now")))
	}
	rec := must(m.load(bookRef("then")))(t)
	rec.Branch.Expires = time.Now().Add(-time.Second)
	check(t, m.save(rec))
	check(t, m.Sweep(ctx))
	if all := must(m.List(ctx))(t); len(all) != 1 || len(l.books) != 1 {
		t.Errorf("%+v, %v", all, l.books)
	}
}

// A fork whose deletion was interrupted is deleted by the next sweep.
func TestKilledDeletion(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a")
	must(m.ForkAs(ctx, state.ForkRequest{From: bookRef("a"), As: "b"}))(t)
	rec := must(m.load(bookRef("b")))(t)
	rec.Forking = &rec.Branch.Origin
	check(t, m.save(rec))
	check(t, m.Sweep(ctx))
	if len(l.books) != 1 {
		t.Errorf("%v", l.books)
	}
}

func TestHooks(t *testing.T) {
	ctx, folder := t.Context(), t.TempDir()
	out := filepath.Join(folder, "out")
	hook := func(operation, when, script string) Hook {
		return Hook{Operation: operation, When: when, Command: []string{"/bin/sh", "-c", script, "sh", out}}
	}
	say := `echo $ORRERY_WHEN $ORRERY_OPERATION $ORRERY_COMPONENT $ORRERY_GENERATION $ORRERY_OUTCOME >> "$1"`
	hooks := []Hook{hook("snapshot", "before", say), hook("snapshot", "after", say), hook("restore", "before", say), hook("restore", "after", say)}
	m, l := openLedger(t, Config{Hooks: func() ([]Hook, error) { return hooks, nil }}, "a")
	l.put("a", "x", "1")
	g := must(m.TakeSnapshots(ctx, state.SnapshotRequest{Refs: []state.Ref{bookRef("a")}}))(t)[0]
	l.put("a", "x", "2")
	check(t, m.Restore(ctx, bookRef("a"), g.Snapshot))
	l.put("a", "x", "3")
	hooks = append(hooks, hook("snapshot", "before", "echo no room >&2; exit 1"))
	if _, err := m.Snapshot(ctx, bookRef("a"), "manual"); err == nil || !strings.Contains(err.Error(), "no room") {
		t.Errorf("a failing hook: %v", err)
	}
	if all := must(m.config.Store.Generations(ctx, bookRef("a")))(t); len(all) != 3 {
		t.Errorf("%d generations", len(all))
	}
	want := "before snapshot ledger/a\nafter snapshot ledger/a 1 ok\nbefore restore ledger/a\nafter restore ledger/a ok\n" +
		"before snapshot ledger/a\nafter snapshot ledger/a failed\n"
	if got := string(must(os.ReadFile(out))(t)); got != want {
		t.Errorf("hooks said\n%s", got)
	}
	hooks = []Hook{hook("snapshot", "before", "sleep 1000")}
	hooks[0].Timeout = "50ms"
	if _, err := m.Snapshot(ctx, bookRef("a"), "manual"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a slow hook: %v", err)
	}
	for _, bad := range []Hook{{}, {Operation: "snapshot"}, {Operation: "snapshot", When: "after", Command: []string{"sh"}}} {
		if err := bad.Check(); !errors.Is(err, state.ErrBadProperty) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
