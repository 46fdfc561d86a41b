package engine

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"orrery/deploy"
	"orrery/fabric"
)

// putOut is an engine of a cluster that node one was put out of.
func (w *world) putOut(at string, in *injector) *Engine {
	e := w.engine(at, in)
	e.Out = func(id fabric.NodeID) bool { return id == "id-one" }
	return e
}

// lost is a world that has lost a node for good, with all that was on it.
func lost(t *testing.T, backup bool) *world {
	t.Helper()
	w := stories()["backup"].begin(t)
	w.trickle = ""
	if backup {
		if _, err := w.engine("one", nil).Backup(t.Context(), system, nil); err != nil {
			t.Fatal(err)
		}
	} else {
		delete(w.acked, "notes") // nobody has that
	}
	w.nodes["id-one"].state = fabric.MemberDead
	clear(w.nodes["id-one"].components)
	clear(w.nodes["id-one"].store)
	return w
}

// A service whose node was put out begins on another one with what was backed up, and with nothing where nothing was; the plan says which.
func TestNodeIsPutOut(t *testing.T) {
	for _, backup := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			w := lost(t, backup)
			m := manifest("notes@three sky@two", service("notes", 1), service("sky", 1, "notes"))
			if _, err := w.engine("two", nil).Apply(t.Context(), m, nil); err == nil || !strings.Contains(err.Error(), "start it first") {
				t.Fatalf("a node that may be back is given up: %v", err)
			}
			e := w.putOut("two", nil)
			p, err := e.Plan(t.Context(), m)
			if err != nil {
				t.Fatal(err)
			}
			want := map[bool]string{true: "notes-db is as in the backup of 2000-01-01 ", false: "there is no backup of notes-db: it begins with nothing"}[backup]
			if len(p.Steps) != 1 || p.Steps[0].Kind != deploy.StepActivate || !strings.Contains(p.Steps[0].Why, "node one, which it was on, was put out of the cluster; "+want) {
				t.Fatalf("%+v", p)
			}
			if _, err := e.Apply(t.Context(), m, nil); err != nil {
				t.Fatal(err)
			}
			story{after: "notes@three sky@two"}.told(w)
			if p, err := e.Plan(t.Context(), m); err != nil || len(p.Steps) > 0 {
				t.Errorf("%+v, %v", p, err)
			}
		})
	}
}

// Whatever goes wrong meanwhile: in the end, the next apply brings the service up with what was backed up.
func TestNodeIsPutOutAndMore(t *testing.T) {
	for _, mode := range []string{crashBefore, crashAfter, failBefore, failAfter} {
		for at, reached := 1, true; reached && !t.Failed(); at++ {
			synctest.Test(t, func(t *testing.T) {
				w := lost(t, true)
				acked := maps.Clone(w.acked)
				m := manifest("notes@three sky@two", service("notes", 1), service("sky", 1, "notes"))
				in := &injector{at: at, mode: mode}
				_, _ = w.putOut("two", in).Apply(t.Context(), m, nil)
				reached = in.calls >= at
				if _, err := w.putOut("three", nil).Apply(t.Context(), m, nil); err != nil {
					t.Fatalf("%s at %d: %v", mode, at, err)
				}
				story{after: "notes@three sky@two"}.told(w)
				for name, keys := range acked {
					if !slices.Equal(w.acked[name][:len(keys)], keys) {
						t.Errorf("%s at %d: %s", mode, at, name)
					}
				}
			})
		}
	}
}

// A move from the node, or to it, was under way when it was lost: it is settled without it.
func TestNodeIsPutOutInTheMiddle(t *testing.T) {
	for _, on := range []string{"one", "three"} {
		for at, reached := 1, true; reached && !t.Failed(); at++ {
			synctest.Test(t, func(t *testing.T) {
				w := stories()["backup"].begin(t)
				w.trickle = ""
				if on == "three" {
					if _, err := w.engine("two", nil).Apply(t.Context(), both2(), nil); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := w.engine("two", nil).Backup(t.Context(), system, nil); err != nil {
					t.Fatal(err)
				}
				to := map[string]deploy.Manifest{"one": both2(), "three": manifest("notes@one sky@two", service("notes", 1), service("sky", 1, "notes"))}[on]
				in := &injector{at: at, mode: crashBefore}
				_, _ = w.engine("two", in).Apply(t.Context(), to, nil)
				reached = in.calls >= at
				w.nodes["id-one"].state = fabric.MemberDead
				clear(w.nodes["id-one"].components)
				clear(w.nodes["id-one"].store)
				if _, err := w.putOut("two", nil).Apply(t.Context(), both2(), nil); err != nil {
					t.Fatalf("from %s, at %d: %v", on, at, err)
				}
				story{after: "notes@three sky@two"}.told(w)
			})
		}
	}
}

// What was retired on a node that was put out comes back, too, and a manifest with services on it can be removed.
func TestRetiredNodeIsPutOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := lost(t, true)
		e := w.putOut("two", nil)
		if _, err := e.Remove(t.Context(), system, nil); err != nil {
			t.Fatal(err)
		}
		story{}.told(w)
		if _, err := e.Apply(t.Context(), both2(), nil); err != nil {
			t.Fatal(err)
		}
		story{after: "notes@three sky@two"}.told(w)
		if err := e.Recover(t.Context(), system, nil); err != nil && !errors.Is(err, deploy.ErrNotFound) {
			t.Error(err)
		}
	})
}
