// Package process is the module of components that are a supervised process
// of the node.
//
// A Module starts a component's command with a clean environment in a process group of its own, waits
// until it answers, starts it again with growing pauses when it ends, keeps its output in
// rotated log files, and stops the whole group. A process never outlives its node: the kernel kills it
// when the node dies (without a node, its own supervisor; see Detached), and what the command itself had started is found by a run file and killed at the
// next activation. The module owns the port, run and log folders of the target's directory; a process has no
// state that could be snapshotted.
package process

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"orrery/state"
	"orrery/state/account"
)

// ErrClosed says that the module was closed and starts nothing any more.
var ErrClosed = errors.New("process module is closed")

// Config configures a Module.
type Config struct {
	// Logger gets starts, exits and restarts; nil discards.
	Logger *slog.Logger
	// Accounts makes the users and groups of components; nil: they can have none.
	Accounts *account.Manager
}

// Module supervises the processes of one node. It is safe for concurrent use.
type Module struct {
	log      *slog.Logger
	accounts *account.Manager
	ports    *ports

	detached bool // it is in a component's own supervisor; see Supervise

	mu      sync.Mutex
	running map[state.Ref]*supervisor
	closed  bool
}

var (
	_ state.Module   = (*Module)(nil)
	_ state.Exporter = (*Module)(nil)
	_ state.Doctor   = (*Module)(nil)
)

// New makes a module that runs nothing yet.
func New(c Config) *Module {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Module{log: c.Logger, accounts: c.Accounts, ports: newPorts(), running: map[state.Ref]*supervisor{}}
}

// Describe implements state.Module.
func (*Module) Describe() state.Description {
	return state.Description{
		Name: "process",
		Doc:  "A supervised process on the node: started with a clean environment, restarted with back-off, stopped gracefully with its whole process group. Its output is kept in log files.",
		Properties: append([]state.Property{
			{Name: "command", Type: "[]string", Required: true, Doc: "Absolute path of the program, or ${file.NAME}, and its arguments; ${self.port} and ${self.address} are resolved."},
			{Name: "environment", Type: "map[string]string", Doc: "Variables of the process beside PATH, HOME, PORT, ADDRESS and, in a session, ORRERY_SESSION, which is its name; ${self.port} and ${self.address} are resolved."},
			{Name: "directory", Type: "string", Doc: "Working directory; by default a folder of the component's own."},
			{Name: "port", Type: "string", Default: "auto", Doc: "A fixed number, none, or auto: a free loopback port that is chosen once and kept."},
			{Name: "ready", Type: "string", Doc: "When the process counts as ready: tcp (the port accepts; the default with a port), http:/PATH (a GET there succeeds), or none."},
			{Name: "readyTimeout", Type: "duration", Default: "15s", Doc: "How long the process may take to become ready."},
			{Name: "stopSignal", Type: "string", Default: "TERM", Doc: "The signal that asks the process to stop."},
			{Name: "stopTimeout", Type: "duration", Default: "10s", Doc: "How long it may take to stop before the whole process group is killed."},
			{Name: "user", Type: "string", Doc: "The user to run as; needs a node that runs as root."},
			{Name: "restart", Type: "string", Default: "always", Doc: "When a process that ended is started again: always, on-failure or never."},
		}, account.Describe()...),
		Exports: []state.Property{
			{Name: "address", Type: "string", Doc: "Where the process listens, as 127.0.0.1:PORT."},
			{Name: "port", Type: "int", Doc: "The port of the address."},
			{Name: "url", Type: "string", Doc: "The address as http://127.0.0.1:PORT."},
			{Name: "pid", Type: "int", Doc: "The process id while it runs."},
		},
	}
}

// Check implements state.Module.
func (*Module) Check(c state.Component) error {
	_, err := decode(c)
	return err
}

// Activate implements state.Module. A process that runs with the same properties is left alone.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := decode(t.Component)
	if err != nil {
		return err
	}
	if old := m.find(t); old != nil {
		if old.spec.from(p, t) && old.alive() {
			return nil
		}
		m.stop(ctx, t, old)
	}
	if err := m.takeOver(ctx, t); err != nil {
		return fmt.Errorf("cannot stop the process that an earlier node left of %s: %w", t.Component.Ref(), err)
	}
	if err := m.accounts.Ensure(ctx, t.Component.Ref().String(), p.Properties); err != nil {
		return fmt.Errorf("cannot start process %s: %w", t.Component.Ref(), err)
	}
	if err := m.launch(ctx, p, t); err != nil {
		released := m.accounts.Release(context.WithoutCancel(ctx), t.Component.Ref().String(), p.RemoveAccounts)
		return errors.Join(fmt.Errorf("cannot start process %s: %w", t.Component.Ref(), err), released)
	}
	return nil
}

// takeOver ends whoever else runs the component: a supervisor of its own, and what an earlier node left.
func (m *Module) takeOver(ctx context.Context, t state.Target) error {
	if !m.detached {
		if err := endDetached(ctx, t.Directory); err != nil {
			return err
		}
	}
	return killStale(ctx, t.Directory)
}

// launch starts a process and waits until it is ready.
func (m *Module) launch(ctx context.Context, p Properties, t state.Target) error {
	spec, err := m.prepare(ctx, p, t)
	if err != nil {
		return err
	}
	s, err := m.start(spec, t)
	if err != nil {
		m.ports.release(t.Component.Ref())
		return err
	}
	if err := s.awaitReady(ctx); err != nil {
		m.stop(ctx, t, s)
		return fmt.Errorf("%w%s", err, s.log.quoteTail())
	}
	return nil
}

// start adds a supervisor for the spec and lets it run.
func (m *Module) start(spec spec, t state.Target) (*supervisor, error) {
	if err := os.MkdirAll(runDirectory(t.Directory), 0o700); err != nil {
		return nil, err
	}
	output, err := openLog(LogDirectory(t.Directory))
	if err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, errors.Join(ErrClosed, output.Close())
	}
	s := newSupervisor(spec, output, m.log.With("component", t.Component.Ref().String()))
	m.running[t.Component.Ref()] = s
	go s.run()
	return s, nil
}

// stop ends a supervisor and forgets it.
func (m *Module) stop(ctx context.Context, t state.Target, s *supervisor) {
	s.stop(ctx)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.running[t.Component.Ref()] == s {
		delete(m.running, t.Component.Ref())
		m.ports.release(t.Component.Ref())
	}
}

func (m *Module) find(t state.Target) *supervisor {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.running[t.Component.Ref()]
}

// Deactivate implements state.Module. It returns once no process of the component's group is left. When ctx
// ends before the process has stopped gracefully, the group is killed.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s := m.find(t); s != nil {
		m.stop(ctx, t, s)
	}
	if err := m.takeOver(ctx, t); err != nil {
		return fmt.Errorf("cannot stop process %s: %w", t.Component.Ref(), err)
	}
	p, err := decode(t.Component)
	if err != nil {
		return err
	}
	return m.accounts.Release(ctx, t.Component.Ref().String(), p.RemoveAccounts)
}

// Close stops all processes, gracefully until ctx ends, and returns when none is left.
func (m *Module) Close(ctx context.Context) error {
	m.mu.Lock()
	m.closed = true
	all := m.running
	m.running = map[state.Ref]*supervisor{}
	m.mu.Unlock()
	var stopped sync.WaitGroup
	for _, s := range all {
		stopped.Go(func() { s.stop(ctx) })
	}
	stopped.Wait()
	return nil
}

// Exports implements state.Exporter.
func (m *Module) Exports(t state.Target) (map[string]string, error) {
	values := map[string]string{}
	s := m.find(t)
	if s == nil {
		return values, nil
	}
	if s.spec.port != 0 {
		port := strconv.Itoa(s.spec.port)
		values["port"] = port
		values["address"] = address(port)
		values["url"] = "http://" + address(port)
	}
	if pid := s.pid(); pid != 0 {
		values["pid"] = strconv.Itoa(pid)
	}
	return values, nil
}

// Health implements state.Doctor: the process runs and, if it says how, is ready.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	s := m.find(t)
	if s == nil {
		return fmt.Errorf("process %s does not run: %w", t.Component.Ref(), state.ErrInactive)
	}
	if err := s.health(ctx); err != nil {
		return fmt.Errorf("process %s: %w%s", t.Component.Ref(), err, s.log.quoteTail())
	}
	return nil
}

func runDirectory(directory string) string { return filepath.Join(directory, "run") }

// LogDirectory is where the output of the component with that directory is kept: current, and
// before it 1, 2 and 3.
func LogDirectory(directory string) string { return filepath.Join(directory, "log") }
