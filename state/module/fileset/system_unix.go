//go:build unix

package fileset

import (
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
