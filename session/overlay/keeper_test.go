package overlay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"orrery/fabric"
	"orrery/fabric/table/memory"
	"orrery/session"
	"orrery/state"
)

// machine is a keeper in memory: components with a string for a state.
type machine struct {
	state.Keeper // what sessions do not use

	mu         sync.Mutex
	components map[state.Ref]*held
	fail       map[string]error  // by operation and component: "fork notes-db@blue"
	halfway    map[string]error  // as fail, but the operation has done its work by then
	reached    map[string]func() // called before an operation
	down       bool              // every operation fails
	journal    []string          // operations in order
}

type held struct {
	component state.Component
	phase     state.Phase
	state     string
}

func newMachine() *machine {
	return &machine{components: map[state.Ref]*held{}, fail: map[string]error{}, halfway: map[string]error{}, reached: map[string]func(){}}
}

// do runs an operation under the lock unless it is to fail.
func (m *machine) do(ctx context.Context, operation string, r state.Ref, run func() error) error {
	key := operation + " " + r.Component
	m.mu.Lock()
	hook := m.reached[key]
	m.mu.Unlock()
	if hook != nil {
		hook()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case m.down:
		return errors.New("no route to host")
	case m.fail[key] != nil:
		return m.fail[key]
	}
	m.journal = append(m.journal, key)
	if err := m.halfway[key]; err != nil {
		return errors.Join(err, run())
	}
	return run()
}

func (m *machine) Activate(ctx context.Context, c state.Component) (state.Status, error) {
	err := m.do(ctx, "activate", c.Ref(), func() error {
		if h := m.components[c.Ref()]; h != nil {
			h.component, h.phase = c, state.PhaseActive
			return nil
		}
		m.components[c.Ref()] = &held{component: c, phase: state.PhaseActive}
		return nil
	})
	return state.Status{Component: c}, err
}

func (m *machine) Deactivate(ctx context.Context, r state.Ref) error {
	return m.do(ctx, "deactivate", r, func() error {
		h := m.components[r]
		if h == nil {
			return state.ErrNotFound
		}
		h.phase = state.PhaseInactive
		return nil
	})
}

func (m *machine) CollectGarbage(ctx context.Context, r state.Ref) error {
	return m.do(ctx, "collect", r, func() error {
		h := m.components[r]
		switch {
		case h == nil:
			return state.ErrNotFound
		case h.phase == state.PhaseActive:
			return state.ErrActive
		}
		delete(m.components, r)
		return nil
	})
}

func (m *machine) Fork(ctx context.Context, from state.Ref, into state.Component) (state.Status, error) {
	err := m.do(ctx, "fork", into.Ref(), func() error {
		origin := m.components[from]
		if origin == nil {
			return state.ErrNotFound
		}
		if m.components[into.Ref()] == nil {
			m.components[into.Ref()] = &held{component: into, phase: state.PhaseActive, state: origin.state}
		}
		return nil
	})
	return state.Status{Component: into, Forked: "reflink", Size: 100}, err
}

func (m *machine) Status(ctx context.Context, r state.Ref) (state.Status, error) {
	var s state.Status
	err := m.do(ctx, "status", r, func() error {
		h := m.components[r]
		if h == nil {
			return state.ErrNotFound
		}
		s = state.Status{Component: h.component, Phase: h.phase, Exports: map[string]string{"address": r.Component + ":80"}}
		return nil
	})
	return s, err
}

func (m *machine) List(context.Context) ([]state.Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []state.Status
	for _, h := range m.components {
		all = append(all, state.Status{Component: h.component, Phase: h.phase})
	}
	return all, nil
}

func (m *machine) names() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for r := range m.components {
		names = append(names, r.Component)
	}
	slices.Sort(names)
	return strings.Join(names, " ")
}

// system is a cluster of two nodes with one production service, notes on node b.
type system struct {
	t        *testing.T
	table    fabric.Table
	machines map[fabric.NodeID]*machine
	tunnels  *tunnels
	mu       sync.Mutex
	alive    []fabric.NodeID
}

type tunnels struct {
	mu    sync.Mutex
	alive map[string]bool
}

func (t *tunnels) Alive(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.alive[id]
}

func (t *tunnels) Drop(id string) { t.set(id, false) }

func (t *tunnels) set(id string, alive bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.alive[id] = alive
}

const (
	production = "notes notes-db"
	forked     = "notes notes-db notes-db@blue notes@blue"
)

var (
	notesDB = state.Component{Name: "notes-db", Module: "sqlite-database", Container: "sqlite-database"}
	notes   = state.Component{
		Name: "notes", Module: "process", Container: "process",
		Properties: state.Properties{"command": []string{"notes"}},
	}
)

func newSystem(t *testing.T) *system {
	t.Helper()
	s := &system{
		t: t, table: memory.New(), machines: map[fabric.NodeID]*machine{"a": newMachine(), "b": newMachine()},
		tunnels: &tunnels{alive: map[string]bool{}}, alive: []fabric.NodeID{"a", "b"},
	}
	b := s.machines["b"]
	b.components[notesDB.Ref()] = &held{notesDB, state.PhaseActive, "production's notes"}
	b.components[notes.Ref()] = &held{notes, state.PhaseActive, ""}
	return s
}

func (s *system) Keeper(node fabric.NodeID) (state.Keeper, error) {
	if m := s.machines[node]; m != nil {
		return m, nil
	}
	return nil, fabric.ErrNotFound
}

func (s *system) Lookup(_ context.Context, service string) (session.Placed, error) {
	switch service {
	case "notes":
		return session.Placed{Service: service, Node: "b", Components: []state.Component{notesDB, notes}, Endpoint: "notes"}, nil
	case "sky":
		return session.Placed{Service: service, Node: "b", Components: []state.Component{{Name: "sky", Module: "process"}}, Endpoint: "sky"}, nil
	}
	return session.Placed{}, fmt.Errorf("service %s: %w", service, session.ErrNotFound)
}

func (s *system) Describe(_ context.Context, _ fabric.NodeID, module string) (state.Description, error) {
	return state.Description{Name: module, Stateful: module == "sqlite-database"}, nil
}

func (s *system) Alive() []fabric.NodeID {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.alive)
}

func (s *system) overlay(self fabric.NodeID) *Overlay {
	s.t.Helper()
	o, err := New(Config{
		Self: self, Table: s.table, Keepers: s, Services: s, Modules: s, Tunnels: s.tunnels, Alive: s.Alive,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return o
}
