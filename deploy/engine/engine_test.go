package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/state"
)

const system = "m"

func service(name string, version int, on ...string) deploy.Service {
	return deploy.Service{Name: name, DependsOn: on, Endpoint: name, Components: []state.Component{
		{Name: name + "-db", Module: "db", Container: "db"},
		{
			Name: name, Module: "process", Container: "process", Files: map[string]string{"program": fmt.Sprintf("hash-%s-%d", name, version)},
			Properties: state.Properties{"version": version, "database": "${component." + name + "-db.path}"},
		},
	}}
}

// manifest places services: "notes@two" and so on.
func manifest(distribution string, services ...deploy.Service) deploy.Manifest {
	m := deploy.Manifest{Name: system, Nodes: []string{"one", "two", "three"}, Services: services, Distribution: map[string]string{}}
	for part := range strings.FieldsSeq(distribution) {
		name, node, _ := strings.Cut(part, "@")
		m.Distribution[name] = node
	}
	return m
}

// story is a way from one state of affairs to another.
type story struct {
	before []deploy.Manifest // applied first, one after the other
	run    func(ctx context.Context, e *Engine) error
	after  string // where the services are then
}

func applying(m deploy.Manifest) func(context.Context, *Engine) error {
	return func(ctx context.Context, e *Engine) error {
		_, err := e.Apply(ctx, m, nil)
		return err
	}
}

func stories() map[string]story {
	both := manifest("notes@one sky@two", service("notes", 1), service("sky", 1, "notes"))
	public := service("sky", 1, "notes")
	public.Public = &deploy.Public{Node: "one", Address: "127.0.0.1:80"}
	return map[string]story{
		"activate": {nil, applying(both), "notes@one sky@two"},
		"move":     {[]deploy.Manifest{both}, applying(manifest("notes@three sky@two", service("notes", 1), service("sky", 1, "notes"))), "notes@three sky@two"},
		"move back": {
			[]deploy.Manifest{both, manifest("notes@three sky@two", service("notes", 1), service("sky", 1, "notes"))}, applying(both), "notes@one sky@two",
		},
		"move and upgrade": {
			[]deploy.Manifest{both},
			applying(manifest("notes@three sky@two", service("notes", 2), service("sky", 1, "notes"))), "notes@three sky@two",
		},
		"swap": {
			[]deploy.Manifest{both},
			applying(manifest("notes@two sky@one", service("notes", 1), service("sky", 1, "notes"))), "notes@two sky@one",
		},
		"upgrade":  {[]deploy.Manifest{both}, applying(manifest("notes@one sky@two", service("notes", 2), service("sky", 1, "notes"))), "notes@one sky@two"},
		"metadata": {[]deploy.Manifest{both}, applying(manifest("notes@one sky@two", service("notes", 1), public)), "notes@one sky@two"},
		"replace": {
			[]deploy.Manifest{both},
			applying(manifest("notes@three catalog@one", service("catalog", 1), service("notes", 2, "catalog"))), "notes@three catalog@one",
		},
		"remove": {[]deploy.Manifest{both}, func(ctx context.Context, e *Engine) error {
			_, err := e.Remove(ctx, system, nil)
			return err
		}, ""},
		"back elsewhere": {[]deploy.Manifest{both, manifest("sky@two", service("sky", 1))}, applying(both2()), "notes@three sky@two"},
		"backup": {[]deploy.Manifest{both}, func(ctx context.Context, e *Engine) error {
			_, err := e.Backup(ctx, system, nil)
			return err
		}, "notes@one sky@two"},
	}
}

func both2() deploy.Manifest {
	return manifest("notes@three sky@two", service("notes", 1), service("sky", 1, "notes"))
}

// begin makes a world in which the story can be told, with writes.
func (s story) begin(t *testing.T) *world {
	t.Helper()
	w := newWorld(t)
	for _, m := range s.before {
		if _, err := w.engine("one", nil).Apply(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			for name := range m.Distribution {
				if !w.write(name) {
					t.Fatalf("%s takes no writes", name)
				}
			}
		}
	}
	w.check()
	w.trickle = "notes"
	return w
}

// told checks that the story has been told.
func (s story) told(w *world) {
	w.Helper()
	w.check()
	got := map[string]string{}
	for name, at := range w.where() {
		got[name], _, _ = strings.Cut(at, " ")
	}
	if diff := cmp.Diff(manifest(s.after).Distribution, got); diff != "" {
		w.Errorf("placements (-want +got):\n%s", diff)
	}
	for name := range got {
		if !w.write(name) {
			w.Errorf("%s takes no writes", name)
		}
	}
}

func TestStories(t *testing.T) {
	for name, s := range stories() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := s.begin(t)
				if err := s.run(t.Context(), w.engine("one", nil)); err != nil {
					t.Fatal(err)
				}
				s.told(w)
				if err := s.run(t.Context(), w.engine("two", nil)); err != nil {
					t.Fatalf("again: %v", err)
				}
				s.told(w)
			})
		})
	}
}

// calls is how many calls telling the story takes.
func (s story) calls(t *testing.T) int {
	t.Helper()
	in := &injector{}
	synctest.Test(t, func(t *testing.T) {
		if err := s.run(t.Context(), s.begin(t).engine("one", in)); err != nil {
			t.Fatal(err)
		}
	})
	return in.calls
}

// TestCrash kills the engine before and after every call that it makes, on every kind of story.
func TestCrash(t *testing.T) {
	for name, s := range stories() {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []string{crashBefore, crashAfter} {
				for at := range every(s.calls(t)) {
					synctest.Test(t, func(t *testing.T) {
						w := s.begin(t)
						before := w.where()
						err := s.run(t.Context(), w.engine("one", &injector{at: at + 1, mode: mode}))
						other := w.engine("two", nil)
						if err := other.Recover(t.Context(), system, nil); err != nil {
							t.Fatalf("%s call %d: recover: %v", mode, at+1, err)
						}
						w.check()
						after := w.where()
						if errors.Is(err, deploy.ErrUndone) && !cmp.Equal(before, after) {
							t.Errorf("%s call %d: undone, but\n%s", mode, at+1, cmp.Diff(before, after))
						}
						if err := s.run(t.Context(), other); err != nil {
							t.Fatalf("%s call %d: again: %v", mode, at+1, err)
						}
						s.told(w)
					})
					if t.Failed() {
						t.Fatalf("%s call %d", mode, at+1)
					}
				}
			}
		})
	}
}

// TestFail makes every call of the engine fail once, with and without its effect.
func TestFail(t *testing.T) {
	for name, s := range stories() {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []string{failBefore, failAfter} {
				for at := range every(s.calls(t)) {
					synctest.Test(t, func(t *testing.T) {
						w := s.begin(t)
						before := w.where()
						err := s.run(t.Context(), w.engine("one", &injector{at: at + 1, mode: mode}))
						if err == nil {
							s.told(w)
							return
						}
						if errors.Is(err, deploy.ErrStuck) || !errors.Is(err, deploy.ErrUndone) {
							if err := w.engine("two", nil).Recover(t.Context(), system, nil); err != nil {
								t.Fatalf("recover: %v", err)
							}
						} else if diff := cmp.Diff(before, w.where()); diff != "" {
							t.Errorf("undone (%v), but\n%s", err, diff)
						}
						w.check()
						if err := s.run(t.Context(), w.engine("one", nil)); err != nil {
							t.Fatalf("again: %v", err)
						}
						s.told(w)
					})
					if t.Failed() {
						t.Fatalf("%s call %d", mode, at+1)
					}
				}
			}
		})
	}
}

// TestNodeDies cuts a node off before every call of a move, and lets it come back.
func TestNodeDies(t *testing.T) {
	s := stories()["move"]
	for _, how := range []string{"one", "three", "one hangs", "three hangs"} {
		t.Run(how, func(t *testing.T) {
			dies, _, hangs := strings.Cut(how, " ")
			undone := 0
			for at := range every(s.calls(t)) {
				synctest.Test(t, func(t *testing.T) {
					w := s.begin(t)
					w.hangs = hangs
					before := w.where()
					in := &injector{at: at + 1, mode: act, action: func() { w.setState(dies, fabric.MemberDead) }}
					err := s.run(t.Context(), w.engine("two", in))
					if dies == "three" && errors.Is(err, deploy.ErrUndone) {
						undone++
						if diff := cmp.Diff(before, w.where()); diff != "" {
							t.Errorf("undone, but\n%s", diff)
						}
						if !w.write("notes") {
							t.Errorf("call %d: source does not serve after %v", at+1, err)
						}
					}
					w.setState(dies, fabric.MemberAlive)
					if err := w.engine("three", nil).Recover(t.Context(), system, nil); err != nil {
						t.Fatalf("recover: %v", err)
					}
					w.check()
					if err := s.run(t.Context(), w.engine("one", nil)); err != nil {
						t.Fatalf("again: %v", err)
					}
					s.told(w)
				})
				if t.Failed() {
					t.Fatalf("%s dies at call %d", dies, at+1)
				}
			}
			if dies == "three" && undone < 10/stride {
				t.Errorf("only %d calls ended undone", undone)
			}
		})
	}
}

// TestCancel interrupts a move at every call, as Ctrl-C does.
func TestCancel(t *testing.T) {
	for _, name := range []string{"move", "replace"} {
		s := stories()[name]
		for at := range every(s.calls(t)) {
			synctest.Test(t, func(t *testing.T) {
				w := s.begin(t)
				before := w.where()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				err := s.run(ctx, w.engine("one", &injector{at: at + 1, mode: act, action: cancel}))
				if err == nil {
					s.told(w)
					return
				}
				if errors.Is(err, deploy.ErrStuck) {
					t.Errorf("stuck: %v", err)
				}
				w.check()
				if diff := cmp.Diff(before, w.where()); errors.Is(err, deploy.ErrUndone) && diff != "" {
					t.Errorf("%v, but\n%s", err, diff)
				}
			})
			if t.Failed() {
				t.Fatalf("%s at call %d", name, at+1)
			}
		}
	}
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stories()["move"]
		w := s.begin(t)
		var second error
		in := &injector{mode: act, at: 30}
		in.action = func() {
			done := make(chan struct{})
			go func() {
				defer close(done)
				second = s.run(t.Context(), w.engine("two", nil))
			}()
			<-done
		}
		if err := s.run(t.Context(), w.engine("one", in)); err != nil {
			t.Fatal(err)
		}
		if !errors.Is(second, deploy.ErrBusy) {
			t.Errorf("second apply: %v, want ErrBusy", second)
		}
		s.told(w)
	})
}

// TestFenced lets an engine sleep for an hour in the middle of a move, while another one takes over.
func TestFenced(t *testing.T) {
	s := stories()["move"]
	for at := range every(s.calls(t)) {
		synctest.Test(t, func(t *testing.T) {
			w := s.begin(t)
			in := &injector{mode: act, at: at + 1}
			frozen := &freezer{Table: w.table}
			in.action = func() {
				frozen.freeze(true)
				time.Sleep(time.Hour)
				frozen.freeze(false)
				if err := w.engine("two", nil).Recover(t.Context(), system, nil); err != nil {
					t.Errorf("recover: %v", err)
				}
				w.check()
			}
			e := w.engine("one", in)
			e.Table = table{frozen, in}
			err := s.run(t.Context(), e)
			if err != nil && errors.Is(err, deploy.ErrUndone) {
				t.Errorf("undone by the one that slept: %v", err)
			}
			w.check()
			if err := s.run(t.Context(), w.engine("three", nil)); err != nil {
				t.Fatalf("again: %v", err)
			}
			s.told(w)
		})
		if t.Failed() {
			t.Fatalf("call %d", at+1)
		}
	}
}

// freezer is a table that fails for a while.
type freezer struct {
	fabric.Table
	frozen atomic.Bool
}

func (f *freezer) freeze(on bool) { f.frozen.Store(on) }

func (f *freezer) CompareAndSwap(ctx context.Context, key string, revision uint64, value []byte) (uint64, error) {
	if f.frozen.Load() {
		return 0, fabric.ErrNoQuorum
	}
	return f.Table.CompareAndSwap(ctx, key, revision, value)
}

func TestFailingProgram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stories()["move"]
		w := s.begin(t)
		before := w.where()
		bad := service("notes", 2)
		bad.Components[1].Properties["fails"] = true
		for _, at := range []string{"one", "three"} {
			m := manifest("catalog@two sky@two notes@"+at, service("catalog", 1), bad, service("sky", 1, "notes"))
			_, err := w.engine("one", nil).Apply(t.Context(), m, nil)
			if !errors.Is(err, deploy.ErrUndone) || !strings.Contains(err.Error(), "does not start") {
				t.Errorf("got %v", err)
			}
			w.check()
			if diff := cmp.Diff(before, w.where()); diff != "" {
				t.Errorf("undone, but\n%s", diff)
			}
		}
	})
}

func TestOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := stories()["move"]
		w := s.begin(t)
		var events []string
		outcome, err := w.engine("one", nil).Apply(t.Context(), both2(), func(e deploy.Event) {
			if e.Done {
				events = append(events, e.Action)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := outcome.Pauses["notes"]; !ok || outcome.Moved == 0 || len(outcome.Plan.Steps) != 1 {
			t.Errorf("outcome %+v", outcome)
		}
		want := []string{
			"bring files to three", "clear three", "follow changes of notes-db",
			"snapshot notes-db on one", "transfer notes-db to three", "stage notes-db on three",
			"hold requests", "deactivate notes on one",
			"snapshot notes-db on one", "transfer notes-db to three", "stage notes-db on three",
			"commit notes-db on three", "activate notes-db on three", "activate notes on three", "place the service on three", "send requests to three",
		}
		const atTheSameTime = "deactivate notes-db on one" // as what the target does before it is given the service
		if at := slices.Index(events, atTheSameTime); at < 11 || at > 14 {
			t.Errorf("%s is event %d of %q", atTheSameTime, at, events)
		}
		events = slices.DeleteFunc(events, func(e string) bool { return e == atTheSameTime })
		if diff := cmp.Diff(want, events); diff != "" {
			t.Error(diff)
		}
	})
}
