// Package keeper carries out operations on the components of one machine.
//
// A Keeper owns a folder. It runs the modules that it was given, keeps for each component one
// record of what should be, and holds one lock for it while it works on it, against other goroutines and
// against other processes on the same folder. A record is written before the world is changed where it says what
// must be finished after a crash (activation, staging, commit), and after it where it says what was reached.
//
// Layout of the folder:
//
//	records/CONTAINER/COMPONENT.json     what the keeper knows of a component (record, version 1), replaced atomically
//	locks/CONTAINER/COMPONENT            locked (flock) while an operation on the component runs
//	containers/CONTAINER/                what a module keeps for a container (state.Container.Directory)
//	components/CONTAINER/COMPONENT/      what a module keeps for a component (state.Target.Directory)
//	groups/GROUP.json                    the members of a group of snapshots that is being saved
//
// What an operation has begun that a crash may leave half done is in the record too, and finished or undone by whoever comes
// next (Sweep, Boot, or the operation when it is repeated): a component that is being made (forking) or was made to test a
// restore (scratch) is removed, the deletion of one (collecting) is completed, one that holds still (holding, lease) goes on.
//
// A record with phase "inactive" marks state that garbage collection may delete; nothing else ever does.
//
// Strings in properties may refer to values: ${file.NAME} is an artifact's path, ${component.NAME.EXPORT} what another
// component on this machine exports (for a component of a session, the session's own copy NAME@SESSION if there is
// one), ${service.…} what Config.Resolve says. ${self.…} is left to the module, and $${ stands for ${ itself.
package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"orrery/state"
)

// trackLimit is how long a component is tracked without a snapshot.
const trackLimit = time.Minute

// Artifacts has the files that components refer to.
type Artifacts interface {
	// Path returns where the file with that SHA-256, in hex, is; state.ErrNotFound if it is not on this machine.
	Path(sha256 string) (string, error)
}

// Config is what a keeper needs.
type Config struct {
	Directory string // its own; made if missing
	Store     state.Store
	Modules   []state.Module
	// Containers besides the default ones: each module has one of its own name. A missing Directory is
	// filled in.
	Containers []state.Container
	Artifacts  Artifacts // nil: there are none
	// Resolve returns the value of a reference service.…, given without its braces. Nil: there are none.
	Resolve func(ctx context.Context, c state.Component, ref string) (string, error)
	// Hooks returns the programs that run around operations. Nil: there are none.
	Hooks  func() ([]Hook, error)
	Logger *slog.Logger // nil discards
}

// Keeper implements state.Keeper. It is safe for concurrent use.
type Keeper struct {
	config     Config
	log        *slog.Logger
	modules    map[string]state.Module
	containers map[string]state.Container
	locks      locks
	done       chan struct{} // closed by Close
	closing    sync.Once
	expiring   sync.WaitGroup // timers of trackers, and stages that are closed later

	mu      sync.Mutex
	tracked map[state.Ref]*tracked
}

var (
	_ state.Keeper    = (*Keeper)(nil)
	_ state.Custodian = (*Keeper)(nil)
)

// Open makes the folders and reads the records. Nothing is started: see Boot.
func Open(config Config) (*Keeper, error) {
	directory, err := filepath.Abs(config.Directory)
	if err != nil {
		return nil, err
	}
	config.Directory = directory
	k := &Keeper{
		config:     config,
		log:        config.Logger,
		modules:    map[string]state.Module{},
		containers: map[string]state.Container{},
		locks:      locks{folder: filepath.Join(directory, "locks"), held: map[state.Ref]*held{}},
		done:       make(chan struct{}),
		tracked:    map[state.Ref]*tracked{},
	}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	for _, m := range config.Modules {
		name := m.Describe().Name
		k.modules[name] = m
		k.containers[name] = state.Container{Name: name, Module: name}
	}
	for _, c := range config.Containers {
		k.containers[c.Name] = c
	}
	if err := k.prepareContainers(); err != nil {
		return nil, err
	}
	if _, err := k.records(); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *Keeper) prepareContainers() error {
	for name, c := range k.containers {
		if !state.ValidName(name) {
			return fmt.Errorf("%q cannot name a container", name)
		}
		if k.modules[c.Module] == nil {
			return fmt.Errorf("module %q of container %s: %w", c.Module, name, state.ErrNotFound)
		}
		if c.Directory == "" {
			c.Directory = filepath.Join(k.config.Directory, "containers", name)
		}
		if err := os.MkdirAll(c.Directory, 0o700); err != nil {
			return err
		}
		k.containers[name] = c
	}
	return nil
}

// Modules describes the modules, sorted by name.
func (k *Keeper) Modules() []state.Description {
	var all []state.Description
	for _, name := range slices.Sorted(maps.Keys(k.modules)) {
		all = append(all, k.modules[name].Describe())
	}
	return all
}

// Describe describes one module; state.ErrNotFound if this machine lacks it.
func (k *Keeper) Describe(name string) (state.Description, error) {
	m, ok := k.modules[name]
	if !ok {
		return state.Description{}, fmt.Errorf("module %q: %w", name, state.ErrNotFound)
	}
	return m.Describe(), nil
}

// Close stops the components without changing their records, so that Boot brings them back.
func (k *Keeper) Close(ctx context.Context) error {
	k.closing.Do(func() { close(k.done) })
	all, err := k.records()
	if err != nil {
		return err
	}
	var failed []error
	for _, rec := range slices.Backward(inOrder(all)) {
		failed = append(failed, k.suspend(ctx, rec.ref()))
	}
	k.expiring.Wait() // after the timers were stopped with their trackers
	return errors.Join(failed...)
}

// Release ends what the keeper does by itself and leaves the components as they are. It is the end of a keeper
// that supervises nothing, on a machine without a node.
func (k *Keeper) Release() error {
	k.closing.Do(func() { close(k.done) })
	k.mu.Lock()
	refs := slices.Collect(maps.Keys(k.tracked))
	k.mu.Unlock()
	var failed []error
	for _, r := range refs {
		failed = append(failed, k.untrack(r))
	}
	k.expiring.Wait()
	return errors.Join(failed...)
}

func (k *Keeper) suspend(ctx context.Context, r state.Ref) error {
	unlock, err := k.locks.lock(ctx, r)
	if err != nil {
		return err
	}
	defer unlock()
	failed := k.untrack(r)
	rec, err := k.load(r)
	if errors.Is(err, state.ErrNotFound) || err == nil && rec.Phase != state.PhaseActive {
		return failed
	}
	if err != nil {
		return errors.Join(failed, err)
	}
	module, target, err := k.reach(rec)
	if err != nil {
		return errors.Join(failed, err)
	}
	if err := module.Deactivate(ctx, target); err != nil {
		return errors.Join(failed, fmt.Errorf("cannot stop %s: %w", r, err))
	}
	return failed
}

// module returns a module by a component's record.
func (k *Keeper) module(c state.Component) (state.Module, error) {
	m, ok := k.modules[c.Module]
	if !ok {
		return nil, fmt.Errorf("module %q of %s: %w on this machine", c.Module, c.Ref(), state.ErrNotFound)
	}
	return m, nil
}

// stateful returns a module as one with state.
func (k *Keeper) stateful(c state.Component) (state.Stateful, error) {
	m, err := k.module(c)
	if err != nil {
		return nil, err
	}
	s, ok := m.(state.Stateful)
	if !ok {
		return nil, fmt.Errorf("%w keep state: %s of %s", state.ErrNotAble, c.Module, c.Ref())
	}
	return s, nil
}

// normal fills in what a component leaves out and checks its names.
func (k *Keeper) normal(c state.Component) (state.Component, error) {
	if c.Container == "" {
		c.Container = c.Module
	}
	if !state.ValidName(c.Name) {
		return c, fmt.Errorf("%w: %q cannot name a component (lower-case letters, digits, '-', '_' and '.')", state.ErrBadProperty, c.Name)
	}
	if _, err := k.module(c); err != nil {
		return c, err
	}
	container, ok := k.containers[c.Container]
	if !ok {
		return c, fmt.Errorf("container %q of component %s: %w on this machine", c.Container, c.Name, state.ErrNotFound)
	}
	if container.Module != c.Module {
		return c, fmt.Errorf("%w: container %s is for %s, component %s for %s",
			state.ErrBadProperty, c.Container, container.Module, c.Name, c.Module)
	}
	return c, nil
}

// reach returns what a module needs to work on a recorded component. Artifacts that are gone are left
// out: a component can be stopped without them.
func (k *Keeper) reach(rec record) (state.Module, state.Target, error) {
	m, err := k.module(rec.Component)
	if err != nil {
		return nil, state.Target{}, err
	}
	container, ok := k.containers[rec.Component.Container]
	if !ok {
		return nil, state.Target{}, fmt.Errorf("container of %s: %w on this machine", rec.ref(), state.ErrNotFound)
	}
	t := state.Target{Component: rec.Component, Container: container, Directory: k.folder(rec.ref()), Files: map[string]string{}}
	t.Component.Properties = rec.Resolved
	for name, sum := range rec.Component.Files {
		if path, err := k.artifact(sum); err == nil {
			t.Files[name] = path
		}
	}
	return m, t, os.MkdirAll(t.Directory, 0o700)
}

func (k *Keeper) artifact(sum string) (string, error) {
	if k.config.Artifacts == nil {
		return "", fmt.Errorf("artifact %s: %w", sum, state.ErrNotFound)
	}
	return k.config.Artifacts.Path(sum)
}

// folder is a component's own.
func (k *Keeper) folder(r state.Ref) string {
	return filepath.Join(k.config.Directory, "components", r.Container, r.Component)
}
