package fileset

import (
	"errors"

	"golang.org/x/sys/unix"
)

// swapNames exchanges two names in one step; file systems that cannot get two.
func swapNames(a, b string) error {
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		return swapNamesSlowly(a, b)
	}
	return err
}
