//go:build unix

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"orrery/state"
)

// lock is an advisory lock on a file. It ends with the process that holds it, however that ends.
type lock struct{ file *os.File }

// acquire waits for a lock on the file, which it creates.
func acquire(ctx context.Context, name string, exclusive bool) (lock, error) {
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		l, err := tryLock(name, exclusive)
		if !errors.Is(err, state.ErrInUse) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return lock{}, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(wait):
		}
	}
}

// tryLock returns state.ErrInUse at once where somebody else has the lock.
func tryLock(name string, exclusive bool) (lock, error) {
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
		return lock{f}, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return lock{}, fmt.Errorf("snapshot store: %s is locked: %w", name, state.ErrInUse)
	}
	return lock{}, fmt.Errorf("cannot lock %s: %w", name, err)
}

func (l lock) release() {
	if l.file != nil {
		_ = l.file.Close() // closing releases; there is nothing to lose
	}
}
