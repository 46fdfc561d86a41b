//go:build unix

package sqlite

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// lockHolder returns a process that holds one of SQLite's locks on the file, as everybody does who has it open in
// WAL mode, and everybody in a transaction otherwise; 0 if there is none besides this one.
func lockHolder(f *os.File) (pid int, err error) {
	lock := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart, Start: lockByte, Len: 512}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
		return 0, err
	}
	if lock.Type == unix.F_UNLCK {
		return 0, nil
	}
	return int(lock.Pid), nil
}
