package keeper

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"orrery/state"
	"orrery/state/module/sqlite"
)

// probe is a module whose components are remembered only, and say when something is done to them.
type probe struct {
	mu     sync.Mutex
	active map[string]string // property "say" by component
	calls  []string
}

var errProbe = errors.New("the component does not want to")

func newProbe() *probe { return &probe{active: map[string]string{}} }

func (p *probe) Describe() state.Description { return state.Description{Name: "probe"} }

func (p *probe) Check(c state.Component) error {
	var known struct{ Say, DB string }
	return c.Properties.Decode(&known)
}

func (p *probe) note(call string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = append(p.calls, call)
}

func (p *probe) take() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	calls := p.calls
	p.calls = nil
	return calls
}

func (p *probe) Activate(_ context.Context, t state.Target) error {
	say, _ := t.Component.Properties["say"].(string)
	p.note("activate " + t.Component.Name + " " + say)
	if say == "fail" {
		return errProbe
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.active[t.Component.Name] = say
	return nil
}

func (p *probe) Deactivate(_ context.Context, t state.Target) error {
	p.note("deactivate " + t.Component.Name)
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.active, t.Component.Name)
	return nil
}

func (p *probe) Exports(t state.Target) (map[string]string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if say, ok := p.active[t.Component.Name]; ok {
		return map[string]string{"said": say}, nil
	}
	return nil, nil
}

func openWithProbe(t *testing.T, folder string, store *recording) (machine, *probe) {
	t.Helper()
	p := newProbe()
	k, err := Open(Config{Directory: folder, Store: store, Modules: []state.Module{sqlite.New(nil), p}})
	check(t, err)
	return machine{k, store}, p
}

func program(name, say string) state.Component {
	return state.Component{Name: name, Module: "probe", Properties: state.Properties{"say": say}}
}

func expect(t *testing.T, p *probe, want ...string) {
	t.Helper()
	if got := p.take(); !slices.Equal(got, want) {
		t.Errorf("calls %q, want %q", got, want)
	}
}

func TestUpgrade(t *testing.T) {
	ctx := t.Context()
	m, p := openWithProbe(t, t.TempDir(), newStore(t))
	must(m.Activate(ctx, program("a", "one")))(t)
	must(m.Activate(ctx, program("a", "one")))(t)
	must(m.Activate(ctx, program("a", "two")))(t)
	expect(t, p, "activate a one", "activate a one", "deactivate a", "activate a two")
	if _, err := m.Activate(ctx, program("a", "fail")); !errors.Is(err, errProbe) {
		t.Fatalf("failing upgrade: %v", err)
	}
	expect(t, p, "deactivate a", "activate a fail", "activate a two")
	s := must(m.Status(ctx, state.Ref{Container: "probe", Component: "a"}))(t)
	if s.Phase != state.PhaseActive || s.Component.Properties["say"] != "two" || s.Exports["said"] != "two" || s.Size != -1 {
		t.Fatalf("after a failed upgrade: %+v", s)
	}
	if _, err := m.Activate(ctx, program("b", "fail")); !errors.Is(err, errProbe) {
		t.Fatalf("failing activation: %v", err)
	}
	if all := must(m.List(ctx))(t); len(all) != 1 {
		t.Fatalf("a failed activation left something: %+v", all)
	}
	for name, bad := range map[string]state.Component{
		"module":    {Name: "x", Module: "nothing"},
		"container": {Name: "x", Module: "probe", Container: "nothing"},
		"name":      {Name: "../x", Module: "probe"},
		"other":     {Name: "x", Module: "probe", Container: sqlite.Name},
		"property":  {Name: "x", Module: "probe", Properties: state.Properties{"sya": "x"}},
		"file":      {Name: "x", Module: "probe", Files: map[string]string{"f": "00"}},
	} {
		if _, err := m.Activate(ctx, bad); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Log(err)
		}
	}
	if _, err := m.Snapshot(ctx, state.Ref{Container: "probe", Component: "a"}, "manual"); !errors.Is(err, state.ErrNotAble) {
		t.Errorf("snapshot of a stateless component: %v", err)
	}
}

func TestRestoreStopsWhatRefersToIt(t *testing.T) {
	ctx := t.Context()
	m, p := openWithProbe(t, t.TempDir(), newStore(t))
	must(m.Activate(ctx, notes))(t)
	app := program("app", "db")
	app.Properties["db"] = "${component.notes.path}"
	must(m.Activate(ctx, app))(t)
	must(m.Activate(ctx, program("web", "${component.app.said}")))(t)
	must(m.Activate(ctx, program("alone", "x")))(t)
	p.take()
	first := must(m.Snapshot(ctx, notesRef, "manual"))(t)
	m.exec(t, notesRef, "CREATE TABLE note(text)")
	check(t, m.Restore(ctx, notesRef, first.Snapshot))
	expect(t, p, "deactivate web", "deactivate app", "activate app db", "activate web db")
}

func TestBootOrder(t *testing.T) {
	ctx, folder, store := t.Context(), t.TempDir(), newStore(t)
	m, p := openWithProbe(t, folder, store)
	must(m.Activate(ctx, program("z", "first")))(t)
	must(m.Activate(ctx, program("m", "${component.z.said}")))(t)
	must(m.Activate(ctx, program("a", "${component.m.said}")))(t)
	must(m.Activate(ctx, program("gone", "x")))(t)
	check(t, m.Deactivate(ctx, state.Ref{Container: "probe", Component: "gone"}))
	p.take()
	check(t, m.Close(ctx))
	expect(t, p, "deactivate a", "deactivate m", "deactivate z")
	m, p = openWithProbe(t, folder, store)
	check(t, m.Boot(ctx, func(state.Component) bool { return true }))
	expect(t, p, "activate z first", "activate m first", "activate a first")
}

func TestBootFailure(t *testing.T) {
	ctx, folder, store := t.Context(), t.TempDir(), newStore(t)
	m, _ := openWithProbe(t, folder, store)
	must(m.Activate(ctx, program("z", "first")))(t)
	must(m.Activate(ctx, program("a", "${component.z.said}")))(t)
	check(t, m.Close(ctx))
	m, _ = openWithProbe(t, folder, store)
	err := m.Boot(ctx, func(c state.Component) bool { return c.Name == "a" })
	if err == nil {
		t.Fatal("a was brought back without what it refers to")
	}
	t.Log(err)
	ref := state.Ref{Container: "probe", Component: "a"}
	if s := must(m.Status(ctx, ref))(t); s.Phase != state.PhaseFailed || s.Detail == "" {
		t.Fatalf("what could not be brought back: %+v", s)
	}
	must(m.Activate(ctx, program("z", "again")))(t)
	if s := must(m.Activate(ctx, program("a", "${component.z.said}")))(t); s.Phase != state.PhaseActive || s.Exports["said"] != "again" {
		t.Fatalf("after repair: %+v", s)
	}
}

// follower is a stateful probe that can be tracked.
type follower struct {
	*probe
	trackers int
}

func (f *follower) Snapshot(_ context.Context, _ state.Target, w io.Writer) error {
	_, err := w.Write([]byte("state"))
	return err
}

func (f *follower) Restore(_ context.Context, _ state.Target, r io.Reader) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func (f *follower) CollectGarbage(context.Context, state.Target) error { return nil }

func (f *follower) Track(context.Context, state.Target) (state.Tracker, error) {
	f.trackers++
	return f, nil
}

func (f *follower) Image(context.Context) (state.Image, error) { return nil, errProbe }

func (f *follower) Close() error {
	f.trackers--
	return nil
}

func TestTrackingEndsByItself(t *testing.T) {
	folder, store := t.TempDir(), newStore(t)
	synctest.Test(t, func(t *testing.T) {
		f := &follower{probe: newProbe()}
		k, err := Open(Config{Directory: folder, Store: store, Modules: []state.Module{f}})
		check(t, err)
		must(k.Activate(t.Context(), program("a", "x")))(t)
		ref := state.Ref{Container: "probe", Component: "a"}
		for range 2 {
			check(t, k.Track(t.Context(), ref))
		}
		if f.trackers != 1 {
			t.Fatalf("%d trackers", f.trackers)
		}
		if _, err := k.Snapshot(t.Context(), ref, "move"); !errors.Is(err, errProbe) {
			t.Fatalf("snapshot from a broken image: %v", err)
		}
		<-time.After(trackLimit + 1)
		synctest.Wait()
		if f.trackers != 0 {
			t.Fatalf("%d trackers after a minute", f.trackers)
		}
		check(t, k.Track(t.Context(), ref))
		check(t, k.Deactivate(t.Context(), ref))
		if f.trackers != 0 {
			t.Fatalf("%d trackers after deactivation", f.trackers)
		}
		check(t, k.Close(t.Context()))
	})
}
