//go:build unix

package fileset

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// owner is what the portable file information lacks.
type owner struct {
	uid, gid int
	links    uint64
	id       [2]uint64 // device and inode
	changed  time.Time
}

func ownerOf(info fs.FileInfo) owner {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return owner{changed: info.ModTime()}
	}
	return owner{
		uid: int(s.Uid), gid: int(s.Gid),
		links: uint64(s.Nlink), id: [2]uint64{uint64(s.Dev), uint64(s.Ino)}, //nolint:unconvert // narrower on other systems
		changed: changeTime(s),
	}
}

// openFile opens a regular file; what has become a link or a pipe meanwhile neither leads elsewhere nor blocks.
func openFile(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
}

// readSmall fills b with the content of a regular file that has just that size.
func readSmall(path string, b []byte) error {
	fd, err := ignoringEINTR(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }() // it was only read
	for len(b) > 0 {
		n, err := ignoringEINTR(func() (int, error) { return unix.Read(fd, b) })
		switch {
		case err != nil:
			return err
		case n == 0:
			return errChanged
		}
		b = b[n:]
	}
	return nil
}

func ignoringEINTR(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}
