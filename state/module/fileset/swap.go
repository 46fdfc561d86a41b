package fileset

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	suffixSide = ".orrery-side"
	suffixNext = ".orrery-next"
	suffixOld  = ".orrery-old"
)

// replace fills a folder beside the component's and puts it in its place once it is complete.
func (m *Module) replace(folder string, fill func(side string) error) error {
	side := folder + suffixSide
	if err := os.RemoveAll(side); err != nil {
		return err
	}
	if err := fill(side); err != nil {
		return errors.Join(err, os.RemoveAll(side))
	}
	if err := syncTree(side); err != nil {
		return errors.Join(err, os.RemoveAll(side))
	}
	if err := os.Rename(side, folder+suffixNext); err != nil {
		return err
	}
	if err := syncFolder(filepath.Dir(folder)); err != nil {
		return err
	}
	return settle(folder)
}

// settle puts a complete next state in place and removes the one before.
func settle(folder string) error {
	next, old := folder+suffixNext, folder+suffixOld
	if _, err := os.Lstat(next); err == nil {
		if err := exchange(next, folder); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Lstat(old); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return os.RemoveAll(old)
}

// exchange moves the folder to its old name and next to the folder. A crash between the two
// leaves next, with which settle begins again.
func exchange(next, folder string) error {
	if _, err := os.Lstat(folder); err == nil {
		if err := os.RemoveAll(folder + suffixOld); err != nil {
			return err
		}
		if err := os.Rename(folder, folder+suffixOld); err != nil {
			return err
		}
	}
	if err := os.Rename(next, folder); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(folder))
}

// syncFolder makes the names in a folder, or the content of a file, durable.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// swapNamesSlowly exchanges two names by renaming. A crash in the middle leaves b's file under a name beside it.
func swapNamesSlowly(a, b string) error {
	aside := b + suffixOld
	if err := os.RemoveAll(aside); err != nil {
		return err
	}
	if err := os.Rename(b, aside); err != nil {
		return err
	}
	if err := os.Rename(a, b); err != nil {
		return errors.Join(err, os.Rename(aside, b))
	}
	return os.Rename(aside, a)
}
