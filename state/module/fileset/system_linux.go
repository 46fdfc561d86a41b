package fileset

import (
	"errors"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func changeTime(s *syscall.Stat_t) time.Time { return time.Unix(s.Ctim.Unix()) }

// cloneFile makes into share from's storage, on file systems that can.
func cloneFile(into, from *os.File) error {
	return unix.IoctlFileClone(int(into.Fd()), int(from.Fd()))
}

// syncTree makes everything in a folder durable, at once for all of the many files.
func syncTree(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	return errors.Join(unix.Syncfs(int(f.Fd())), f.Close())
}
