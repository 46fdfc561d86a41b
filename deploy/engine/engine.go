// Package engine carries plans out: it activates, moves, upgrades and deactivates services, backs their
// state up and restores it.
//
// An operation holds its manifest's journal, one key of the table, and renews it while it lives. Whoever
// finds a journal that nobody renews takes it over by compare-and-swap and brings what it describes
// to an end, so that at most one engine works on a manifest, and an engine that lost its journal stops.
//
// A step's point of no return is one compare-and-swap of the service's placement. Before it the step
// is undone by giving the service back to where it was, whose state was never touched; after it the step is finished.
// Both directions consist of idempotent calls, so that it does not matter where the step was interrupted.
// See DESIGN.md beside this file.
package engine

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"orrery/deploy"
	"orrery/fabric"
	"orrery/state"
)

// Config is what an engine works with. Table, Machines, Traffic and Self are needed.
type Config struct {
	Table    fabric.Table
	Machines deploy.Machines
	Traffic  deploy.Traffic
	// Self is the node that the engine runs on. There is one engine a node: journals that
	// Self owns and this engine does not know of are those of an earlier process, which is gone.
	Self fabric.NodeID
	// Out says that a node was put out of the cluster for good, so that it will never be back. nil: none was.
	Out    func(id fabric.NodeID) bool
	Logger *slog.Logger // nil: discard
	// Lease is how long a journal outlives an owner that is silent. Default 10 s.
	Lease time.Duration
	// Undo bounds the undoing of one operation. Default 2 min.
	Undo time.Duration
}

// Engine carries out operations on manifests. Safe for concurrent use; operations on
// one manifest exclude each other.
type Engine struct {
	Config

	mu      sync.Mutex
	holders map[string]bool // of operations under way here
}

// New makes an engine. It has no goroutines of its own between operations.
func New(c Config) *Engine {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Out == nil {
		c.Out = func(fabric.NodeID) bool { return false }
	}
	if c.Lease <= 0 {
		c.Lease = 10 * time.Second
	}
	if c.Undo <= 0 {
		c.Undo = 2 * time.Minute
	}
	return &Engine{Config: c, holders: map[string]bool{}}
}

// retiredPrefix + manifest + "/" + service is where a service that runs nowhere was last.
const retiredPrefix = "deploy/retired/"

func placementKey(manifest, service string) string {
	return deploy.PlacementPrefix + manifest + "/" + service
}

// placed is a placement as it stands in the table.
type placed struct {
	deploy.Placement
	revision uint64
}

// placements lists a manifest's placements; of all manifests for "".
func (e *Engine) placements(ctx context.Context, manifest string) ([]placed, error) {
	prefix := deploy.PlacementPrefix
	if manifest != "" {
		prefix += manifest + "/"
	}
	entries, err := e.Table.List(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("cannot read the placements: %w", err)
	}
	out := make([]placed, 0, len(entries))
	for _, entry := range entries {
		p, err := decodePlacement(entry)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

// placement reads one placement; revision 0 if there is none.
func (e *Engine) placement(ctx context.Context, manifest, service string) (placed, error) {
	entry, err := e.Table.Get(ctx, placementKey(manifest, service))
	if errors.Is(err, fabric.ErrNotFound) {
		return placed{}, nil
	}
	if err != nil {
		return placed{}, fmt.Errorf("cannot read the placement of %s: %w", service, err)
	}
	return decodePlacement(entry)
}

func decodePlacement(entry fabric.Entry) (placed, error) {
	p := placed{revision: entry.Revision}
	if err := json.Unmarshal(entry.Value, &p.Placement); err != nil {
		return placed{}, fmt.Errorf("placement %s cannot be read: %w", entry.Key, err)
	}
	return p, nil
}

// Manifests lists the names of manifests that have a journal, a placement or a recorded manifest.
func (e *Engine) Manifests(ctx context.Context) ([]string, error) {
	var names []string
	for _, prefix := range []string{deploy.ManifestPrefix, deploy.JournalPrefix} {
		entries, err := e.Table.List(ctx, prefix)
		if err != nil {
			return nil, fmt.Errorf("cannot list the manifests: %w", err)
		}
		for _, entry := range entries {
			names = append(names, entry.Key[len(prefix):])
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// members are the nodes by name and by id.
func (e *Engine) members() (byName map[string]fabric.Member, byID map[fabric.NodeID]fabric.Member) {
	byName, byID = map[string]fabric.Member{}, map[fabric.NodeID]fabric.Member{}
	for _, m := range e.Machines.Members() {
		byID[m.ID] = m
		// A name may come back with another key; the living one has it.
		if other, ok := byName[m.Name]; !ok || !other.State.Present() {
			byName[m.Name] = m
		}
	}
	return byName, byID
}

// usable says whether a member may be given work. A suspect one may well be alive.
func usable(m fabric.Member) bool {
	return m.State.Present()
}

// nodeName is a node's name for people.
func (e *Engine) nodeName(id fabric.NodeID) string {
	if _, byID := e.members(); byID[id].Name != "" {
		return byID[id].Name
	}
	return string(id)
}

// askTimeout bounds a question to a node.
const askTimeout = 10 * time.Second

// describe asks a node for a module's description, and does not wait for a dead one.
func (e *Engine) describe(ctx context.Context, node fabric.NodeID, module string) (d state.Description, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err = e.whileAlive(ctx, []fabric.NodeID{node}, func(ctx context.Context) (int64, error) {
		d, err = e.Machines.Describe(ctx, node, module)
		return 0, err
	})
	return d, err
}

func newID() string { return rand.Text() }

// parallel runs f for every index and returns the first error by index; the context of the
// others ends with the first that fails.
func parallel(ctx context.Context, n int, f func(ctx context.Context, i int) error) error {
	if n == 1 {
		return f(ctx, 0)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if err := f(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	return nil
}
