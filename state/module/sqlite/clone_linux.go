package sqlite

import (
	"os"

	"golang.org/x/sys/unix"
)

// cloneFile makes into share from's storage, on file systems that can.
func cloneFile(into, from *os.File) error {
	return unix.IoctlFileClone(int(into.Fd()), int(from.Fd()))
}
