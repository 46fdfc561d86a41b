package keeper

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"orrery/state"
	"orrery/state/module/fileset"
	"orrery/state/module/sqlite"
)

type machine struct {
	*Keeper
	store *recording
}

func open(t *testing.T, folder string, store *recording) machine {
	t.Helper()
	k, err := Open(Config{Directory: folder, Store: store, Modules: []state.Module{sqlite.New(nil)}})
	if err != nil {
		t.Fatal(err)
	}
	return machine{k, store}
}

var notes = state.Component{Name: "notes", Module: sqlite.Name}

var notesRef = state.Ref{Container: sqlite.Name, Component: "notes"}

func (m machine) exec(tb testing.TB, r state.Ref, statements ...string) string {
	tb.Helper()
	s, err := m.Status(tb.Context(), r)
	if err != nil {
		tb.Fatal(err)
	}
	pool, err := sql.Open("sqlite", "file:"+s.Exports["path"]+"?mode=rw&_pragma=busy_timeout(5000)")
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	value := ""
	for _, statement := range statements {
		err := pool.QueryRowContext(tb.Context(), statement).Scan(&value)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			tb.Fatalf("%s: %v", statement, err)
		}
	}
	return value
}

func must[T any](value T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A record that is damaged takes its component out of reach, and no other.
func TestDamagedRecord(t *testing.T) {
	ctx := t.Context()
	m, l := openLedger(t, Config{}, "a", "b")
	l.put("a", "x", "1")
	first := must(m.Snapshot(ctx, bookRef("a"), "manual"))(t)
	file := m.recordFile(bookRef("a"))
	var k *Keeper
	for _, content := range []string{"garbage", "{\"version\": 1}", "{"} {
		check(t, os.WriteFile(file, []byte(content), 0o600))
		k = must(Open(m.config))(t)
		list := must(k.List(ctx))(t)
		if len(list) != 2 || list[0].Phase != state.PhaseFailed || !strings.Contains(list[0].Detail, file) || list[1].Phase != state.PhaseActive {
			t.Errorf("%+v", list)
		}
	}
	if _, err := k.Snapshot(ctx, bookRef("a"), "manual"); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
	must(k.Snapshot(ctx, bookRef("b"), "manual"))(t)
	check(t, os.Remove(file)) // as the error says
	must(k.Activate(ctx, book("a")))(t)
	check(t, k.Restore(ctx, bookRef("a"), first.Snapshot))
	if l.get("a", "x") != "1" {
		t.Error("the state is gone")
	}
}

func TestLifeOfAComponent(t *testing.T) {
	m := open(t, t.TempDir(), newStore(t))
	ctx := t.Context()
	s := must(m.Activate(ctx, notes))(t)
	if s.Phase != state.PhaseActive || s.Size <= 0 || s.Generation != 0 || s.Component.Container != sqlite.Name {
		t.Fatalf("after activation: %+v", s)
	}
	m.exec(t, notesRef, "CREATE TABLE note(text)", "INSERT INTO note VALUES('one')")
	first := must(m.Snapshot(ctx, notesRef, "manual"))(t)
	m.exec(t, notesRef, "INSERT INTO note VALUES('two')")
	check(t, m.Restore(ctx, notesRef, ""))
	if got := m.exec(t, notesRef, "SELECT count(*) FROM note"); got != "1" {
		t.Fatalf("%s notes after restore", got)
	}
	generations := must(m.store.Generations(ctx, notesRef))(t)
	if len(generations) != 3 || generations[1].Reason != "pre-restore" || generations[2].Snapshot != first.Snapshot {
		t.Fatalf("generations after restore: %+v", generations)
	}
	check(t, m.Restore(ctx, notesRef, ""))
	if again := must(m.store.Generations(ctx, notesRef))(t); len(again) != 3 {
		t.Fatalf("repeating a restore added generations: %+v", again)
	}
	check(t, m.Restore(ctx, notesRef, generations[1].Snapshot))
	if got := m.exec(t, notesRef, "SELECT count(*) FROM note"); got != "2" {
		t.Fatalf("%s notes after undoing the restore", got)
	}
	if err := m.CollectGarbage(ctx, notesRef); !errors.Is(err, state.ErrActive) {
		t.Fatalf("garbage collection of an active component: %v", err)
	}
	for range 2 {
		check(t, m.Deactivate(ctx, notesRef))
	}
	for range 2 {
		check(t, m.CollectGarbage(ctx, notesRef))
	}
	if err := m.Deactivate(ctx, notesRef); !errors.Is(err, state.ErrNotFound) {
		t.Fatalf("deactivation of nothing: %v", err)
	}
	check(t, m.Close(ctx))
}

// The store describes bytes by the module that wrote them first; the other one's component can be restored all the same.
func TestRestoreOfBytesThatAnotherModuleWroteToo(t *testing.T) {
	ctx, folder, first, second := t.Context(), t.TempDir(), newStore(t), newStore(t)
	m := open(t, folder, first)
	must(m.Activate(ctx, notes))(t)
	g := must(m.Snapshot(ctx, notesRef, "manual"))(t)
	r := must(first.Open(ctx, g.Snapshot))(t)
	defer func() { _ = r.Close() }()
	copyTo := func(w io.Writer) error { _, err := io.Copy(w, r); return err }
	must(second.Save(ctx, state.Ref{Container: "other", Component: "x"}, "other", "manual", state.Source{Write: copyTo}))(t)
	check(t, m.Close(ctx))
	m = open(t, folder, second)
	must(m.Activate(ctx, notes))(t)
	if err := m.Restore(ctx, notesRef, g.Snapshot); err == nil {
		t.Fatal("restored another module's snapshot")
	}
	must(m.Snapshot(ctx, notesRef, "manual"))(t)
	m.exec(t, notesRef, "CREATE TABLE note(text)")
	check(t, m.Restore(ctx, notesRef, g.Snapshot))
	check(t, m.Close(ctx))
}

func TestRestoreOverGarbage(t *testing.T) {
	m := open(t, t.TempDir(), newStore(t))
	ctx := t.Context()
	must(m.Activate(ctx, notes))(t)
	m.exec(t, notesRef, "CREATE TABLE note(text)", "INSERT INTO note VALUES('one')")
	must(m.Snapshot(ctx, notesRef, "backup"))(t)
	file := must(m.Status(ctx, notesRef))(t).Exports["path"]
	check(t, os.WriteFile(file, []byte("this was a database, and a disaster happened to it"), 0o600))
	s := must(m.Status(ctx, notesRef))(t)
	if s.Phase != state.PhaseFailed || s.Detail == "" {
		t.Fatalf("status with garbage: %+v", s)
	}
	if _, err := m.Snapshot(ctx, notesRef, "backup"); !errors.Is(err, state.ErrCorrupt) {
		t.Fatalf("snapshot of garbage: %v", err)
	}
	check(t, m.Restore(ctx, notesRef, ""))
	if got := m.exec(t, notesRef, "SELECT count(*) FROM note"); got != "1" {
		t.Fatalf("%s notes after restore", got)
	}
	kept, err := os.ReadFile(file + ".before-restore")
	if err != nil || len(kept) == 0 {
		t.Fatalf("the unreadable file was not kept: %v", err)
	}
}

func TestMove(t *testing.T) {
	ctx, store := t.Context(), newStore(t)
	from, to := open(t, t.TempDir(), store), open(t, t.TempDir(), store)
	must(from.Activate(ctx, notes))(t)
	from.exec(t, notesRef, "CREATE TABLE note(text)", "INSERT INTO note VALUES('one')")
	check(t, from.Track(ctx, notesRef))
	var last state.Generation
	for range 3 {
		from.exec(t, notesRef, "INSERT INTO note VALUES('another')")
		last = must(from.Snapshot(ctx, notesRef, "move"))(t)
		check(t, to.Stage(ctx, notes, last.Snapshot))
		check(t, to.Stage(ctx, notes, last.Snapshot))
	}
	if s := store.sources[len(store.sources)-1]; s.Image == nil || s.Since == "" {
		t.Fatalf("the last snapshot was not taken from a tracker: %+v", s)
	}
	check(t, from.Deactivate(ctx, notesRef))
	if s := must(to.Status(ctx, notesRef))(t); s.Phase != state.PhaseStaged {
		t.Fatalf("phase of the stage: %s", s.Phase)
	}
	if err := to.Commit(ctx, notesRef, "other"); err == nil {
		t.Fatal("the stage was committed as another snapshot")
	}
	for range 2 {
		check(t, to.Commit(ctx, notesRef, last.Snapshot))
	}
	if s := must(to.Activate(ctx, notes))(t); s.Phase != state.PhaseActive {
		t.Fatalf("after the move: %+v", s)
	}
	if got := to.exec(t, notesRef, "SELECT count(*) FROM note"); got != "4" {
		t.Fatalf("%s notes after the move", got)
	}
	if g := must(to.Snapshot(ctx, notesRef, "manual"))(t); g.Snapshot != last.Snapshot {
		t.Fatal("the moved state has another id")
	}
	check(t, from.CollectGarbage(ctx, notesRef))
	check(t, from.Close(ctx))
	check(t, to.Close(ctx))
}

func TestForkOfASession(t *testing.T) {
	ctx := t.Context()
	m := open(t, t.TempDir(), newStore(t))
	must(m.Activate(ctx, notes))(t)
	m.exec(t, notesRef, "CREATE TABLE note(text)", "INSERT INTO note VALUES('one')")
	blue := state.Component{Name: "notes@blue", Module: sqlite.Name, Session: "blue"}
	for range 2 {
		s := must(m.Fork(ctx, notesRef, blue))(t)
		if s.Phase != state.PhaseActive || s.Forked != "copy" && s.Forked != "reflink" {
			t.Fatalf("fork: %+v", s)
		}
	}
	fork := state.Ref{Container: sqlite.Name, Component: "notes@blue"}
	m.exec(t, fork, "INSERT INTO note VALUES('blue')")
	if p, f := m.exec(t, notesRef, "SELECT count(*) FROM note"), m.exec(t, fork, "SELECT count(*) FROM note"); p != "1" || f != "2" {
		t.Fatalf("%s notes in production, %s in the fork", p, f)
	}
	check(t, m.Deactivate(ctx, fork))
	check(t, m.CollectGarbage(ctx, fork))
	if all := must(m.List(ctx))(t); len(all) != 1 {
		t.Fatalf("after the session: %+v", all)
	}
}

// A refused fork leaves what was there before it, which is nobody's garbage.
func TestForkOverSomething(t *testing.T) {
	ctx := t.Context()
	k := must(Open(Config{Directory: t.TempDir(), Store: newStore(t), Modules: []state.Module{fileset.New(nil)}}))(t)
	photos := state.Component{Name: "photos", Module: fileset.Name}
	must(k.Activate(ctx, photos))(t)
	precious := filepath.Join(t.TempDir(), "precious")
	check(t, os.Mkdir(precious, 0o700))
	into := photos
	into.Name, into.Properties = "mine", state.Properties{"directory": precious}
	for range 2 {
		if _, err := k.Fork(ctx, state.Ref{Container: fileset.Name, Component: "photos"}, into); !errors.Is(err, state.ErrInUse) {
			t.Errorf("fork: %v", err)
		}
	}
	if _, err := os.Stat(precious); err != nil {
		t.Errorf("what was there: %v", err)
	}
	if all := must(k.List(ctx))(t); len(all) != 1 {
		t.Errorf("%+v", all)
	}
}

func TestBoot(t *testing.T) {
	ctx, folder, store := t.Context(), t.TempDir(), newStore(t)
	m := open(t, folder, store)
	must(m.Activate(ctx, notes))(t)
	other := state.Component{Name: "other", Module: sqlite.Name}
	must(m.Activate(ctx, other))(t)
	check(t, m.Close(ctx))
	m = open(t, folder, store)
	check(t, m.Boot(ctx, func(c state.Component) bool { return c.Name == "notes" }))
	for name, want := range map[string]state.Phase{"notes": state.PhaseActive, "other": state.PhaseInactive} {
		if s := must(m.Status(ctx, state.Ref{Container: sqlite.Name, Component: name}))(t); s.Phase != want {
			t.Errorf("%s after boot: %s", name, s.Phase)
		}
	}
}

func TestReferences(t *testing.T) {
	ctx := context.WithoutCancel(t.Context())
	m := open(t, t.TempDir(), newStore(t))
	must(m.Activate(ctx, notes))(t)
	path := must(m.Status(ctx, notesRef))(t).Exports["path"]
	c := state.Component{Name: "app@blue", Module: "x", Session: "blue", Properties: state.Properties{
		"a": "db=${component.notes.path};port=${self.port};$${literal}", "b": []any{"${component.notes.path}"}, "n": 3.0,
	}}
	p := must(m.resolve(ctx, c))(t)
	if got := p["a"]; got != "db="+path+";port=${self.port};${literal}" {
		t.Fatal(got)
	}
	if got := p["b"].([]any)[0]; got != path {
		t.Fatal(got)
	}
	must(m.Fork(ctx, notesRef, state.Component{Name: "notes@blue", Module: sqlite.Name, Session: "blue"}))(t)
	if got := must(m.resolve(ctx, c))(t)["b"].([]any)[0]; got != filepath.Join(filepath.Dir(path), "notes@blue.db") {
		t.Fatalf("the session's process finds %s", got)
	}
	for _, bad := range []string{"${nothing}", "${component.gone.path}", "${component.notes.port}", "${file.x}", "${service.a.url}", "${open"} {
		c.Properties = state.Properties{"a": bad}
		if _, err := m.resolve(ctx, c); err == nil {
			t.Errorf("%s is no error", bad)
		} else {
			t.Log(err)
		}
	}
}
