package external

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"orrery/internal/spool"
	"orrery/state"
)

// streaming is a program that speaks the streaming protocol.
type streaming struct{ p *program }

// stateful is one whose components have state.
type stateful struct{ streaming }

type (
	health struct{ program *program }
	lock   struct{ program *program }
)

var (
	_ state.Module   = streaming{}
	_ state.Stateful = stateful{}
	_ state.Portable = stateful{}
	_ state.Doctor   = health{}
	_ state.Locker   = lock{}
)

// Describe implements state.Module.
func (m streaming) Describe() state.Description { return m.p.said }

// Check implements state.Module.
func (m streaming) Check(c state.Component) error { return check(c.Properties, m.p.said.Properties) }

// Activate implements state.Module.
func (m streaming) Activate(ctx context.Context, t state.Target) error {
	if err := m.Check(t.Component); err != nil {
		return err
	}
	return m.p.operate(ctx, "activate", t, nil, nil)
}

// Deactivate implements state.Module.
func (m streaming) Deactivate(ctx context.Context, t state.Target) error {
	return m.p.operate(ctx, "deactivate", t, nil, nil)
}

// Snapshot implements state.Stateful.
func (m stateful) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	s := newSealing(w)
	if s.err != nil {
		return s.err
	}
	if err := m.p.operate(ctx, "snapshot", t, nil, s); err != nil {
		return err
	}
	return s.finish()
}

// Restore implements state.Stateful. The program begins when the snapshot was read whole and verified.
func (m stateful) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return spool.With(t.Directory, func(f *os.File) error {
		if _, err := io.Copy(f, newUnsealing(r)); err != nil {
			return errOperation("restore", t, err)
		}
		if err := spool.Rewind(f); err != nil {
			return err
		}
		return m.p.operate(ctx, "restore", t, f, nil)
	})
}

// CollectGarbage implements state.Stateful.
func (m stateful) CollectGarbage(ctx context.Context, t state.Target) error {
	return m.p.operate(ctx, "collect-garbage", t, nil, nil)
}

// Extension implements state.Portable.
func (stateful) Extension() string { return ".state" }

// Export implements state.Portable: what the program wrote.
func (stateful) Export(_ context.Context, snapshot io.Reader, w io.Writer) error {
	_, err := io.Copy(w, newUnsealing(snapshot))
	return err
}

// Import implements state.Portable.
func (stateful) Import(_ context.Context, plain io.Reader, w io.Writer) error {
	s := newSealing(w)
	if _, err := io.Copy(s, plain); err != nil {
		return err
	}
	return s.finish()
}

// Health implements state.Doctor.
func (h health) Health(ctx context.Context, t state.Target) error {
	return h.program.operate(ctx, "health", t, nil, nil)
}

// Lock implements state.Locker.
func (l lock) Lock(ctx context.Context, t state.Target) error {
	return l.program.operate(ctx, "lock", t, nil, nil)
}

// Unlock implements state.Locker.
func (l lock) Unlock(ctx context.Context, t state.Target) error {
	return l.program.operate(ctx, "unlock", t, nil, nil)
}

// given is what a program finds in the file that ORRERY_PROPERTIES names.
type given struct {
	Component           string            `json:"component"`
	Properties          state.Properties  `json:"properties"`
	Container           string            `json:"container"`
	ContainerProperties state.Properties  `json:"containerProperties"`
	Directory           string            `json:"directory"`
	Files               map[string]string `json:"files"`
}

// operate carries out one operation of the streaming protocol. What the program writes where nobody reads it is discarded.
func (p *program) operate(ctx context.Context, operation string, t state.Target, in io.Reader, out io.Writer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	properties := maps.Clone(t.Component.Properties)
	for _, d := range p.said.Properties {
		if _, ok := properties[d.Name]; !ok && d.Default != "" {
			if properties == nil {
				properties = state.Properties{}
			}
			properties[d.Name] = d.Default
		}
	}
	component, err := variables("PROPERTY_", properties)
	if err != nil {
		return errOperation(operation, t, err)
	}
	container, err := variables("CONTAINER_", t.Container.Properties)
	if err != nil {
		return errOperation(operation, t, err)
	}
	file, err := p.writeGiven(given{t.Component.Name, properties, t.Container.Name, t.Container.Properties, t.Directory, t.Files}, t.Directory)
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(file) }()
	env := append(slices.Concat(component, container), "ORRERY_PROTOCOL="+fmt.Sprint(protocol), "ORRERY_PROPERTIES="+file,
		"ORRERY_COMPONENT="+t.Component.Name, "ORRERY_CONTAINER="+t.Container.Name, "ORRERY_DIRECTORY="+t.Directory, "ORRERY_CONTAINER_DIRECTORY="+t.Container.Directory)
	if err := p.run(ctx, []string{operation}, env, in, out); err != nil {
		return errOperation(operation, t, err)
	}
	return nil
}

// writeGiven writes the properties, which may be secret, where only the program reads them.
func (p *program) writeGiven(g given, folder string) (string, error) {
	content, err := json.Marshal(g)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(folder, "properties-*.json")
	if err != nil {
		return "", err
	}
	_, err = f.Write(content)
	if err := errors.Join(err, f.Close(), p.own(folder)); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return filepath.Clean(f.Name()), nil
}
