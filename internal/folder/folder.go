// Package folder replaces, gives away and measures folders as a whole.
//
// Replace fills a folder beside another one and swaps the two, in one step where the system can exchange names. What a
// crash leaves beside a folder NAME, Settle puts right:
//
//	NAME.orrery-side   being filled, or replaced and on its way out
//	NAME.orrery-next   complete, where names cannot be exchanged: from its appearance on what the folder is to be
//	NAME.orrery-old    what was there before, on its way out
package folder

import (
	"context"
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

// Replace has fill make the folder side, which does not exist yet, makes it durable and puts it in folder's place. An
// error leaves the folder as it was.
func Replace(folder string, fill func(side string) error) error {
	if err := Settle(folder); err != nil {
		return err
	}
	side := folder + suffixSide
	err := fill(side)
	if err == nil {
		err = syncTree(side)
	}
	if err == nil {
		err = put(side, folder)
	}
	return errors.Join(err, os.RemoveAll(side))
}

// put gives side the name folder, and what has that name the name side or none.
func put(side, folder string) error {
	err := exchange(side, folder)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = os.Rename(side, folder)
	case errors.Is(err, errors.ErrUnsupported):
		if err = os.Rename(side, folder+suffixNext); err == nil {
			err = errors.Join(syncFolder(filepath.Dir(folder)), Settle(folder))
		}
	}
	return errors.Join(err, syncFolder(filepath.Dir(folder)))
}

// Settle finishes what a crash interrupted.
func Settle(folder string) error {
	next, old := folder+suffixNext, folder+suffixOld
	if _, err := os.Lstat(next); err == nil {
		if err := turn(next, folder); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return errors.Join(os.RemoveAll(old), os.RemoveAll(folder+suffixSide))
}

// turn moves the folder to its old name and next to the folder. A crash between the two leaves next, with which Settle
// begins again.
func turn(next, folder string) error {
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

// Move gives a folder another name in the same parent, durably.
func Move(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(to))
}

// Remove removes a folder and what may be beside it.
func Remove(folder string) error {
	for _, suffix := range []string{suffixNext, suffixSide, suffixOld, ""} {
		if err := os.RemoveAll(folder + suffix); err != nil {
			return err
		}
	}
	return syncFolder(filepath.Dir(folder))
}

// Exists says whether there is a folder of that name; something else of that name is an error.
func Exists(path string) (bool, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err == nil && !info.IsDir():
		return true, &fs.PathError{Op: "use", Path: path, Err: errors.New("it is not a folder")}
	}
	return err == nil, err
}

// Size adds up the sizes of the files in a folder, in bytes. What vanishes meanwhile is left out.
func Size(ctx context.Context, folder string) (size int64, err error) {
	err = filepath.WalkDir(folder, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, infoErr := d.Info(); infoErr == nil {
				size += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return errors.Join(err, ctx.Err())
	})
	return size, err
}

// syncFolder makes the names in a folder, or the content of a file, durable.
func syncFolder(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
