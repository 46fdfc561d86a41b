package engine

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/state"
)

var notesDB = state.Ref{Container: "db", Component: "notes-db"}

// backedUp is a world with a backup, after which writes went on.
func backedUp(t *testing.T) (*world, deploy.Backup, []string) {
	t.Helper()
	w := stories()["backup"].begin(t)
	w.trickle = ""
	b, err := w.engine("one", nil).Backup(t.Context(), system, nil)
	if err != nil {
		t.Fatal(err)
	}
	then := map[string][]string{}
	maps.Copy(then, w.acked)
	keys := slices.Clone(w.nodes["id-one"].components[notesDB].keys)
	if !w.write("notes") || !w.write("sky") {
		t.Fatal("no writes")
	}
	w.acked = then // a restore takes back what came later
	return w, b, keys
}

func TestBackup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b, _ := backedUp(t)
		if len(b.Snapshots) != 2 {
			t.Fatalf("backup %+v", b)
		}
		for _, s := range b.Snapshots {
			if len(s.Nodes) != 2 || s.Nodes[0] == s.Nodes[1] {
				t.Errorf("%s is on %v, want two nodes", s.Ref, s.Nodes)
			}
			for _, n := range s.Nodes {
				if _, ok := w.nodes[n].store[s.Snapshot]; !ok {
					t.Errorf("%s is not in the store of %s", s.Ref, n)
				}
			}
		}
		time.Sleep(time.Minute)
		second, err := w.engine("two", nil).Backup(t.Context(), system, nil)
		if err != nil {
			t.Fatal(err)
		}
		all, err := w.engine("one", nil).Backups(t.Context(), system)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]deploy.Backup{b, second}, all); diff != "" {
			t.Error(diff)
		}
		if _, err := w.engine("one", nil).Backup(t.Context(), "other", nil); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("backup of nothing: %v", err)
		}
	})
}

func TestRestoreAfterDisaster(t *testing.T) {
	for name, disaster := range map[string]func(*world, deploy.Backup){
		"garbage":     func(w *world, _ deploy.Backup) { w.nodes["id-one"].components[notesDB].broken = true },
		"store empty": func(w *world, _ deploy.Backup) { clear(w.nodes["id-one"].store) },
		"moved, then garbage": func(w *world, _ deploy.Backup) {
			if _, err := w.engine("one", nil).Apply(w.Context(), both2(), nil); err != nil {
				w.Fatal(err)
			}
			w.nodes["id-three"].components[notesDB].broken = true
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, b, want := backedUp(t)
				disaster(w, b)
				outcome, err := w.engine("two", nil).Restore(t.Context(), system, "", []string{"notes"}, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, ok := outcome.Pauses["notes"]; !ok {
					t.Error("no pause measured")
				}
				w.check()
				for _, n := range w.nodes {
					if c := n.components[notesDB]; c != nil && c.phase == state.PhaseActive && !slices.Equal(c.keys, want) {
						t.Errorf("restored %v, want %v", c.keys, want)
					}
				}
				if !w.write("notes") {
					t.Error("no writes after the restore")
				}
			})
		})
	}
}

func TestRestoreNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, b, _ := backedUp(t)
		e := w.engine("one", nil)
		for _, c := range []struct {
			id       string
			services []string
		}{{"20000101-000000-none", nil}, {b.ID, []string{"nobody"}}} {
			if _, err := e.Restore(t.Context(), system, c.id, c.services, nil); !errors.Is(err, deploy.ErrNotFound) {
				t.Errorf("%v: %v, want ErrNotFound", c, err)
			}
		}
		w.check()
	})
}

// TestRestoreCrash kills or fails a restore at every call. What is there then is the backup or what was
// there before, never something between, and the next restore succeeds.
func TestRestoreCrash(t *testing.T) {
	in := &injector{}
	synctest.Test(t, func(t *testing.T) {
		w, _, _ := backedUp(t)
		if _, err := w.engine("one", in).Restore(t.Context(), system, "", nil, nil); err != nil {
			t.Fatal(err)
		}
	})
	for _, mode := range []string{crashBefore, crashAfter, failBefore, failAfter} {
		for at := range every(in.calls) {
			synctest.Test(t, func(t *testing.T) {
				w, _, backup := backedUp(t)
				before := slices.Clone(w.nodes["id-one"].components[notesDB].keys)
				_, err := w.engine("one", &injector{at: at + 1, mode: mode}).Restore(t.Context(), system, "", nil, nil)
				if err := w.engine("two", nil).Recover(t.Context(), system, nil); err != nil {
					t.Fatalf("recover: %v", err)
				}
				w.check()
				got := w.nodes["id-one"].components[notesDB].keys
				if !slices.Equal(got, before) && !slices.Equal(got, backup) {
					t.Errorf("state is %v, neither %v nor %v", got, before, backup)
				}
				if errors.Is(err, deploy.ErrUndone) && !slices.Equal(got, before) {
					t.Errorf("undone, but state is %v, not %v", got, before)
				}
				if _, err := w.engine("three", nil).Restore(t.Context(), system, "", nil, nil); err != nil {
					t.Fatalf("again: %v", err)
				}
				w.check()
				if got := w.nodes["id-one"].components[notesDB].keys; !slices.Equal(got, backup) {
					t.Errorf("restored %v, want %v", got, backup)
				}
			})
			if t.Failed() {
				t.Fatalf("%s call %d", mode, at+1)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.busy["127.0.0.1:80"] = true
		w.setState("three", fabric.MemberDead)
		other := manifest("shared@one", service("shared", 1))
		other.Name = "other"
		if _, err := w.engine("one", nil).Apply(t.Context(), other, nil); err != nil {
			t.Fatal(err)
		}
		bad := service("a", 1)
		bad.Components[0].Module = "bd"
		bad.Components[1].Properties = state.Properties{"colour": 1, "command": "x", "database": "${component.a-db.path}"}
		wrong := service("b", 1)
		wrong.Components[1].Properties["database"] = "${component.b-db.pth} $${component.b-db.x}"
		wrong.Public = &deploy.Public{Node: "one", Address: "127.0.0.1:80"}
		m := manifest("a@one b@two c@three shared@one", bad, wrong, service("c", 1), service("shared", 1))
		m.Nodes = append(m.Nodes, "four")
		_, err := w.engine("one", nil).Apply(t.Context(), m, nil)
		var problems deploy.Problems
		if !errors.As(err, &problems) {
			t.Fatalf("got %v", err)
		}
		lines := strings.Split(problems.Error(), "\n")
		slices.Sort(lines)
		want := []string{
			`distribution.c: node "three" is dead (start it, or place the service on another node)`,
			`nodes[3]: node "four" does not exist (the cluster has one, three, two)`,
			`services.a.components[0].module: node "one" has no module "bd" (orrery module list lists those it has)`,
			`services.a.components[1].properties.command: is not a list of strings`,
			`services.a.components[1].properties.colour: module process has no property "colour" (it has command, version, database, fails)`,
			`services.b.components[1].properties.database: ${component.b-db.pth} refers to something that module db does not export (it exports path)`,
			`services.b.public.address: address 127.0.0.1:80 is in use on node "one" (stop what listens there, or choose another port; port 0 chooses a free one)`,
			`services.shared.components[0].name: manifest other has a component of that name in its service shared (rename it)`,
			`services.shared.components[1].name: manifest other has a component of that name in its service shared (rename it)`,
			`services.shared: manifest other has a service of that name (rename it)`,
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, lines); diff != "" {
			t.Error(diff)
		}
		if all := w.where(); len(all) > 0 {
			t.Errorf("something was changed: %v", all)
		}
	})
}

func TestStatusAndManifest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stories()["move"].begin(t)
		e := w.engine("one", nil)
		s, err := e.Status(t.Context(), system)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.Services) != 2 || len(s.Services[0].Components) != 2 || s.Operation == nil || s.Operation.Open || s.Operation.Result != "done" {
			t.Errorf("status %+v %+v", s, s.Operation)
		}
		m, err := e.Manifest(t.Context(), system)
		if err != nil || m.Distribution["notes"] != "one" {
			t.Errorf("manifest %+v, %v", m, err)
		}
		if _, err := e.Status(t.Context(), "nobody"); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		names, err := e.Manifests(t.Context())
		if err != nil || !slices.Equal(names, []string{system}) {
			t.Errorf("manifests %v, %v", names, err)
		}
		p, err := e.Plan(t.Context(), both2())
		if err != nil || len(p.Steps) != 1 || p.Steps[0].Bytes != 3 {
			t.Errorf("plan %+v, %v", p, err)
		}
	})
}

// TestResume takes a node away in the middle of a move, and brings it back with everything stopped.
func TestResume(t *testing.T) {
	s := stories()["move"]
	for at := range every(s.calls(t)) {
		synctest.Test(t, func(t *testing.T) {
			w := s.begin(t)
			e := w.engine("one", &injector{at: at + 1, mode: crashAfter})
			_ = s.run(t.Context(), e)
			for _, c := range w.nodes["id-one"].components { // the machine restarts
				if c.phase == state.PhaseActive {
					c.phase = state.PhaseInactive
				}
			}
			for _, name := range []string{"one", "two", "three"} {
				if err := w.engine(name, nil).Resume(t.Context(), nil); err != nil {
					t.Fatalf("resume %s: %v", name, err)
				}
			}
			w.check()
			if !w.write("notes") || !w.write("sky") {
				t.Error("no writes after the restart")
			}
		})
		if t.Failed() {
			t.Fatalf("call %d", at+1)
		}
	}
}

// TestSourceAway refuses a plan whose source cannot give its state, instead of starting with none.
func TestSourceAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stories()["move"].begin(t)
		before := w.where()
		w.setState("one", fabric.MemberDead)
		_, err := w.engine("two", nil).Apply(t.Context(), both2(), nil)
		if err == nil || !strings.Contains(err.Error(), "node one, where its state is, is out of reach (start it first)") {
			t.Errorf("got %v", err)
		}
		if _, err := w.engine("two", nil).Restore(t.Context(), system, "", nil, nil); !errors.Is(err, deploy.ErrNotFound) {
			t.Errorf("restore without a backup: %v", err)
		}
		w.setState("one", fabric.MemberAlive)
		w.check()
		if diff := cmp.Diff(before, w.where()); diff != "" {
			t.Error(diff)
		}
	})
}

// TestComponentChangesService refuses what would make two steps work on one component.
func TestComponentChangesService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := stories()["move"].begin(t)
		other := service("other", 1)
		other.Components = service("notes", 1).Components
		other.Endpoint = "notes"
		_, err := w.engine("two", nil).Apply(t.Context(), manifest("other@three", other), nil)
		if err == nil || !strings.Contains(err.Error(), "the component belongs to service notes now") {
			t.Errorf("got %v", err)
		}
		w.check()
	})
}

// TestTend leaves an interrupted move, with its target gone, to the other nodes.
func TestTend(t *testing.T) {
	s := stories()["move"]
	for at := range every(s.calls(t)) {
		synctest.Test(t, func(t *testing.T) {
			w := s.begin(t)
			in := &injector{at: at + 1, mode: crashBefore}
			_ = s.run(t.Context(), w.engine("one", in))
			w.setState("three", fabric.MemberDead)
			ctx, cancel := context.WithCancel(t.Context())
			var tending sync.WaitGroup
			for _, name := range []string{"one", "two"} {
				tending.Go(func() {
					if err := w.engine(name, nil).Tend(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			time.Sleep(5 * time.Minute)
			w.setState("three", fabric.MemberAlive)
			time.Sleep(5 * time.Minute)
			cancel()
			tending.Wait()
			w.check()
			if !w.write("notes") {
				t.Error("no writes")
			}
		})
		if t.Failed() {
			t.Fatalf("call %d", at+1)
		}
	}
}
