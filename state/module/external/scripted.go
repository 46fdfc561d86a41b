package external

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"orrery/state"
	"orrery/state/dysnomia"
	"orrery/state/dysnomia/tree"
)

// scripted is a program that speaks Dysnomia's protocol: OPERATION COMPONENT CONTAINER, and a state directory.
type scripted struct{ p *program }

var (
	_ state.Stateful = (*scripted)(nil)
	_ state.Locker   = (*scripted)(nil)
	_ state.Portable = (*scripted)(nil)
)

// Describe implements state.Module.
func (m *scripted) Describe() state.Description {
	return state.Description{
		Name: m.p.name,
		Doc: "The program " + m.p.path + ", which speaks Dysnomia's module protocol. " +
			"The container's properties are its environment.",
		Stateful:   true,
		Properties: []state.Property{{Name: "path", Type: "string", Doc: "Absolute path of the component's folder; by default a folder of the component's files."}},
	}
}

// Check implements state.Module.
func (m *scripted) Check(c state.Component) error {
	if err := check(c.Properties, m.Describe().Properties); err != nil {
		return err
	}
	path, ok := c.Properties["path"].(string)
	switch {
	case !ok:
		return nil
	case !filepath.IsAbs(path):
		return fmt.Errorf("%w: path %q is not absolute", state.ErrBadProperty, path)
	case !dysnomia.Plain(path):
		return fmt.Errorf("%w: path %q has characters that a script may carry out", state.ErrBadProperty, path)
	}
	return dysnomia.CheckName(filepath.Base(path))
}

// directory is the state directory that the program has for one component.
func (m *scripted) directory(t state.Target) (*dysnomia.Directory, error) {
	folder := filepath.Join(t.Directory, "dysnomia")
	return dysnomia.OpenDirectory(folder, ""), errors.Join(os.MkdirAll(folder, 0o755), m.p.own(folder))
}

// source is the component's folder. A component without one has a folder of its files.
func (m *scripted) source(t state.Target) (string, error) {
	if path, ok := t.Component.Properties["path"].(string); ok {
		return path, nil
	}
	folder := filepath.Join(t.Directory, "component", t.Component.Name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	for name, file := range t.Files {
		at := filepath.Join(folder, name)
		if !filepath.IsLocal(name) {
			return "", fmt.Errorf("%w: file %q", state.ErrBadProperty, name)
		}
		if err := os.Remove(at); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if err := os.Symlink(file, at); err != nil {
			return "", err
		}
	}
	return folder, nil
}

func (m *scripted) operate(ctx context.Context, operation string, t state.Target) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := m.Check(t.Component); err != nil {
		return err
	}
	d, err := m.directory(t)
	if err != nil {
		return err
	}
	source, err := m.source(t)
	if err != nil {
		return err
	}
	env, err := variables("", t.Container.Properties)
	if err != nil {
		return errOperation(operation, t, err)
	}
	env = append(env, "DYSNOMIA_STATEDIR="+d.Path())
	if err := m.p.run(ctx, []string{operation, source, t.Container.Name}, env, nil, nil); err != nil {
		return errOperation(operation, t, err)
	}
	return nil
}

// Activate implements state.Module.
func (m *scripted) Activate(ctx context.Context, t state.Target) error {
	if err := m.operate(ctx, "activate", t); err != nil {
		return err
	}
	return os.WriteFile(m.marker(t), nil, 0o600)
}

// marker is there while the component is active. Not all programs can be deactivated twice.
func (m *scripted) marker(t state.Target) string { return filepath.Join(t.Directory, "active") }

// Deactivate implements state.Module. What is not active is left alone.
func (m *scripted) Deactivate(ctx context.Context, t state.Target) error {
	if _, err := os.Lstat(m.marker(t)); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err := m.operate(ctx, "deactivate", t); err != nil {
		return err
	}
	return os.Remove(m.marker(t))
}

// CollectGarbage implements state.Stateful.
func (m *scripted) CollectGarbage(ctx context.Context, t state.Target) error {
	return m.operate(ctx, "collect-garbage", t)
}

// Lock implements state.Locker. A program that refuses vetoes it.
func (m *scripted) Lock(ctx context.Context, t state.Target) error {
	err := m.operate(ctx, "lock", t)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("%w: %w", state.ErrVeto, err)
	}
	return err
}

// Unlock implements state.Locker.
func (m *scripted) Unlock(ctx context.Context, t state.Target) error {
	return m.operate(ctx, "unlock", t)
}

// clear forgets the snapshots of a state directory, but not what is active.
func (m *scripted) clear(t state.Target) error {
	var failed []error
	for _, folder := range []string{"snapshots", "generations", "checksums", ".orrery"} {
		failed = append(failed, os.RemoveAll(filepath.Join(t.Directory, "dysnomia", folder)))
	}
	return errors.Join(failed...)
}

// Snapshot implements state.Stateful: the folder that the program makes, as a stream.
func (m *scripted) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	if err := errors.Join(ctx.Err(), m.clear(t)); err != nil {
		return err
	}
	if err := m.operate(ctx, "snapshot", t); err != nil {
		return err
	}
	latest, folder, err := m.latest(t)
	if err != nil {
		return errOperation("snapshot", t, err)
	}
	s := newSealing(w)
	if err := tree.PackContent(filepath.Dir(folder), []string{latest}, s); err != nil {
		return err
	}
	return errors.Join(s.finish(), m.clear(t))
}

// latest finds the snapshot that a program has made.
func (m *scripted) latest(t state.Target) (id, folder string, err error) {
	d, err := m.directory(t)
	if err != nil {
		return "", "", err
	}
	found, err := d.Components("", "")
	if err == nil && len(found) != 1 {
		err = fmt.Errorf("module %s made no snapshot: %w", m.p.name, state.ErrNotAble)
	}
	if err != nil {
		return "", "", err
	}
	g, err := d.Latest(found[0])
	return g.Snapshot, d.SnapshotPath(found[0], g.Snapshot), err
}

// Restore implements state.Stateful. The snapshot is read whole and verified first, and laid down as the latest; if
// the program fails then, it is given the state before.
func (m *scripted) Restore(ctx context.Context, t state.Target, r io.Reader) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fresh, err := m.unpack(t, newUnsealing(r))
	if err != nil {
		return errOperation("restore", t, err)
	}
	defer func() { _ = os.RemoveAll(fresh) }()
	before, err := m.keep(ctx, t)
	if err != nil {
		return err
	}
	if before != "" {
		defer func() { _ = os.RemoveAll(before) }()
	}
	err = m.load(ctx, t, fresh)
	if err != nil && before != "" {
		if back := m.load(context.WithoutCancel(ctx), t, before); back != nil {
			return errors.Join(err, fmt.Errorf("and the state before could not be brought back: %w", back))
		}
	}
	return errors.Join(err, m.clear(t))
}

// unpack reads a snapshot into a new folder beside the program's.
func (m *scripted) unpack(t state.Target, r io.Reader) (string, error) {
	side, err := os.MkdirTemp(t.Directory, "restore-")
	if err == nil {
		err = tree.Unpack(r, side)
	}
	if err == nil {
		var n []os.DirEntry
		if n, err = os.ReadDir(side); err == nil && (len(n) != 1 || dysnomia.CheckName(n[0].Name()) != nil) {
			err = fmt.Errorf("%w: it is not one snapshot", state.ErrCorrupt)
		}
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(side))
	}
	return side, nil
}

// keep takes a snapshot of what is there; empty if there is nothing that the program can take one of.
func (m *scripted) keep(ctx context.Context, t state.Target) (string, error) {
	if err := m.clear(t); err != nil {
		return "", err
	}
	if err := m.operate(ctx, "snapshot", t); err != nil {
		return "", ctx.Err()
	}
	id, folder, err := m.latest(t)
	if err != nil {
		return "", nil //nolint:nilerr // there is nothing to keep
	}
	side, err := os.MkdirTemp(t.Directory, "before-")
	if err != nil {
		return "", err
	}
	return side, os.Rename(folder, filepath.Join(side, id))
}

// load lays a snapshot down as the latest, and has the program restore it.
func (m *scripted) load(ctx context.Context, t state.Target, side string) error {
	if err := m.clear(t); err != nil {
		return err
	}
	d, err := m.directory(t)
	if err != nil {
		return err
	}
	source, err := m.source(t)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(side)
	if err != nil || len(entries) != 1 {
		return errors.Join(err, fmt.Errorf("%s is not one snapshot", side))
	}
	id := entries[0].Name()
	ref := dysnomia.Ref{Container: t.Container.Name, Component: filepath.Base(source)}
	target := d.SnapshotPath(ref, id)
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(side, id), target); err != nil {
		return err
	}
	if err := errors.Join(d.Record(ref, id), m.p.own(d.Path())); err != nil {
		return err
	}
	return m.operate(ctx, "restore", t)
}

// Extension implements state.Portable.
func (*scripted) Extension() string { return ".tar" }

// Export implements state.Portable: the snapshot's folder as a tar file.
func (*scripted) Export(ctx context.Context, snapshot io.Reader, w io.Writer) error {
	return stateful{}.Export(ctx, snapshot, w)
}

// Import implements state.Portable.
func (*scripted) Import(ctx context.Context, plain io.Reader, w io.Writer) error {
	return stateful{}.Import(ctx, plain, w)
}

// FromFolder writes the snapshot that a module which speaks Dysnomia's protocol would have of a snapshot's folder.
func FromFolder(folder string, w io.Writer) error {
	s := newSealing(w)
	if s.err != nil {
		return s.err
	}
	if err := tree.PackContent(filepath.Dir(folder), []string{filepath.Base(folder)}, s); err != nil {
		return err
	}
	return s.finish()
}
