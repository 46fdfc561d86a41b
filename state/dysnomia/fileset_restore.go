package dysnomia

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"orrery/state/dysnomia/tree"
)

// restoreFileset unpacks the newest snapshot beside the folders, and then exchanges them one by one. An error puts
// back those that were exchanged.
func (c Call) restoreFileset(ctx context.Context, f fileset) error {
	latest, err := c.Directory.Latest(c.Ref)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	uid, gid, err := f.ids()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(f.target, 0o755); err != nil {
		return err
	}
	side, err := os.MkdirTemp(f.target, ".orrery-restore-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(side) }()
	fresh, old := filepath.Join(side, "new"), filepath.Join(side, "old")
	if err := errors.Join(os.Mkdir(fresh, 0o755), os.Mkdir(old, 0o755)); err != nil {
		return err
	}
	dump := filepath.Join(c.Directory.SnapshotPath(c.Ref, latest.Snapshot), filesetDump)
	if err := expand(ctx, dump, func(r io.Reader) error { return tree.Unpack(r, fresh) }); err != nil {
		return fmt.Errorf("cannot restore %s from %s: %w", c.Ref, latest.Snapshot, err)
	}
	for _, folder := range f.folders {
		if err := ownTree(filepath.Join(fresh, folder), uid, gid); err != nil {
			return fmt.Errorf("cannot restore %s from %s: %w", c.Ref, latest.Snapshot, err)
		}
	}
	return exchange(f.target, fresh, old, f.folders)
}

// ownTree gives all files below a folder to somebody.
func ownTree(root string, uid, gid int) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := os.Lchown(path, uid, gid); err != nil || !e.IsDir() {
			return err
		}
		return syncFolder(path)
	})
}

// exchange moves folders of target to old and those of fresh to target; all or none.
func exchange(target, fresh, old string, folders []string) (err error) {
	var undo []func() error
	defer func() {
		for i := len(undo) - 1; err != nil && i >= 0; i-- {
			err = errors.Join(err, undo[i]())
		}
	}()
	for _, folder := range folders {
		at, from, to := filepath.Join(target, folder), filepath.Join(fresh, folder), filepath.Join(old, folder)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o755), os.MkdirAll(filepath.Dir(to), 0o755)); err != nil {
			return err
		}
		if exists(at) {
			if err := os.Rename(at, to); err != nil {
				return err
			}
			undo = append(undo, func() error { return os.Rename(to, at) })
		}
		if err := os.Rename(from, at); err != nil {
			return err
		}
		undo = append(undo, func() error { return os.Rename(at, from) })
		if err := syncFolder(filepath.Dir(at)); err != nil {
			return err
		}
	}
	return nil
}
