package overlay

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orrery/fabric"
	"orrery/session"
	"orrery/state"
)

var (
	ann      = Caller{Name: "ann", Role: fabric.RoleDeveloper}
	bob      = Caller{Name: "bob", Role: fabric.RoleDeveloper}
	operator = Caller{Name: "eve", Role: fabric.RoleOperator}
)

func request() Request { return Request{Name: "blue", Owner: "ann", Forks: []string{"notes"}} }

func TestForkAndDelete(t *testing.T) {
	s := newSystem(t)
	o := s.overlay("a")
	made, err := o.Create(t.Context(), request())
	if err != nil {
		t.Fatal(err)
	}
	b := s.machines["b"]
	if b.names() != forked {
		t.Errorf("components %s", b.names())
	}
	fork := made.Overrides[0]
	want := session.Instance{Node: "b", Address: "notes@blue:80"}
	if !made.Ready || fork.Instance != want || fork.Method != "reflink" || fork.Bytes != 100 || made.Host != "a" {
		t.Errorf("made %+v", made)
	}
	if got := b.components[state.Ref{Container: "sqlite-database", Component: "notes-db@blue"}]; got.state != "production's notes" ||
		got.component.Session != "blue" {
		t.Errorf("fork %+v", got)
	}
	if _, err := o.Create(t.Context(), request()); !errors.Is(err, session.ErrExists) {
		t.Errorf("second of the name: %v", err)
	}
	if err := o.Delete(t.Context(), "blue", bob); !errors.Is(err, ErrNotOwner) {
		t.Errorf("somebody else's: %v", err)
	}
	// Any node can do it.
	if err := s.overlay("b").Delete(t.Context(), "blue", operator); err != nil {
		t.Fatal(err)
	}
	if b.names() != production {
		t.Errorf("left over: %s", b.names())
	}
	if err := o.Delete(t.Context(), "blue", ann); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a second time: %v", err)
	}
	order := strings.Join(b.journal, "; ")
	if !strings.HasSuffix(order, "deactivate notes@blue; collect notes@blue; deactivate notes-db@blue; collect notes-db@blue") {
		t.Errorf("order: %s", order)
	}
}

func TestExec(t *testing.T) {
	s := newSystem(t)
	o := s.overlay("a")
	variant := Exec{Service: "notes", Component: state.Component{Properties: state.Properties{"command": []string{"notes-2"}}}}
	q := Request{Name: "blue", Owner: "ann", Exec: []Exec{variant}}
	made, err := o.Create(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	b := s.machines["b"]
	if made.Overrides[0].Kind != session.KindExec || b.names() != "notes notes-db notes@blue" {
		t.Errorf("%+v, components %s", made, b.names())
	}
	c := b.components[state.Ref{Container: "process", Component: "notes@blue"}].component
	if c.Module != "process" || c.Session != "blue" || c.Properties["command"].([]string)[0] != "notes-2" {
		t.Errorf("variant %+v", c)
	}
	q.Name, q.Forks = "green", []string{"notes"}
	if _, err := o.Create(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(b.names(), "notes-db@green") {
		t.Error("a variant on forked state has no fork")
	}
}

func TestBadRequests(t *testing.T) {
	o := newSystem(t).overlay("a")
	for want, q := range map[string]Request{
		"bad name":         {Name: "Blue", Forks: []string{"notes"}},
		"no service":       {Name: "blue"},
		"overridden twice": {Name: "blue", Forks: []string{"notes"}, Tunnels: []Tunnelled{{"notes", "x:1"}}},
		"not found":        {Name: "blue", Forks: []string{"nothing"}},
		"no address":       {Name: "blue", Tunnels: []Tunnelled{{Service: "notes"}}},
	} {
		if _, err := o.Create(t.Context(), q); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v", want, err)
		}
	}
	if all, err := o.List(t.Context()); err != nil || len(all) > 0 {
		t.Errorf("left over: %v %v", all, err)
	}
}

// TestFailsAnywhere lets each step of the making fail in turn; nothing may remain.
func TestFailsAnywhere(t *testing.T) {
	for _, step := range []string{"fork notes-db@blue", "activate notes@blue", "status notes@blue"} {
		for _, halfway := range []bool{false, true} {
			s := newSystem(t)
			b := s.machines["b"]
			if halfway {
				b.halfway[step] = errors.New("disk full")
			} else {
				b.fail[step] = errors.New("disk full")
			}
			o := s.overlay("a")
			if _, err := o.Create(t.Context(), request()); err == nil || !strings.Contains(err.Error(), "disk full") {
				t.Errorf("%s: %v", step, err)
			}
			if all, _ := o.List(t.Context()); b.names() != production || len(all) > 0 {
				t.Errorf("%s: left over %s, %v", step, b.names(), all)
			}
		}
	}
}

// TestInterruptedAnywhere kills the host in each step of the making. Another node ends the session.
func TestInterruptedAnywhere(t *testing.T) {
	for _, step := range []string{"fork notes-db@blue", "activate notes@blue", "status notes@blue"} {
		synctest.Test(t, func(t *testing.T) {
			s := newSystem(t)
			b := s.machines["b"]
			ctx, kill := context.WithCancel(t.Context())
			dead := make(chan struct{})
			b.reached[step] = func() {
				s.mu.Lock()
				s.alive = []fabric.NodeID{"b"}
				s.mu.Unlock()
				<-dead
			}
			go func() { _, _ = s.overlay("a").Create(ctx, request()) }()
			other := s.overlay("b")
			done := make(chan error, 1)
			go func() { done <- other.Run(ctx) }()
			time.Sleep(time.Minute)
			if all, _ := other.List(ctx); b.names() != production || len(all) > 0 {
				t.Errorf("%s: left over %s, %v", step, b.names(), all)
			}
			kill()
			close(dead)
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHostRestartedWhileMaking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSystem(t)
		o := s.overlay("a")
		unfinished := session.Session{Name: "blue", Host: "a", Overrides: []session.Override{{
			Service: "notes", Kind: session.KindFork, Instance: session.Instance{Node: "b"},
			Components: []state.Ref{{Container: "sqlite-database", Component: "notes-db@blue"}},
		}}}
		if err := o.write(t.Context(), unfinished, 0); err != nil {
			t.Fatal(err)
		}
		s.run(o, func() {
			time.Sleep(time.Second)
			if all, _ := o.List(t.Context()); len(all) > 0 {
				t.Errorf("left over %v", all)
			}
		})
	})
}

// run runs an overlay while do lasts.
func (s *system) run(o *Overlay, do func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- o.Run(ctx) }()
	do()
	cancel()
	if err := <-done; err != nil {
		s.t.Error(err)
	}
}

func TestTunnelLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSystem(t)
		o := s.overlay("a")
		q := request()
		q.Tunnels = []Tunnelled{{"sky", "127.0.0.1:8080"}}
		made, err := o.Create(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		id := made.Overrides[1].Instance.Tunnel
		if _, err := o.Tunnel(t.Context(), id, bob); !errors.Is(err, ErrNotOwner) {
			t.Error(err)
		}
		if _, err := s.overlay("b").Tunnel(t.Context(), id, ann); !errors.Is(err, ErrOtherHost) {
			t.Error(err)
		}
		if _, err := o.Tunnel(t.Context(), id, ann); err != nil {
			t.Error(err)
		}
		s.run(o, func() {
			exists := func() bool {
				_, err := o.Get(t.Context(), "blue")
				return err == nil
			}
			s.tunnels.set(id, true)
			time.Sleep(10 * time.Minute)
			if !exists() {
				t.Fatal("ended while its tunnel lives")
			}
			s.tunnels.set(id, false)
			time.Sleep(6 * time.Second)
			s.tunnels.set(id, true)
			time.Sleep(time.Minute)
			if !exists() {
				t.Fatal("ended by a short interruption")
			}
			s.tunnels.set(id, false)
			time.Sleep(20 * time.Second)
			if exists() || s.machines["b"].names() != production {
				t.Errorf("still there: %s", s.machines["b"].names())
			}
		})
	})
}

func TestExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSystem(t)
		a, b := s.overlay("a"), s.overlay("b")
		q := request()
		q.TTL = time.Hour
		if _, err := a.Create(t.Context(), q); err != nil {
			t.Fatal(err)
		}
		s.run(a, func() {
			s.run(b, func() {
				time.Sleep(59 * time.Minute)
				if _, err := a.Get(t.Context(), "blue"); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Minute)
				if _, err := a.Get(t.Context(), "blue"); !errors.Is(err, session.ErrNotFound) {
					t.Error(err)
				}
			})
		})
	})
}

// TestUnreachableNode ends a session while a node with a part of it is out of reach: it is refused at once, and
// goes when the node is back.
func TestUnreachableNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSystem(t)
		o := s.overlay("a")
		if _, err := o.Create(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
		b := s.machines["b"]
		b.down = true
		if err := o.Delete(t.Context(), "blue", ann); err == nil {
			t.Error("ended on a node that is out of reach")
		}
		got, err := o.Get(t.Context(), "blue")
		if err != nil || !got.Ending {
			t.Errorf("%+v %v", got, err)
		}
		s.run(o, func() {
			time.Sleep(time.Minute)
			b.mu.Lock()
			b.down = false
			b.mu.Unlock()
			time.Sleep(time.Minute)
		})
		if _, err := o.Get(t.Context(), "blue"); !errors.Is(err, session.ErrNotFound) || b.names() != production {
			t.Errorf("%v, left over %s", err, b.names())
		}
	})
}

func TestReap(t *testing.T) {
	s := newSystem(t)
	o := s.overlay("b")
	if _, err := o.Create(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	b := s.machines["b"]
	for _, name := range []string{"notes-db@old", "other@blue"} {
		orphan := state.Component{Name: name, Module: "sqlite-database", Container: "sqlite-database", Session: name[strings.Index(name, "@")+1:]}
		b.components[orphan.Ref()] = &held{orphan, state.PhaseActive, ""}
	}
	if err := o.Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.names() != forked {
		t.Errorf("components %s", b.names())
	}
}

// TestLeftovers has a component of an earlier session of the same name: its state must not come back.
func TestLeftovers(t *testing.T) {
	s := newSystem(t)
	b := s.machines["b"]
	old := state.Component{Name: "notes-db@blue", Module: "sqlite-database", Container: "sqlite-database", Session: "blue"}
	b.components[old.Ref()] = &held{old, state.PhaseActive, "old notes"}
	if _, err := s.overlay("a").Create(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	if got := b.components[old.Ref()].state; got != "production's notes" {
		t.Errorf("fork holds %q", got)
	}
}

func TestDeletedWhileMaking(t *testing.T) {
	s := newSystem(t)
	o := s.overlay("a")
	b := s.machines["b"]
	b.reached["activate notes@blue"] = func() {
		if err := s.overlay("b").Delete(t.Context(), "blue", ann); err != nil {
			t.Error(err)
		}
	}
	if _, err := o.Create(t.Context(), request()); err == nil {
		t.Error("a deleted session was made")
	}
	if err := s.overlay("b").Reap(t.Context()); err != nil {
		t.Fatal(err)
	}
	if b.names() != production {
		t.Errorf("left over %s", b.names())
	}
}

// TestEndedTwice: while one node ends a session another one does, and its name is given to a new one.
func TestEndedTwice(t *testing.T) {
	s := newSystem(t)
	slow, fast := s.overlay("a"), s.overlay("b")
	if _, err := slow.Create(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	b := s.machines["b"]
	var again session.Session
	var reached atomic.Bool
	b.reached["collect notes@blue"] = func() {
		if reached.Swap(true) {
			return
		}
		err := fast.Delete(t.Context(), "blue", ann)
		if err == nil {
			again, err = fast.Create(t.Context(), request())
		}
		if err != nil {
			t.Error(err)
		}
	}
	if err := slow.Delete(t.Context(), "blue", ann); err != nil {
		t.Error(err)
	}
	if now, err := slow.Get(t.Context(), "blue"); err != nil || !now.Ready || now.Ending || !now.Created.Equal(again.Created) {
		t.Errorf("the new session is %+v, %v", now, err)
	}
	if b.names() != forked {
		t.Errorf("there are %s", b.names())
	}
}

func TestJoin(t *testing.T) {
	s := newSystem(t)
	o := s.overlay("a")
	if _, err := o.Create(t.Context(), request()); err != nil {
		t.Fatal(err)
	}
	sky := Request{Name: "blue", Tunnels: []Tunnelled{{"sky", "127.0.0.1:1"}}}
	if _, err := o.Join(t.Context(), sky, bob); !errors.Is(err, ErrNotOwner) {
		t.Error(err)
	}
	if _, err := s.overlay("b").Join(t.Context(), sky, ann); !errors.Is(err, ErrOtherHost) {
		t.Error(err)
	}
	made, err := o.Join(t.Context(), sky, ann)
	if err != nil || len(made.Overrides) != 2 {
		t.Errorf("%+v %v", made, err)
	}
	if _, err := o.Join(t.Context(), request(), ann); !errors.Is(err, session.ErrExists) {
		t.Error(err)
	}
	b := s.machines["b"]
	b.fail["activate sky@blue"] = errors.New("disk full")
	if _, err := o.Create(t.Context(), Request{Name: "green", Owner: "ann", Forks: []string{"notes"}}); err != nil {
		t.Fatal(err)
	}
	b.fail["activate sky@green"] = errors.New("disk full")
	if _, err := o.Join(t.Context(), Request{Name: "green", Forks: []string{"sky"}}, ann); err == nil {
		t.Error("joined on a full disk")
	}
	green, err := o.Get(t.Context(), "green")
	if err != nil || !green.Ready || slices.ContainsFunc(green.Overrides, func(x session.Override) bool { return x.Service == "sky" }) {
		t.Errorf("%+v %v", green, err)
	}
}
