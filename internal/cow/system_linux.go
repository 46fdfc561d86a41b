package cow

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

func ioctlClone(into, from *os.File) error {
	return unix.IoctlFileClone(int(into.Fd()), int(from.Fd()))
}

func mountOverlay(at, lower, upper, work string) error {
	return unix.Mount("overlay", at, "overlay", unix.MS_NODEV|unix.MS_NOSUID, "lowerdir="+lower+",upperdir="+upper+",workdir="+work)
}

func unmount(at string) error {
	err := unix.Unmount(at, 0)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) { // not mounted
		return nil
	}
	return err
}

func syncFS(of *os.File) error { return unix.Syncfs(int(of.Fd())) }
