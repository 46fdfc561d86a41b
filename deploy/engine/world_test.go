package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/fabric/table/memory"
	"orrery/state"
)

// world is a cluster in memory: nodes with keepers whose stateful components hold sets of keys, stores, and
// routers. It works: state moves only by snapshots, and a write is acknowledged only if it landed where traffic goes.
type world struct {
	*testing.T
	table *memory.Table

	mu      sync.Mutex
	nodes   map[fabric.NodeID]*node
	routes  map[string]*route
	acked   map[string][]string // by service
	writes  int
	busy    map[string]bool // addresses in use
	hangs   bool            // a node that is away does not even refuse
	trickle string          // a service that is written to after each snapshot of its state
}

type node struct {
	id         fabric.NodeID
	name       string
	state      fabric.MemberState
	components map[state.Ref]*component
	store      map[state.SnapshotID][]string
	artifacts  map[string]bool
}

type component struct {
	state.Component
	phase      state.Phase
	keys       []string
	broken     bool
	stage      *state.SnapshotID
	generation uint64
}

type route struct {
	to     deploy.Endpoint
	public *deploy.PublicOn
	held   bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{T: t, table: memory.New(), nodes: map[fabric.NodeID]*node{}, routes: map[string]*route{}, acked: map[string][]string{}, busy: map[string]bool{}}
	for _, name := range []string{"one", "two", "three"} {
		id := fabric.NodeID("id-" + name)
		w.nodes[id] = &node{
			id: id, name: name, state: fabric.MemberAlive, components: map[state.Ref]*component{},
			store: map[state.SnapshotID][]string{}, artifacts: map[string]bool{},
		}
	}
	return w
}

func hashOf(keys []string) state.SnapshotID {
	keys = slices.Sorted(slices.Values(keys))
	sum := sha256.Sum256([]byte(strings.Join(keys, " ")))
	return state.SnapshotID(hex.EncodeToString(sum[:]))
}

// write sends one write to a service through its router; false if it was held back or not answered.
func (w *world) write(service string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.writeLocked(service)
}

func (w *world) writeLocked(service string) bool {
	r := w.routes[service]
	if r == nil || r.held {
		return false
	}
	n := w.nodes[r.to.Node]
	process, db := n.components[state.Ref{Container: "process", Component: service}], n.components[state.Ref{Container: "db", Component: service + "-db"}]
	if n.state != fabric.MemberAlive || process == nil || process.phase != state.PhaseActive || db == nil || db.phase != state.PhaseActive || db.broken {
		return false
	}
	w.writes++
	key := fmt.Sprintf("%s%d", service, w.writes)
	db.keys = append(slices.Clone(db.keys), key)
	w.acked[service] = append(w.acked[service], key)
	return true
}

// check is what must hold whenever nothing is under way.
func (w *world) check() {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	e := New(Config{Table: w.table, Machines: machines{w, nil}})
	all, err := e.placements(w.Context(), system)
	if err != nil {
		w.Fatal(err)
	}
	owner := map[state.Ref]fabric.NodeID{}
	for _, p := range all {
		name := p.Service.Name
		for _, c := range p.Service.Components {
			owner[c.Ref()] = p.Node
			if have := w.nodes[p.Node].components[c.Ref()]; have == nil || have.phase != state.PhaseActive {
				w.Errorf("%s is placed on %s but %s is not active there", name, p.NodeName, c.Name)
			}
		}
		r := w.routes[name]
		want := deploy.Endpoint{Node: p.Node, Address: p.NodeName + ":" + name}
		if r == nil || r.held || r.to != want {
			w.Errorf("requests of %s go to %+v, want %+v", name, r, want)
		}
		db := w.nodes[p.Node].components[state.Ref{Container: "db", Component: name + "-db"}]
		for _, key := range w.acked[name] {
			if db == nil || !slices.Contains(db.keys, key) {
				w.Errorf("acknowledged write %s is lost", key)
			}
		}
	}
	for _, n := range w.nodes {
		for ref, c := range n.components {
			if c.phase == state.PhaseActive && owner[ref] != n.id {
				w.Errorf("%s is active on %s, which does not own it", ref, n.name)
			}
			if c.stage != nil {
				w.Errorf("%s is still staged on %s", ref, n.name)
			}
		}
	}
	for name := range w.routes {
		if !slices.ContainsFunc(all, func(p placed) bool { return p.Service.Name == name }) {
			w.Errorf("requests of %s, which runs nowhere, go to %+v", name, w.routes[name])
		}
	}
	j, _, err := e.readJournal(w.Context(), system)
	if err != nil || j.Phase != phaseClosed {
		w.Errorf("journal is open: %+v, %v", j, err)
	}
}

// where is each service's node.
func (w *world) where() map[string]string {
	e := New(Config{Table: w.table, Machines: machines{w, nil}})
	all, err := e.placements(w.Context(), system)
	if err != nil {
		w.Fatal(err)
	}
	out := map[string]string{}
	for _, p := range all {
		out[p.Service.Name] = fmt.Sprintf("%s %v", p.NodeName, p.Service.Components)
	}
	return out
}

// setState makes the membership and the network see a node so.
func (w *world) setState(name string, s fabric.MemberState) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[fabric.NodeID("id-"+name)].state = s
}

// engine makes an engine on a node; all that it does goes through in.
func (w *world) engine(name string, in *injector) *Engine {
	if in == nil {
		in = &injector{}
	}
	return New(Config{
		Table: table{w.table, in}, Machines: machines{w, in}, Traffic: traffic{w, in}, Self: fabric.NodeID("id-" + name),
	})
}

// injector counts the calls of an engine and makes one of them go wrong.
type injector struct {
	at     int    // the call to go wrong, from 1; 0: none
	mode   string // see the tests
	action func() // for mode "do"

	mu    sync.Mutex
	calls int
	dead  bool
}

const (
	crashBefore = "crash before" // the engine is gone before the call
	crashAfter  = "crash after"  // the engine is gone after the call
	failBefore  = "fail before"  // the call fails without effect
	failAfter   = "fail after"   // the call has its effect and fails
	act         = "act"          // something else happens before the call
)

var (
	errCrashed  = errors.New("crashed")
	errInjected = errors.New("injected")
)

func (in *injector) call(ctx context.Context, f func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if in == nil {
		return f()
	}
	in.mu.Lock()
	in.calls++
	hit := in.at != 0 && in.calls == in.at
	if hit && in.mode == crashBefore {
		in.dead = true
	}
	dead := in.dead
	if hit && in.mode == crashAfter {
		in.dead = true
	}
	in.mu.Unlock()
	switch {
	case dead:
		return errCrashed
	case hit && in.mode == failBefore:
		return errInjected
	case hit && in.mode == act:
		in.action()
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	err := f()
	switch {
	case hit && in.mode == failAfter:
		return errInjected
	case hit && in.mode == crashAfter:
		return errCrashed
	}
	return err
}

// every yields the calls to make go wrong: all, or a sample where the race detector makes it slow.
func every(calls int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for at := 0; at < calls && yield(at); at += stride {
		}
	}
}

type table struct {
	fabric.Table
	in *injector
}

func (t table) Get(ctx context.Context, key string) (e fabric.Entry, err error) {
	err = t.in.call(ctx, func() error { e, err = t.Table.Get(ctx, key); return err })
	return e, err
}

func (t table) List(ctx context.Context, prefix string) (e []fabric.Entry, err error) {
	err = t.in.call(ctx, func() error { e, err = t.Table.List(ctx, prefix); return err })
	return e, err
}

func (t table) Put(ctx context.Context, key string, value []byte) (r uint64, err error) {
	err = t.in.call(ctx, func() error { r, err = t.Table.Put(ctx, key, value); return err })
	return r, err
}

func (t table) CompareAndSwap(ctx context.Context, key string, revision uint64, value []byte) (r uint64, err error) {
	err = t.in.call(ctx, func() error { r, err = t.Table.CompareAndSwap(ctx, key, revision, value); return err })
	return r, err
}

func (t table) Delete(ctx context.Context, key string, revision uint64) error {
	return t.in.call(ctx, func() error { return t.Table.Delete(ctx, key, revision) })
}

type traffic struct {
	w  *world
	in *injector
}

func (t traffic) locked(ctx context.Context, f func()) error {
	return t.in.call(ctx, func() error {
		t.w.mu.Lock()
		defer t.w.mu.Unlock()
		f()
		return nil
	})
}

func (t traffic) Hold(ctx context.Context, service string) error {
	return t.locked(ctx, func() {
		if r := t.w.routes[service]; r != nil {
			r.held = true
		}
	})
}

func (t traffic) Switch(ctx context.Context, service string, to deploy.Endpoint, public *deploy.PublicOn) error {
	return t.locked(ctx, func() { t.w.routes[service] = &route{to: to, public: public} })
}

func (t traffic) Remove(ctx context.Context, service string) error {
	return t.locked(ctx, func() { delete(t.w.routes, service) })
}

type machines struct {
	w  *world
	in *injector
}

func (m machines) Members() []fabric.Member {
	if m.in != nil {
		m.w.mu.Lock()
		defer m.w.mu.Unlock()
	}
	var out []fabric.Member
	for _, n := range m.w.nodes {
		out = append(out, fabric.Member{ID: n.id, Name: n.name, State: n.state})
	}
	return out
}

func (m machines) Keeper(id fabric.NodeID) (state.Keeper, error) {
	if _, ok := m.w.nodes[id]; !ok {
		return nil, deploy.ErrNotFound
	}
	return keeper{w: m.w, in: m.in, id: id}, nil
}

// on runs f on a node if that can be reached.
func (m machines) on(ctx context.Context, id fabric.NodeID, f func(n *node) error) error {
	return m.in.call(ctx, func() error {
		m.w.mu.Lock()
		defer m.w.mu.Unlock()
		n := m.w.nodes[id]
		if n == nil || n.state != fabric.MemberAlive {
			if m.w.hangs {
				m.w.mu.Unlock()
				<-ctx.Done()
				m.w.mu.Lock()
			}
			return fmt.Errorf("node %s does not answer", id)
		}
		return f(n)
	})
}

var modules = map[string]state.Description{
	"db": {Name: "db", Stateful: true, Exports: []state.Property{{Name: "path"}}, Properties: []state.Property{{Name: "schema", Type: "string"}}},
	"process": {Name: "process", Exports: []state.Property{{Name: "address"}}, Properties: []state.Property{
		{Name: "command", Type: "[]string"}, {Name: "version", Type: "int"}, {Name: "database", Type: "string"}, {Name: "fails", Type: "bool"},
	}},
}

func (m machines) Describe(ctx context.Context, id fabric.NodeID, module string) (d state.Description, err error) {
	err = m.on(ctx, id, func(*node) error {
		var ok bool
		if d, ok = modules[module]; !ok {
			return state.ErrNotFound
		}
		return nil
	})
	return d, err
}

func (m machines) Provide(ctx context.Context, id fabric.NodeID, artifacts []string) error {
	return m.on(ctx, id, func(n *node) error {
		for _, a := range artifacts {
			n.artifacts[a] = true
		}
		return nil
	})
}

func (m machines) Transfer(ctx context.Context, r state.Ref, id state.SnapshotID, from, to fabric.NodeID) (int64, error) {
	return 1, m.on(ctx, from, func(source *node) error {
		keys, ok := source.store[id]
		if !ok {
			return fmt.Errorf("snapshot of %s: %w", r, state.ErrNotFound)
		}
		target := m.w.nodes[to]
		if target.state != fabric.MemberAlive {
			return fmt.Errorf("node %s does not answer", to)
		}
		target.store[id] = keys
		return nil
	})
}

func (m machines) CheckAddress(ctx context.Context, id fabric.NodeID, address, _ string) error {
	return m.on(ctx, id, func(*node) error {
		if m.w.busy[address] {
			return state.ErrInUse
		}
		return nil
	})
}

// keeper is the keeper of one node.
type keeper struct {
	state.Keeper // the methods that no test needs
	w            *world
	in           *injector
	id           fabric.NodeID
}

func (k keeper) on(ctx context.Context, f func(n *node) error) error {
	return machines{k.w, k.in}.on(ctx, k.id, f)
}

func (k keeper) with(ctx context.Context, r state.Ref, f func(n *node, c *component) error) error {
	return k.on(ctx, func(n *node) error {
		c := n.components[r]
		if c == nil {
			return fmt.Errorf("component %s: %w", r, state.ErrNotFound)
		}
		return f(n, c)
	})
}

func (k keeper) Activate(ctx context.Context, c state.Component) (s state.Status, err error) {
	err = k.on(ctx, func(n *node) error {
		for _, hash := range c.Files {
			if !n.artifacts[hash] {
				return fmt.Errorf("file %s is not here", hash)
			}
		}
		have := n.components[c.Ref()]
		if have == nil {
			have = &component{}
			n.components[c.Ref()] = have
		}
		have.Component, have.stage = c, nil
		if c.Properties["fails"] == true || have.broken {
			have.phase = state.PhaseInactive
			return errors.New("it does not start")
		}
		if db := n.components[state.Ref{Container: "db", Component: c.Name + "-db"}]; c.Module == "process" && db != nil && (db.phase != state.PhaseActive || db.broken) {
			return errors.New("its database is not active")
		}
		have.phase = state.PhaseActive
		s = state.Status{Component: c, Phase: have.phase, Exports: map[string]string{"address": n.name + ":" + c.Name}}
		return nil
	})
	return s, err
}

func (k keeper) Deactivate(ctx context.Context, r state.Ref) error {
	return k.with(ctx, r, func(_ *node, c *component) error {
		if c.phase == state.PhaseActive {
			c.phase = state.PhaseInactive
		}
		return nil
	})
}

func (k keeper) Snapshot(ctx context.Context, r state.Ref, _ string) (g state.Generation, err error) {
	err = k.with(ctx, r, func(n *node, c *component) error {
		if c.broken || c.phase == state.PhaseStaged {
			return errors.New("cannot be read")
		}
		id := hashOf(c.keys)
		n.store[id] = slices.Clone(c.keys)
		c.generation++
		g = state.Generation{Number: c.generation, Snapshot: id}
		if k.w.trickle != "" && r.Component == k.w.trickle+"-db" {
			k.w.writeLocked(k.w.trickle)
		}
		return nil
	})
	return g, err
}

func (k keeper) Restore(ctx context.Context, r state.Ref, id state.SnapshotID) error {
	return k.with(ctx, r, func(n *node, c *component) error {
		keys, ok := n.store[id]
		if !ok {
			return state.ErrNotFound
		}
		c.keys, c.broken = slices.Clone(keys), false
		return nil
	})
}

func (k keeper) Status(ctx context.Context, r state.Ref) (s state.Status, err error) {
	err = k.with(ctx, r, func(_ *node, c *component) error {
		s = state.Status{Component: c.Component, Phase: c.phase, Size: int64(len(c.keys))}
		return nil
	})
	return s, err
}

func (k keeper) List(ctx context.Context) (all []state.Status, err error) {
	err = k.on(ctx, func(n *node) error {
		for _, r := range slices.SortedFunc(maps.Keys(n.components), func(a, b state.Ref) int { return strings.Compare(a.String(), b.String()) }) {
			all = append(all, state.Status{Component: n.components[r].Component, Phase: n.components[r].phase})
		}
		return nil
	})
	return all, err
}

func (k keeper) Track(ctx context.Context, r state.Ref) error {
	return k.with(ctx, r, func(*node, *component) error { return nil })
}

func (k keeper) Untrack(ctx context.Context, r state.Ref) error {
	return k.with(ctx, r, func(*node, *component) error { return nil })
}

func (k keeper) Stage(ctx context.Context, c state.Component, id state.SnapshotID) error {
	return k.on(ctx, func(n *node) error {
		if _, ok := n.store[id]; !ok {
			return state.ErrNotFound
		}
		have := n.components[c.Ref()]
		if have == nil {
			have = &component{Component: c, phase: state.PhaseStaged}
			n.components[c.Ref()] = have
		}
		if have.phase == state.PhaseActive {
			return state.ErrActive
		}
		have.stage = &id
		return nil
	})
}

func (k keeper) Commit(ctx context.Context, r state.Ref, id state.SnapshotID) error {
	return k.with(ctx, r, func(n *node, c *component) error {
		if c.stage == nil || *c.stage != id {
			return errors.New("stage is not at the snapshot")
		}
		c.keys, c.stage, c.phase, c.broken = slices.Clone(n.store[id]), nil, state.PhaseInactive, false
		return nil
	})
}

func (k keeper) Unstage(ctx context.Context, r state.Ref) error {
	return k.with(ctx, r, func(n *node, c *component) error {
		c.stage = nil
		if c.phase == state.PhaseStaged {
			delete(n.components, r)
		}
		return nil
	})
}
