//go:build !linux

package sqlite

import (
	"errors"
	"os"
)

// cloneFile makes into share from's storage, on file systems that can.
func cloneFile(_, _ *os.File) error { return errors.ErrUnsupported }
