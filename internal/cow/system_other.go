//go:build !linux

package cow

import (
	"errors"
	"os"
)

func ioctlClone(_, _ *os.File) error { return errors.ErrUnsupported }

func mountOverlay(_, _, _, _ string) error { return errors.ErrUnsupported }

func unmount(string) error { return nil }

func syncFS(of *os.File) error { return of.Sync() }
