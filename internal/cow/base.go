package cow

import (
	"context"
	"os"
	"path/filepath"
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

// DropUnused removes a base, unless the overlay of a copy lies over it. The copies are the folders that a pattern of
// filepath.Glob matches.
func DropUnused(base, copies string) error {
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
