package cow

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Lock waits until no other process makes or removes bases and copies in a folder.
func Lock(ctx context.Context, folder string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return func() { _ = f.Close() }, nil
		}
		select {
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// Bases are the copies of one source's files that are kept warm in a folder, beside the copies that are made of them. The caller
// holds the folder's Lock.
type Bases struct {
	Folder string
	Source string // distinguishes the source from others, as part of a file's name
	// Usable says whether a copy can still begin as a base.
	Usable func(ctx context.Context, base string) (bool, error)
	// Take makes a base.
	Take func(ctx context.Context, into string) error
}

// Fresh returns a base that is usable, and takes one if there is none. What is of no more use is removed.
func (b Bases) Fresh(ctx context.Context) (string, error) {
	prefix := filepath.Join(b.Folder, "base-"+b.Source+"-")
	bases, err := filepath.Glob(prefix + "*")
	if err != nil {
		return "", err
	}
	for _, base := range bases {
		if strings.HasSuffix(base, ".new") { // of a process that was killed
			if err := os.RemoveAll(base); err != nil {
				return "", err
			}
			continue
		}
		if usable, err := b.Usable(ctx, base); err != nil || usable {
			return base, err
		}
		if err := dropUnused(base, filepath.Join(b.Folder, "fork-*")); err != nil {
			return "", err
		}
	}
	base := prefix + time.Now().UTC().Format("20060102150405.000000")
	if err := b.Take(ctx, base+".new"); err != nil {
		return "", errors.Join(err, os.RemoveAll(base+".new"))
	}
	return base, os.Rename(base+".new", base)
}

// dropUnused removes a base, unless the overlay of a copy lies over it. The copies are the folders that a pattern of
// filepath.Glob matches.
func dropUnused(base, copies string) error {
	folders, err := filepath.Glob(copies)
	if err != nil {
		return err
	}
	for _, folder := range folders {
		if lower, err := (Copy{Folder: folder}).Lower(); err != nil || lower == base {
			return err
		}
	}
	return os.RemoveAll(base)
}
