// Package subversion is the module subversion-repository: a component is one Subversion repository in a folder, which
// svnserve, a web server or file:// URLs serve.
//
// A snapshot is the whole history: every revision with its properties (dates and authors are state), the UUID, and
// what stands in conf/ and hooks/ (see snapshot.go). Revisions are only ever appended, so the next snapshot is the one
// before and what was committed since. Left out are locks of paths, transactions that were not committed, the
// templates that svnadmin writes, and db/fsfs.conf, which tunes the place.
//
// A restore builds a repository beside the one that is there and exchanges the two folders: clients see the same UUID.
// A commit that is under way then fails. An inactive repository is beside its place, as NAME.orrery-inactive, so that
// nobody commits to it; only its folder moves.
package subversion

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"

	"orrery/internal/folder"
	"orrery/state"
)

// Name is the module's name.
const Name = "subversion-repository"

// Module drives Subversion repositories. It is safe for concurrent use.
type Module struct {
	log *slog.Logger

	mu    sync.Mutex
	locks map[string]*hold // by path of the repository
}

var (
	_ state.Stateful  = (*Module)(nil)
	_ state.Exporter  = (*Module)(nil)
	_ state.Forker    = (*Module)(nil)
	_ state.Neighbor  = (*Module)(nil)
	_ state.Doctor    = (*Module)(nil)
	_ state.Sizer     = (*Module)(nil)
	_ state.Integrity = (*Module)(nil)
	_ state.Locker    = (*Module)(nil)
	_ state.Sheller   = (*Module)(nil)
	_ state.Versioner = (*Module)(nil)
	_ state.Itemizer  = (*Module)(nil)
	_ state.Portable  = (*Module)(nil)
)

// New returns the module; a nil logger discards.
func New(log *slog.Logger) *Module {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Module{log: log, locks: map[string]*hold{}}
}

// Describe implements state.Module.
func (*Module) Describe() state.Description {
	return state.Description{
		Name: Name,
		Doc: "A Subversion repository. Its snapshot is the whole history with UUID and revision properties, and what is in conf/ and hooks/; " +
			"locks of paths and unfinished transactions are not in it. An inactive repository is moved beside its place, so that nobody can commit.",
		Properties: []state.Property{
			{Name: "path", Type: "string", Doc: "Absolute path of the repository; default: one of the component's name in the container's base, as a session's copy always has."},
			{Name: "dump", Type: "string", Doc: "File that svnadmin dump made, with the history that a new repository begins with: an absolute path or ${file.NAME}. Loaded wholly or not at all."},
			{Name: "owner", Type: "string", Doc: "Account that owns the repository; by default the node's. Another one needs root."},
			{Name: "group", Type: "string", Doc: "Group whose members may commit through file:// or a server of their own."},
			{Name: "configuration", Type: "bool", Default: "true", Doc: "Whether snapshots hold conf/ and hooks/. Where they do not, a restore keeps what is in the place."},
		},
		Container: []state.Property{
			{Name: "base", Type: "string", Doc: "Absolute path of the folder of the repositories, which a server serves; default: the container's own folder."},
			{Name: "url", Type: "string", Doc: "URL under which base is served, such as svn://code.example.org; default: file:// and its path."},
		},
		Exports: []state.Property{
			{Name: "path", Type: "string", Doc: "Absolute path of the repository."},
			{Name: "url", Type: "string", Doc: "URL of the repository."},
		},
		Stateful: true,
	}
}

// Check implements state.Module.
func (*Module) Check(c state.Component) error {
	_, err := decodeComponent(c)
	return err
}

// Exports implements state.Exporter.
func (*Module) Exports(t state.Target) (map[string]string, error) {
	r, err := open(t)
	if err != nil {
		return nil, err
	}
	return map[string]string{"path": r.Path, "url": r.url}, nil
}

// Beside implements state.Neighbor.
func (*Module) Beside(c state.Component, name string) state.Component {
	c.Properties = moved(c.Properties, name)
	c.Name = name
	return c
}

// Activate implements state.Module. A repository that is there is taken over as it is.
func (m *Module) Activate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "activate", func(r *repository) error {
		active, inactive, err := r.Where()
		switch {
		case err != nil:
			return err
		case active:
			_, err = r.youngest(ctx, r.Path)
			return err
		case inactive:
			if _, err := r.youngest(ctx, r.Aside()); err != nil {
				return err
			}
			return folder.Move(r.Aside(), r.Path)
		}
		return folder.Replace(r.Path, func(side string) error { return r.create(ctx, side) })
	})
}

// Deactivate implements state.Module: the repository is moved beside its place.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "deactivate", func(r *repository) error {
		active, _, err := r.Where()
		if err != nil || !active {
			return err
		}
		m.release(r.Path)
		return folder.Move(r.Path, r.Aside())
	})
}

// Snapshot implements state.Stateful.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	return m.with(ctx, t, "snapshot", func(r *repository) error {
		at, err := r.Current()
		if err != nil {
			return err
		}
		return r.dump(ctx, at, w)
	})
}

// Restore implements state.Stateful.
func (m *Module) Restore(ctx context.Context, t state.Target, snapshot io.Reader) error {
	return m.with(ctx, t, "restore", func(r *repository) error {
		to, before, err := r.Target()
		if err != nil {
			return err
		}
		owner, err := r.Belongs(before)
		if err != nil {
			return err
		}
		return folder.Replace(to, func(side string) error { return r.load(ctx, side, before, owner, snapshot) })
	})
}

// CollectGarbage implements state.Stateful.
func (m *Module) CollectGarbage(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "remove", func(r *repository) error {
		if err := folder.Remove(r.Aside()); err != nil {
			return err
		}
		return folder.Remove(r.Path)
	})
}

// with carries out do on the target's repository, after finishing what a crash interrupted, and says in an error what
// could not be done to it.
func (m *Module) with(ctx context.Context, t state.Target, what string, do func(*repository) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := open(t)
	if err == nil {
		err = r.Settle()
	}
	if err == nil {
		err = do(r)
	}
	if err != nil {
		return fmt.Errorf("cannot %s repository %s: %w", what, t.Component.Ref(), err)
	}
	return nil
}
