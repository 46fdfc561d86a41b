package dysnomia

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"orrery/state/dysnomia/tree"
)

// fileset is a component of the module fileset: links to files that do not change, and folders that have state.
type fileset struct {
	target  string // where it is
	owner   string // USER:GROUP of the folders; empty: the caller
	folders []string
	links   map[string]string // where the link is, or the folder that it is to be in, by what it leads to
}

const filesetDump = "state.tar.xz"

// Fileset is the module of components that are folders and links below a folder.
func Fileset(ctx context.Context, c Call) error {
	if !c.is("activate", "deactivate", "snapshot", "restore", "collect-garbage") {
		return nil
	}
	f, err := c.fileset(c.Property("targetDir", ""))
	if err != nil {
		return err
	}
	return c.operateFileset(ctx, f)
}

func (c Call) operateFileset(ctx context.Context, f fileset) error {
	switch c.Operation {
	case "activate":
		if err := f.create(); err != nil {
			return errors.Join(err, f.unlink())
		}
		return c.Directory.MarkActive(c.Ref)
	case "deactivate":
		return errors.Join(f.unlink(), c.Directory.MarkGarbage(c.Ref))
	case "snapshot":
		return c.saveDump(ctx, filesetDump, func(w io.Writer) error { return tree.Pack(f.target, f.folders, w) })
	case "restore":
		return c.restoreFileset(ctx, f)
	case "collect-garbage":
		if !c.Directory.IsGarbage(c.Ref) {
			return nil
		}
		if err := c.saveDump(ctx, filesetDump, func(w io.Writer) error { return tree.Pack(f.target, f.present(), w) }); err != nil {
			return fmt.Errorf("no last snapshot of %s could be taken, so nothing is removed: %w", c.Ref, err)
		}
		return errors.Join(f.remove(), c.Directory.Unmark(c.Ref))
	}
	return nil
}

// fileset reads what a component says of itself.
func (c Call) fileset(target string) (fileset, error) {
	f := fileset{target: target, owner: c.Property("filesetOwner", ""), links: map[string]string{}}
	for _, p := range []struct {
		value *string
		file  string
	}{{&f.target, ".dysnomia-targetdir"}, {&f.owner, ".dysnomia-filesetowner"}} {
		content, err := os.ReadFile(filepath.Join(c.Path, p.file))
		if *p.value == "" && err == nil {
			*p.value = strings.TrimSpace(string(content))
		}
	}
	if !filepath.IsAbs(f.target) {
		return f, fmt.Errorf("%w: targetDir %q is not an absolute path", ErrSettings, f.target)
	}
	list, err := os.Open(filepath.Join(c.Path, ".dysnomia-fileset"))
	if err != nil {
		return f, err
	}
	defer func() { _ = list.Close() }()
	return f, f.parse(list)
}

func (f *fileset) parse(list io.Reader) error {
	lines := bufio.NewScanner(list)
	link := ""
	for lines.Scan() {
		action, path, _ := strings.Cut(strings.TrimSpace(lines.Text()), " ")
		switch action {
		case "":
			continue
		case "symlink":
			link = path
			continue
		case "target", "mkdir":
		default:
			return fmt.Errorf("%w: .dysnomia-fileset: %q is none of symlink, target and mkdir", ErrSettings, action)
		}
		path = filepath.Clean(path)
		if !filepath.IsLocal(path) {
			return fmt.Errorf("%w: .dysnomia-fileset: %q leads out of %s", ErrSettings, path, f.target)
		}
		switch {
		case action == "mkdir" && path == ".":
			return fmt.Errorf("%w: .dysnomia-fileset: the target folder itself cannot have state", ErrSettings)
		case action == "mkdir":
			f.folders = append(f.folders, path)
		case link == "":
			return fmt.Errorf("%w: .dysnomia-fileset: target %q without a symlink before it", ErrSettings, path)
		default:
			f.links[link] = path
		}
	}
	return lines.Err()
}

func (f fileset) create() error {
	uid, gid, err := f.ids()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.target, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(f.target)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, folder := range f.folders {
		if err := errors.Join(root.MkdirAll(folder, 0o755), root.Chown(folder, uid, gid)); err != nil {
			return err
		}
	}
	for target, in := range f.links {
		if err := root.MkdirAll(in, 0o755); err != nil {
			return err
		}
		at := filepath.Join(in, filepath.Base(target))
		if info, err := root.Lstat(at); err == nil && info.Mode()&fs.ModeSymlink == 0 {
			return fmt.Errorf("%s is in the way of a link", filepath.Join(f.target, at))
		}
		if err := root.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := root.Symlink(target, at); err != nil {
			return err
		}
	}
	return nil
}

// unlink removes the links that lead where they should, and folders that are empty then.
func (f fileset) unlink() error {
	root, err := os.OpenRoot(f.target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for target, in := range f.links {
		at := filepath.Join(in, filepath.Base(target))
		if found, err := root.Readlink(at); err != nil || found != target {
			continue
		}
		if err := root.Remove(at); err != nil {
			return err
		}
		f.prune(root, in)
	}
	return nil
}

// prune removes a folder and those above it as long as they are empty and none that has state.
func (f fileset) prune(root *os.Root, folder string) {
	for ; folder != "."; folder = filepath.Dir(folder) {
		if slices.Contains(f.folders, folder) || root.Remove(folder) != nil {
			return
		}
	}
}

func (f fileset) remove() error {
	root, err := os.OpenRoot(f.target)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for _, folder := range f.folders {
		if err := root.RemoveAll(folder); err != nil {
			return err
		}
	}
	for _, folder := range f.folders {
		fileset{}.prune(root, filepath.Dir(folder))
	}
	return nil
}

// present are the folders that are there.
func (f fileset) present() []string {
	var all []string
	for _, folder := range f.folders {
		if exists(filepath.Join(f.target, folder)) {
			all = append(all, folder)
		}
	}
	return all
}

func (f fileset) ids() (uid, gid int, err error) {
	if f.owner == "" {
		return os.Geteuid(), os.Getegid(), nil
	}
	name, group, _ := strings.Cut(f.owner, ":")
	owner, err := user.Lookup(name)
	if err != nil {
		return 0, 0, fmt.Errorf("filesetOwner %s: %w", f.owner, err)
	}
	id := owner.Gid
	if group != "" {
		found, err := user.LookupGroup(group)
		if err != nil {
			return 0, 0, fmt.Errorf("filesetOwner %s: %w", f.owner, err)
		}
		id = found.Gid
	}
	uid, err = strconv.Atoi(owner.Uid)
	if err != nil {
		return 0, 0, err
	}
	gid, err = strconv.Atoi(id)
	return uid, gid, err
}
