// Package git is the module git-repository: a component is one bare Git repository in a folder, which people fetch
// from and push to.
//
// A snapshot is every ref, HEAD, and every object that the refs reach, with the files that configure the repository
// (see snapshot.go). It does not depend on how Git packed the objects: the same refs and objects are the same bytes.
// Objects come in the order of the commits that brought them, oldest first, so that the next snapshot is the one
// before and what was pushed since. Left out is what no ref reaches, and reflogs.
//
// A restore builds a repository beside the one that is there, has Git check that every ref reaches whole history, and
// exchanges the two folders. Objects get the ids that they had, or the restore fails. An inactive repository is beside
// its place, as NAME.orrery-inactive. Who still pushes when a repository is taken away is waited for, or named.
//
// Git's own programs run as the repository's owner, without its hooks and without anybody's configuration but its own.
// The order of objects is kept in memory: some 100 bytes for each.
package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"strings"

	"orrery/internal/folder"
	"orrery/state"
	"orrery/state/module/place"
)

// Name is the module's name.
const Name = "git-repository"

// Module drives Git repositories. It is safe for concurrent use.
type Module struct{}

var (
	_ state.Stateful  = (*Module)(nil)
	_ state.Exporter  = (*Module)(nil)
	_ state.Forker    = (*Module)(nil)
	_ state.Neighbor  = (*Module)(nil)
	_ state.Doctor    = (*Module)(nil)
	_ state.Sizer     = (*Module)(nil)
	_ state.Integrity = (*Module)(nil)
	_ state.Sheller   = (*Module)(nil)
	_ state.Versioner = (*Module)(nil)
	_ state.Itemizer  = (*Module)(nil)
	_ state.Portable  = (*Module)(nil)
)

// New returns the module.
func New() *Module { return &Module{} }

// properties configure a component.
type properties struct {
	Path          string `json:"path"`
	Branch        string `json:"branch"`
	Bundle        string `json:"bundle"`
	Owner         string `json:"owner"`
	Group         string `json:"group"`
	Configuration bool   `json:"configuration"`
}

// Describe implements state.Module.
func (*Module) Describe() state.Description {
	return state.Description{
		Name: Name,
		Doc: "A bare Git repository. Its snapshot is all refs, HEAD, the objects that they reach with the ids that they have, and the files that configure it " +
			"(config, description, hooks, info); reflogs and unreachable objects are not in it. An inactive repository is moved beside its place, so that nobody can push.",
		Properties: []state.Property{
			{Name: "path", Type: "string", Doc: "Absolute path of the repository; default: NAME.git in the container's base, as a session's copy always has."},
			{Name: "branch", Type: "string", Default: "main", Doc: "What HEAD of a new repository names."},
			{Name: "bundle", Type: "string", Doc: "File that git bundle made, with the refs that a new repository begins with: an absolute path or ${file.NAME}."},
			{Name: "owner", Type: "string", Doc: "Account that owns the repository; by default the node's. Another one needs root."},
			{Name: "group", Type: "string", Doc: "Group whose members may push through the file system."},
			{Name: "configuration", Type: "bool", Default: "true", Doc: "Whether snapshots hold the files that configure the repository. Where they do not, a restore keeps those of the place."},
		},
		Container: []state.Property{
			{Name: "base", Type: "string", Doc: "Absolute path of the folder of the repositories, which a server serves; default: the container's own folder."},
			{Name: "url", Type: "string", Doc: "URL under which base is served, such as https://code.example.org; default: file:// and its path."},
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
	_, err := decode(c)
	return err
}

func decode(c state.Component) (properties, error) {
	p := properties{Configuration: true, Branch: "main"}
	if err := c.Properties.Decode(&p); err != nil {
		return p, fmt.Errorf("%s: %w", c.Ref(), err)
	}
	for name, value := range map[string]string{"path": p.Path, "bundle": p.Bundle} {
		if value != "" && !filepath.IsAbs(value) && !strings.HasPrefix(value, "${") {
			return p, fmt.Errorf("%s: %w: %s %q is not an absolute path", c.Ref(), state.ErrBadProperty, name, value)
		}
	}
	if p.Path != "" && filepath.Dir(filepath.Clean(p.Path)) == filepath.Clean(p.Path) {
		return p, fmt.Errorf("%s: %w: path cannot be %s", c.Ref(), state.ErrBadProperty, p.Path)
	}
	if !validRef("refs/heads/"+p.Branch) || strings.HasPrefix(p.Branch, "-") {
		return p, fmt.Errorf("%s: %w: %q is no name of a branch", c.Ref(), state.ErrBadProperty, p.Branch)
	}
	for name, value := range map[string]string{"path": p.Path, "bundle": p.Bundle, "owner": p.Owner, "group": p.Group} {
		if strings.ContainsRune(value, 0) {
			return p, fmt.Errorf("%s: %w: %s has a zero byte", c.Ref(), state.ErrBadProperty, name)
		}
	}
	return p, nil
}

// open finds a component's repository.
func open(t state.Target) (*repository, error) {
	var c struct {
		Base string `json:"base"`
		URL  string `json:"url"`
	}
	if err := t.Container.Properties.Decode(&c); err != nil {
		return nil, fmt.Errorf("container %s: %w", t.Container.Name, err)
	}
	if c.Base == "" {
		c.Base = t.Container.Directory
	}
	if !filepath.IsAbs(c.Base) || strings.ContainsRune(c.Base, 0) {
		return nil, fmt.Errorf("container %s: %w: base %q is not an absolute path", t.Container.Name, state.ErrBadProperty, c.Base)
	}
	p, err := decode(t.Component)
	if err != nil {
		return nil, err
	}
	r := &repository{Place: place.Place{Path: filepath.Join(c.Base, t.Component.Name+".git"), Owner: p.Owner, Group: p.Group}, props: p}
	if p.Path != "" && t.Component.Session == "" {
		r.Path = filepath.Clean(p.Path)
	}
	r.url = "file://" + r.Path
	if relative, err := filepath.Rel(c.Base, r.Path); c.URL != "" && err == nil && filepath.IsLocal(relative) {
		r.url = strings.TrimSuffix(c.URL, "/") + "/" + filepath.ToSlash(relative)
	}
	return r, nil
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
	c.Name = name
	if path, ok := c.Properties["path"].(string); ok && path != "" {
		c.Properties = maps.Clone(c.Properties)
		c.Properties["path"] = filepath.Join(filepath.Dir(filepath.Clean(path)), name+".git")
	}
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
			return r.bare(ctx, r.Path)
		case inactive:
			if err := r.bare(ctx, r.Aside()); err != nil {
				return err
			}
			return folder.Move(r.Aside(), r.Path)
		}
		return folder.Replace(r.Path, func(side string) error { return r.create(ctx, side) })
	})
}

// Deactivate implements state.Module: the repository is moved beside its place, and back if somebody goes on working in it.
func (m *Module) Deactivate(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "deactivate", func(r *repository) error {
		active, _, err := r.Where()
		if err != nil || !active {
			return err
		}
		if err := folder.Move(r.Path, r.Aside()); err != nil {
			return err
		}
		if err := place.Left(ctx, r.Aside()); err != nil {
			return errors.Join(err, folder.Move(r.Aside(), r.Path))
		}
		return nil
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

// Restore implements state.Stateful. It waits for pushes that are under way.
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
		return folder.Replace(to, func(side string) error {
			if err := r.load(ctx, side, before, owner, snapshot); err != nil {
				return err
			}
			return place.Left(ctx, to)
		})
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
