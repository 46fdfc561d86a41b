//go:build unix

package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"orrery/state"
)

// TryLock takes an advisory lock on the file, which it creates.
func (osFiles) TryLock(_ context.Context, name string, exclusive bool) (lock, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return lock{}, err
	}
	how := unix.LOCK_SH
	if exclusive {
		how = unix.LOCK_EX
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
	}
	if err == nil {
		return lock{func() { _ = f.Close() }}, nil // closing releases; there is nothing to lose
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return lock{}, fmt.Errorf("snapshot store: %s is locked: %w", name, state.ErrInUse)
	}
	return lock{}, fmt.Errorf("cannot lock %s: %w", name, err)
}
