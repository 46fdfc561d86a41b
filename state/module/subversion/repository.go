package subversion

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"orrery/internal/command"
	"orrery/internal/folder"
	"orrery/state"
	"orrery/state/module/place"
)

// configuration is what of it configures the repository.
var configuration = place.Files{
	Roots: []string{"conf", "hooks"},
	Skip:  func(name string) bool { return strings.HasSuffix(name, ".tmpl") },
}

// properties configure a component.
type properties struct {
	Path          string `json:"path"`
	Dump          string `json:"dump"`
	Owner         string `json:"owner"`
	Group         string `json:"group"`
	Configuration bool   `json:"configuration"`
}

// container configures a container.
type container struct {
	Base string `json:"base"`
	URL  string `json:"url"`
}

func decodeComponent(c state.Component) (properties, error) {
	p := properties{Configuration: true}
	if err := c.Properties.Decode(&p); err != nil {
		return p, fmt.Errorf("%s: %w", c.Ref(), err)
	}
	for name, value := range map[string]string{"path": p.Path, "dump": p.Dump} {
		if value != "" && !filepath.IsAbs(value) && !strings.HasPrefix(value, "${") {
			return p, fmt.Errorf("%s: %w: %s %q is not an absolute path", c.Ref(), state.ErrBadProperty, name, value)
		}
	}
	if p.Path != "" && filepath.Dir(filepath.Clean(p.Path)) == filepath.Clean(p.Path) {
		return p, fmt.Errorf("%s: %w: path cannot be %s", c.Ref(), state.ErrBadProperty, p.Path)
	}
	for name, value := range map[string]string{"path": p.Path, "dump": p.Dump, "owner": p.Owner, "group": p.Group} {
		if strings.ContainsRune(value, 0) {
			return p, fmt.Errorf("%s: %w: %s has a zero byte", c.Ref(), state.ErrBadProperty, name)
		}
	}
	return p, nil
}

// moved are the properties of a component of another name: a path that was given leads to a neighbour in the same folder.
func moved(p state.Properties, name string) state.Properties {
	path, ok := p["path"].(string)
	if !ok || path == "" {
		return p
	}
	p = maps.Clone(p)
	p["path"] = filepath.Join(filepath.Dir(filepath.Clean(path)), name)
	return p
}

// repository is one component's repository during one operation.
type repository struct {
	place.Place
	url   string
	props properties
}

func open(t state.Target) (*repository, error) {
	var c container
	if err := t.Container.Properties.Decode(&c); err != nil {
		return nil, fmt.Errorf("container %s: %w", t.Container.Name, err)
	}
	if c.Base == "" {
		c.Base = t.Container.Directory
	}
	if !filepath.IsAbs(c.Base) || strings.ContainsRune(c.Base, 0) {
		return nil, fmt.Errorf("container %s: %w: base %q is not an absolute path", t.Container.Name, state.ErrBadProperty, c.Base)
	}
	p, err := decodeComponent(t.Component)
	if err != nil {
		return nil, err
	}
	r := &repository{Place: place.Place{Path: filepath.Join(c.Base, t.Component.Name), Owner: p.Owner, Group: p.Group}, props: p}
	if p.Path != "" && t.Component.Session == "" {
		r.Path = filepath.Clean(p.Path)
	}
	r.url = "file://" + r.Path
	if relative, err := filepath.Rel(c.Base, r.Path); c.URL != "" && err == nil && filepath.IsLocal(relative) {
		r.url = strings.TrimSuffix(c.URL, "/") + "/" + filepath.ToSlash(relative)
	}
	return r, nil
}

// program is a run of one of Subversion's programs in a repository, which is its argument ".": a path in an argument
// might hold what Subversion takes for something else. It runs as the repository's owner, whose hooks and files these are.
func (r *repository) program(name, at string, args ...string) (command.Program, error) {
	path, err := exec.LookPath(name)
	if err != nil {
		return command.Program{}, fmt.Errorf("%s is not installed: %w (apt-get install subversion)", name, state.ErrNotFound)
	}
	p := command.Program{Path: path, Args: args, Env: []string{"LC_ALL=C.UTF-8"}, Dir: at}
	owner, err := folder.OwnerOf(at)
	if errors.Is(err, os.ErrNotExist) {
		return p, fmt.Errorf("there is no repository %s: %w", at, state.ErrNotFound)
	}
	p.Credential = owner.Credential()
	return p, err
}

// run carries out one.
func (r *repository) run(ctx context.Context, name, at string, args ...string) error {
	p, err := r.program(name, at, args...)
	if err != nil {
		return err
	}
	return p.Run(ctx)
}

// ask returns the line that one writes.
func (r *repository) ask(ctx context.Context, name, at string, args ...string) (string, error) {
	p, err := r.program(name, at, args...)
	if err != nil {
		return "", err
	}
	out, err := p.Output(ctx, 1<<10)
	return string(bytes.TrimSpace(out)), err
}

// youngest is the number of the newest revision.
func (r *repository) youngest(ctx context.Context, at string) (int64, error) {
	out, err := r.ask(ctx, "svnlook", at, "youngest", ".")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(out, 10, 64)
}

// found makes an empty repository that belongs to owner.
func (r *repository) found(ctx context.Context, side string, owner folder.Owner) error {
	if err := os.Mkdir(side, 0o750); err != nil {
		return err
	}
	if err := os.Chmod(side, 0o755); err != nil { // #nosec G302 -- as svnadmin makes it
		return err
	}
	if owner.Credential() != nil {
		if err := os.Lchown(side, owner.UID, owner.GID); err != nil {
			return err
		}
	}
	return r.run(ctx, "svnadmin", side, "create", ".")
}

// create makes a repository with the history that the properties name.
func (r *repository) create(ctx context.Context, side string) (err error) {
	owner, err := r.Belongs("")
	if err != nil {
		return err
	}
	if err := r.found(ctx, side, owner); err != nil {
		return err
	}
	if r.props.Dump == "" {
		return owner.Give(side)
	}
	f, err := os.Open(r.props.Dump)
	if err != nil {
		return fmt.Errorf("cannot read its history: %w", err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := r.loadDump(ctx, side, f, false); err != nil {
		return fmt.Errorf("cannot load %s: %w", r.props.Dump, err)
	}
	return owner.Give(side)
}
