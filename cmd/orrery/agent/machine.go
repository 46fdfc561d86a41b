package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"orrery/state"
	"orrery/state/account"
	"orrery/state/address"
	"orrery/state/keeper"
	"orrery/state/module/process"
	"orrery/state/store"
)

// Machine is one machine's components and snapshots, on this machine or
// through a node.
type Machine struct {
	Keeper state.Keeper
	Store  Archive
	Care   state.Custodian
	// Library takes snapshots out of Store and into it.
	Library state.Librarian
	// Near says that the machine is this one, so that programs can be run on it.
	Near bool
	// Modules describes the machine's modules.
	Modules func(ctx context.Context) ([]state.Description, error)
	// Provide gives the machine a local file and returns its SHA-256.
	Provide func(ctx context.Context, path string) (string, error)

	close func() error
}

// Close releases what the machine holds; components go on.
func (m Machine) Close() error { return m.close() }

// Find returns the snapshot that a name means (see the package address). An empty one stays empty.
func (m Machine) Find(ctx context.Context, name string) (state.SnapshotID, error) {
	if name == "" {
		return "", nil
	}
	g, err := m.Locate(ctx, name, time.Time{})
	return g.Snapshot, err
}

// Locate returns the generation that a name means; with a before that is not zero, among those that are not younger.
func (m Machine) Locate(ctx context.Context, name string, before time.Time) (state.Generation, error) {
	all, err := m.Store.Generations(ctx, state.Ref{})
	if err != nil {
		return state.Generation{}, err
	}
	g, err := address.Find(all, name, before, Clock())
	if err == nil && g.Number == 0 { // a whole id: nobody says yet that there is such a snapshot
		_, err = m.Store.Get(ctx, g.Snapshot)
	}
	if errors.Is(err, state.ErrNotFound) {
		err = noSnapshot{err}
	}
	return g, err
}

// Group returns the generations of the group that a name means.
func (m Machine) Group(ctx context.Context, name string) ([]state.Generation, error) {
	all, err := m.Store.Generations(ctx, state.Ref{})
	if err != nil {
		return nil, err
	}
	members, err := address.Group(all, name, Clock())
	if errors.Is(err, state.ErrNotFound) {
		err = noSnapshot{err}
	}
	return members, err
}

// noSnapshot is a name that means no snapshot: state.ErrNoSnapshot, in better words.
type noSnapshot struct{ error }

func (e noSnapshot) Unwrap() error        { return e.error }
func (e noSnapshot) Is(target error) bool { return target == state.ErrNoSnapshot }

// Clock is what times on the command line are relative to.
func Clock() address.Clock { return address.Clock{Now: time.Now(), Location: time.Local} }

// Stateful are the active components with state, without forks and sessions' copies.
func (m Machine) Stateful(ctx context.Context) ([]state.Ref, error) {
	modules, err := m.Modules(ctx)
	if err != nil {
		return nil, err
	}
	able := map[string]bool{}
	for _, d := range modules {
		able[d.Name] = d.Stateful
	}
	list, err := m.Keeper.List(ctx)
	var refs []state.Ref
	for _, s := range list {
		if able[s.Component.Module] && s.Phase == state.PhaseActive && s.Forked == "" && s.Component.Session == "" {
			refs = append(refs, s.Component.Ref())
		}
	}
	return refs, err
}

// OpenMachine reaches the machine of the node (or login) in dir, or of another node
// by its name. Where dir is no node's, dir is a state folder that is used without one.
func OpenMachine(ctx context.Context, dir, on string) (Machine, error) {
	if on == "" && !isNode(dir) {
		return openLocal(ctx, dir)
	}
	client, err := Connect(ctx, dir)
	if err != nil {
		return Machine{}, err
	}
	m := client.Machine(on)
	m.close = func() error { client.Close(); return nil }
	return m, nil
}

// local is the state column of one machine, assembled.
type local struct {
	store     *store.Store
	keeper    *keeper.Keeper
	artifacts *artifacts
	modules   []state.Module
	processes processes
}

// processes is the process module: of a node, or one whose processes have supervisors of their own.
type processes interface {
	state.Module
	Close(ctx context.Context) error
}

// openState assembles the modules, the store and the keeper below dir. Without a node, supervise is the command that
// runs a process.
func openState(ctx context.Context, dir string, containers []state.Container, resolve resolver, log *slog.Logger, supervise []string) (*local, error) {
	l := assemble(ctx, dir, log, supervise)
	var err error
	if l.store, err = openStore(ctx, dir, log); err != nil {
		return nil, err
	}
	if l.artifacts, err = openArtifacts(filepath.Join(dir, "artifacts")); err != nil {
		return nil, err
	}
	l.keeper, err = keeper.Open(keeper.Config{
		Directory: filepath.Join(dir, "state"), Store: l.store, Modules: l.modules, Containers: containers,
		Artifacts: l.artifacts, Resolve: resolve, Logger: log,
		Hooks: func() ([]keeper.Hook, error) { return loadHooks(dir) },
	})
	return l, err
}

// InStore is a store elsewhere as the machine's modules read it.
func InStore(ctx context.Context, dir string, s *store.Store) state.Librarian {
	return keeper.Library{Store: s, Modules: assemble(ctx, dir, nil, nil).modules}
}

// resolver finds the value of a reference that leads out of the machine's state: ${service.NAME.url}.
type resolver = func(ctx context.Context, c state.Component, reference string) (string, error)

func (l *local) describe() []state.Description {
	var all []state.Description
	for _, m := range l.modules {
		d := m.Describe()
		d.Abilities = state.Abilities(m)
		if p, ok := m.(state.Portable); ok {
			d.Extension = p.Extension()
		}
		all = append(all, d)
	}
	return all
}

// openLocal uses a state folder without a node.
func openLocal(ctx context.Context, dir string) (Machine, error) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50) // a command beside people's services: a fifth less memory for a tenth more time
	}
	containers, err := loadContainers(dir)
	if err != nil {
		return Machine{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return Machine{}, err
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return Machine{}, err
	}
	alone := func(_ context.Context, _ state.Component, reference string) (string, error) {
		return "", fmt.Errorf("%s needs a cluster (deploy the component with a manifest)", reference)
	}
	l, err := openState(ctx, dir, containers, alone, nil, []string{self, "component", "supervise", "--dir", absolute})
	if err != nil {
		return Machine{}, err
	}
	// What cannot be swept, because a server is away, does not hold up other components; fork expire says so.
	_ = l.keeper.Sweep(ctx)
	return Machine{
		Keeper:  l.keeper,
		Store:   l.store,
		Care:    l.keeper,
		Library: l.keeper,
		Near:    true,
		Modules: func(context.Context) ([]state.Description, error) { return l.describe(), nil },
		Provide: func(_ context.Context, path string) (string, error) { return l.artifacts.add(path) },
		close:   l.keeper.Release,
	}, nil
}

// Supervise runs the process of one component on a machine without a node, until ctx ends. The process module starts it
// so.
func Supervise(ctx context.Context, dir, component string) error {
	accounts := account.New(account.Config{Directory: filepath.Join(dir, "accounts")})
	return process.Supervise(ctx, process.Config{Accounts: accounts}, component)
}
