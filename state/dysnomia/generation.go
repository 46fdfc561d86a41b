package dysnomia

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
)

// Record adds a generation for a snapshot whose files are there and durable, unless it is the newest already.
// The component's lock is held.
func (d *Directory) Record(r Ref, id string) error {
	if err := errors.Join(r.check(), CheckName(id)); err != nil {
		return err
	}
	all, err := d.Generations(r)
	if err != nil {
		return err
	}
	next := uint64(1)
	if len(all) > 0 {
		newest := all[len(all)-1]
		if newest.Snapshot == id {
			return nil
		}
		next = newest.Number + 1
	}
	if err := d.writeChecksums(r, id); err != nil {
		return err
	}
	folder := d.join(generations, r)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for {
		err := os.Symlink("../../../"+filepath.Join(snapshots, r.Container, r.Component, id), filepath.Join(folder, strconv.FormatUint(next, 10)))
		if !errors.Is(err, fs.ErrExist) { // somebody who knows nothing of our locks
			return errors.Join(err, syncFolder(folder))
		}
		next++
	}
}

// Publish makes a folder of this state directory's file system (see Scratch) the snapshot id of a component, and its
// newest generation. The component's lock is held.
func (d *Directory) Publish(r Ref, id, folder string) error {
	if err := errors.Join(r.check(), CheckName(id)); err != nil {
		return err
	}
	target := d.SnapshotPath(r, id)
	if exists(target) {
		if err := os.RemoveAll(folder); err != nil {
			return err
		}
		return d.Record(r, id)
	}
	if err := syncTree(folder); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	if err := os.Rename(folder, target); err != nil {
		return err
	}
	if err := syncFolder(filepath.Dir(target)); err != nil {
		return err
	}
	return d.Record(r, id)
}

// Import makes a snapshot that lies elsewhere one of the component's, and its newest generation. A path outside of
// the state directory is gone afterwards. The component's lock is held.
func (d *Directory) Import(r Ref, path string) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	if err := errors.Join(r.check(), CheckName(filepath.Base(path))); err != nil {
		return err
	}
	id := filepath.Base(path)
	target := d.SnapshotPath(r, id)
	if path == target {
		if !exists(path) {
			return fmt.Errorf("snapshot %s: %w", path, ErrNotFound)
		}
		return d.Record(r, id)
	}
	if inside, err := filepath.Rel(d.path, path); err == nil && filepath.IsLocal(inside) {
		return fmt.Errorf("cannot import %s: it is another component's (copy it out of the state directory first)", path)
	}
	return d.importOutside(r, id, path)
}

func (d *Directory) importOutside(r Ref, id, path string) error {
	scratch, err := d.Scratch()
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	copied := filepath.Join(scratch, id)
	if err := copyTree(path, copied); err != nil {
		return fmt.Errorf("cannot import %s: %w", path, err)
	}
	if target := d.SnapshotPath(r, id); exists(target) {
		same, err := sameContent(target, copied)
		if err != nil {
			return err
		}
		if !same {
			return fmt.Errorf("cannot import %s: %s has another snapshot of that name", path, r)
		}
	}
	if err := d.Publish(r, id, copied); err != nil {
		return err
	}
	return os.RemoveAll(path)
}

// Scratch makes a folder for what becomes a snapshot. What a crash leaves there is removed by Collect.
func (d *Directory) Scratch() (string, error) {
	folder := filepath.Join(d.path, own, "scratch")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return "", err
	}
	return os.MkdirTemp(folder, "")
}

// copyTree copies files, folders and links; anything else is refused.
func copyTree(from, to string) error {
	info, err := os.Lstat(from)
	if err != nil {
		return err
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		target, err := os.Readlink(from)
		if err != nil {
			return err
		}
		return os.Symlink(target, to)
	case info.Mode().IsRegular():
		return copyFile(from, to, info)
	case !info.IsDir():
		return fmt.Errorf("%s is neither a file nor a folder", from)
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	if err := os.Mkdir(to, 0o700); err != nil {
		return err
	}
	for _, e := range entries {
		if err := copyTree(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	if err := os.Chtimes(to, info.ModTime(), info.ModTime()); err != nil {
		return err
	}
	return os.Chmod(to, info.Mode().Perm())
}

func copyFile(from, to string, info fs.FileInfo) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm()|0o200)
	if err != nil {
		return err
	}
	_, err = out.ReadFrom(in)
	if err := errors.Join(err, out.Close()); err != nil {
		return err
	}
	return os.Chtimes(to, info.ModTime(), info.ModTime())
}

// syncTree makes everything below a folder durable.
func syncTree(root string) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink != 0 {
			return err
		}
		return syncFolder(path) // or file
	})
}

func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
