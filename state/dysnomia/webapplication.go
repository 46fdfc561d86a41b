package dysnomia

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// WebApplication is the module of components that a web server serves from its document root: a fileset, or links to
// what is in their folder webapps.
func WebApplication(ctx context.Context, c Call) error {
	if !c.is("activate", "deactivate", "snapshot", "restore", "collect-garbage") {
		return nil
	}
	root := c.Property("documentRoot", "/var/www")
	if exists(filepath.Join(c.Path, ".dysnomia-fileset")) {
		f, err := c.fileset(root)
		if err != nil {
			return err
		}
		return c.operateFileset(ctx, f)
	}
	switch c.Operation {
	case "activate", "deactivate":
	default:
		return nil
	}
	all, err := os.ReadDir(filepath.Join(c.Path, "webapps"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		return err
	}
	for _, e := range all {
		target, at := filepath.Join(c.Path, "webapps", e.Name()), filepath.Join(root, e.Name())
		if err := link(target, at, c.Operation == "activate"); err != nil {
			return err
		}
	}
	if c.Operation == "activate" {
		return c.Directory.MarkActive(c.Ref)
	}
	return c.Directory.Unmark(c.Ref)
}

// link makes a link, or removes it if it leads where it should.
func link(target, at string, wanted bool) error {
	found, err := os.Readlink(at)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !wanted:
		return nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s is in the way of a link: %w", at, err)
	case !wanted && found != target:
		return nil
	case !wanted:
		return os.Remove(at)
	}
	side := at + ".orrery-new"
	if err := removeIfThere(side); err != nil {
		return err
	}
	if err := os.Symlink(target, side); err != nil {
		return err
	}
	return os.Rename(side, at)
}
