// Package manager is the modules of components that are a program under a process manager of the machine:
// systemd-unit, supervisord-program, s6-service, runit-service, xinetd-service and sysvinit-script.
//
// All of them take the same properties: either a command, from which the manager's own kind of definition is
// generated, or a finished definition as a file. One Module does what is the same (accounts, placing the definition atomically,
// waiting until the program is ready, cleaning up); an engine per manager says what a definition looks like and how the
// manager is called. A file that the module did not place is never replaced or removed. The programs have no state of
// their own that could be snapshotted: they go on without the node, and are found again by what was placed.
package manager

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"orrery/state"
	"orrery/state/account"
)

// Config is what the modules need.
type Config struct {
	Logger   *slog.Logger     // nil discards
	Accounts *account.Manager // nil: components can have no users and groups
}

// engine is one kind of process manager.
type engine interface {
	describe() state.Description // without the properties that all have
	open(c state.Container) (server, error)
}

// server is one process manager of this machine.
type server interface {
	// fit refuses what this manager cannot do.
	fit(s spec) error
	// item is what has to be placed for a program.
	item(s spec) (item, error)
	// start makes the manager take up what was placed, and starts the program anew. It need not be ready yet.
	start(ctx context.Context, s spec) error
	// stop ends a program that may be running or unknown, and returns when it has ended.
	stop(ctx context.Context, s spec) error
	// removed makes the manager forget a program whose definition is gone.
	removed(ctx context.Context, s spec) error
	// status returns nil if the program runs, or why it does not.
	status(ctx context.Context, s spec) error
}

// Module drives programs of one kind of process manager. It is safe for concurrent use.
type Module struct {
	config Config
	engine engine
}

var (
	_ state.Exporter = (*Module)(nil)
	_ state.Module   = (*Module)(nil)
	_ state.Doctor   = (*Module)(nil)
)

// New returns the modules of all process managers.
func New(c Config) []state.Module {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	var all []state.Module
	for _, e := range []engine{systemd{}, supervisord{}, s6{}, runit{}, xinetd{}, sysvinit{}} {
		all = append(all, &Module{config: c, engine: e})
	}
	return all
}

// Describe implements state.Module.
func (m *Module) Describe() state.Description {
	d := m.engine.describe()
	d.Properties = describe()
	d.Exports = []state.Property{
		{Name: "name", Type: "string", Doc: "What the process manager calls the program."},
		{Name: "address", Type: "string", Doc: "Where the program listens, as 127.0.0.1:PORT, if it has a port."},
		{Name: "port", Type: "int", Doc: "The port of the address."},
		{Name: "url", Type: "string", Doc: "The address as http://127.0.0.1:PORT."},
	}
	return d
}

// Check implements state.Module.
func (m *Module) Check(c state.Component) error {
	_, err := decode(c)
	return err
}

// Activate implements state.Module. A program that runs by the same definition is left alone.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "start", func(v server, s spec) error {
		if err := v.fit(s); err != nil {
			return err
		}
		if err := m.config.Accounts.Ensure(ctx, t.Component.Ref().String(), s.Properties.Properties); err != nil {
			return err
		}
		err := m.bring(ctx, v, s)
		if err == nil {
			return nil
		}
		ctx := context.WithoutCancel(ctx)
		return errors.Join(err, m.takeAway(ctx, v, s), m.config.Accounts.Release(ctx, t.Component.Ref().String(), s.RemoveAccounts))
	})
}

// bring places the definition, starts the program and waits until it is ready.
func (m *Module) bring(ctx context.Context, v server, s spec) error {
	it, err := v.item(s)
	if err != nil {
		return err
	}
	changed, err := it.place(s.target.Directory)
	if err != nil {
		return err
	}
	if changed || v.status(ctx, s) != nil {
		if err := v.start(ctx, s); err != nil {
			return err
		}
	}
	return m.await(ctx, v, s)
}

// await returns when the program runs and is ready.
func (m *Module) await(ctx context.Context, v server, s spec) error {
	limit := time.Duration(s.ReadyTimeout)
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var last error
	for pause := probePause; ; pause = min(2*pause, maxPause) {
		err := s.probe(within, v)
		if err == nil {
			return nil
		}
		if within.Err() == nil || last == nil {
			last = err
		}
		timer := time.NewTimer(pause)
		select {
		case <-within.Done():
			timer.Stop()
			return cmp.Or(ctx.Err(), fmt.Errorf("it is not ready after %v: %w", limit, last))
		case <-timer.C:
		}
	}
}

// Some managers are asked by a program that takes longer to start than what it asks for.
const (
	probePause = 50 * time.Millisecond
	maxPause   = 400 * time.Millisecond
)

// Deactivate implements state.Module.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "stop", func(v server, s spec) error {
		if err := m.takeAway(ctx, v, s); err != nil {
			return err
		}
		return m.config.Accounts.Release(ctx, t.Component.Ref().String(), s.RemoveAccounts)
	})
}

// takeAway stops a program and removes what was placed for it; nothing happens if nothing was.
func (m *Module) takeAway(ctx context.Context, v server, s spec) error {
	placed, err := readPlaced(s.target.Directory)
	if err != nil || placed == nil {
		return err
	}
	if err := v.stop(ctx, s); err != nil {
		return err
	}
	if err := placed.remove(); err != nil {
		return err
	}
	if err := v.removed(ctx, s); err != nil {
		return err
	}
	return placed.forget(s.target.Directory)
}

// Health implements state.Doctor.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "reach", func(v server, s spec) error {
		if placed, err := readPlaced(t.Directory); err != nil || placed == nil {
			return errors.Join(err, state.ErrInactive)
		}
		return s.probe(ctx, v)
	})
}

// Exports implements state.Exporter.
func (m *Module) Exports(t state.Target) (map[string]string, error) {
	s, err := prepare(t, false)
	if err != nil {
		return nil, err
	}
	values := map[string]string{"name": s.Name}
	if s.Port != 0 {
		port := strconv.Itoa(s.Port)
		values["port"], values["address"], values["url"] = port, net.JoinHostPort("127.0.0.1", port), "http://"+net.JoinHostPort("127.0.0.1", port)
	}
	return values, nil
}

// with carries out do on a program, and says in an error what could not be done to it.
func (m *Module) with(ctx context.Context, t state.Target, what string, do func(server, spec) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s, err := prepare(t, what == "start")
	if err != nil {
		return fmt.Errorf("cannot %s %s: %w", what, t.Component.Ref(), err)
	}
	v, err := m.engine.open(t.Container)
	if err != nil {
		return fmt.Errorf("cannot %s %s: container %s: %w", what, t.Component.Ref(), t.Container.Name, err)
	}
	if err := os.MkdirAll(t.Directory, 0o755); err != nil {
		return err
	}
	if err := do(v, s); err != nil {
		return fmt.Errorf("cannot %s %s: %w", what, t.Component.Ref(), err)
	}
	return nil
}
