// Package wrapper is the module wrapper: a component brings its own program, which carries out the operations.
//
// The program is run as PROGRAM OPERATION CONTAINER, as Dysnomia's wrapper is, with OPERATION one of activate, deactivate, snapshot,
// restore, collect-garbage, lock and unlock. It ends with status 0 if that was done. snapshot writes the state to
// its standard output, restore reads it from its standard input after it was verified; the same state should give the same bytes. Its environment
// is clean but for the container's properties, the component's environment, and ORRERY_COMPONENT, ORRERY_CONTAINER and
// ORRERY_DIRECTORY (a folder of the component's own, which is also its working directory).
package wrapper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"orrery/internal/command"
	"orrery/internal/spool"
	"orrery/state"
	"orrery/state/module/process"
)

// Module runs the programs. It is safe for concurrent use.
type Module struct{}

var (
	_ state.Stateful = Module{}
	_ state.Locker   = Module{}
	_ state.Portable = Module{}
)

// New returns the module.
func New() Module { return Module{} }

type properties struct {
	Wrapper     string            `json:"wrapper"`
	Environment map[string]string `json:"environment"`
	Timeout     process.Duration  `json:"timeout"`
}

// Describe implements state.Module.
func (Module) Describe() state.Description {
	return state.Description{
		Name: "wrapper",
		Doc: "A component with a program of its own that carries out the operations: it is run as PROGRAM OPERATION CONTAINER with activate, deactivate, snapshot (writes the state to its standard output), " +
			"restore (reads it from its standard input), collect-garbage, lock and unlock, and ends with status 0 when that is done. An operation that it does not know it should ignore.",
		Properties: []state.Property{
			{Name: "wrapper", Type: "string", Required: true, Doc: "Absolute path of the program, usually ${file.NAME}."},
			{Name: "environment", Type: "map[string]string", Doc: "Variables of the program beside those of the container's properties, PATH, ORRERY_COMPONENT, ORRERY_CONTAINER and ORRERY_DIRECTORY."},
			{Name: "timeout", Type: "duration", Default: "5m", Doc: "How long an operation may take; a snapshot or restore may take ten times as long."},
		},
		Container: []state.Property{{Name: "*", Type: "string", Doc: "Every property becomes a variable of the program; what is not a string, as JSON."}},
		Stateful:  true,
	}
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func decode(c state.Component) (properties, error) {
	p := properties{Timeout: process.Duration(5 * time.Minute)}
	if err := c.Properties.Decode(&p); err != nil {
		return p, err
	}
	if !filepath.IsAbs(p.Wrapper) && !strings.HasPrefix(p.Wrapper, "${") {
		return p, fmt.Errorf("%w: wrapper %q is not an absolute path", state.ErrBadProperty, p.Wrapper)
	}
	for name, value := range p.Environment {
		if !variable.MatchString(name) || strings.ContainsRune(value, 0) {
			return p, fmt.Errorf("%w: environment has a malformed variable %q", state.ErrBadProperty, name)
		}
	}
	return p, nil
}

// Check implements state.Module.
func (Module) Check(c state.Component) error {
	_, err := decode(c)
	return err
}

// environment is the program's, sorted.
func environment(p properties, t state.Target) ([]string, error) {
	all := map[string]string{}
	for name, value := range t.Container.Properties {
		if !variable.MatchString(name) {
			return nil, fmt.Errorf("container %s: %w: %q cannot name a variable", t.Container.Name, state.ErrBadProperty, name)
		}
		text, ok := value.(string)
		if !ok {
			encoded, err := json.Marshal(value)
			if err != nil {
				return nil, err
			}
			text = string(encoded)
		}
		if strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("container %s: %w: %s has a zero byte", t.Container.Name, state.ErrBadProperty, name)
		}
		all[name] = text
	}
	maps.Copy(all, p.Environment)
	all["ORRERY_COMPONENT"], all["ORRERY_CONTAINER"], all["ORRERY_DIRECTORY"] = t.Component.Name, t.Component.Container, t.Directory
	var env []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		env = append(env, name+"="+all[name])
	}
	return env, nil
}

// patience is how much longer than other operations those may take that go through all of the state.
const patience = 10

// run has the program carry out an operation.
func (Module) run(ctx context.Context, t state.Target, operation string, in io.Reader, out io.Writer) error {
	fail := func(err error) error {
		return fmt.Errorf("cannot %s %s: %w", operation, t.Component.Ref(), err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	p, err := decode(t.Component)
	if err != nil {
		return fail(err)
	}
	env, err := environment(p, t)
	if err != nil {
		return fail(err)
	}
	limit := time.Duration(p.Timeout)
	if in != nil || out != nil {
		limit *= patience
	}
	within, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err = command.Program{Path: p.Wrapper, Args: []string{operation, t.Component.Container}, Env: env, Dir: t.Directory, In: in, Out: out}.Run(within)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		return fail(fmt.Errorf("its wrapper took longer than %v and was ended (set timeout)", limit))
	}
	return fail(err)
}

// Activate implements state.Module.
func (m Module) Activate(ctx context.Context, t state.Target) error {
	return m.run(ctx, t, "activate", nil, nil)
}

// Deactivate implements state.Module.
func (m Module) Deactivate(ctx context.Context, t state.Target) error {
	return m.run(ctx, t, "deactivate", nil, nil)
}

// Snapshot implements state.Stateful.
func (m Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	f := newFramer(w)
	if err := m.run(ctx, t, "snapshot", nil, f); err != nil {
		return err
	}
	return f.Close()
}

// Restore implements state.Stateful. The program sees the first byte when all of them were read and verified.
func (m Module) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return spool.With(t.Directory, func(f *os.File) error {
		if err := unframe(r, f); err != nil {
			return fmt.Errorf("cannot restore %s: %w", t.Component.Ref(), err)
		}
		if err := spool.Rewind(f); err != nil {
			return err
		}
		return m.run(ctx, t, "restore", f, nil)
	})
}

// CollectGarbage implements state.Stateful.
func (m Module) CollectGarbage(ctx context.Context, t state.Target) error {
	return m.run(ctx, t, "collect-garbage", nil, nil)
}

// Lock implements state.Locker: any other status than 0 is a refusal.
func (m Module) Lock(ctx context.Context, t state.Target) error {
	err := m.run(ctx, t, "lock", nil, nil)
	if _, ok := errors.AsType[*command.Failure](err); ok {
		return fmt.Errorf("%w: %w", state.ErrVeto, err)
	}
	return err
}

// Unlock implements state.Locker.
func (m Module) Unlock(ctx context.Context, t state.Target) error {
	return m.run(ctx, t, "unlock", nil, nil)
}

// Extension implements state.Portable; what the bytes are only the program knows.
func (Module) Extension() string { return ".state" }

// Export implements state.Portable: what the program wrote.
func (Module) Export(ctx context.Context, snapshot io.Reader, w io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return unframe(snapshot, w)
}

// Import implements state.Portable.
func (Module) Import(ctx context.Context, plain io.Reader, w io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f := newFramer(w)
	if _, err := io.Copy(f, plain); err != nil {
		return err
	}
	return f.Close()
}
