package fileset

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

func changeTime(s *syscall.Stat_t) time.Time { return time.Unix(s.Ctimespec.Unix()) }

// cloneFile makes into share from's storage, on file systems that can.
func cloneFile(_, _ *os.File) error { return errors.ErrUnsupported }

// syncTree makes everything in a folder durable.
func syncTree(folder string) error {
	return filepath.WalkDir(folder, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() && !d.Type().IsRegular() {
			return err
		}
		return syncFolder(path)
	})
}

// extended: attributes are not kept on this system.
func extended(string) (map[string]string, error) { return map[string]string{}, nil }

func setAttribute(*os.File, string, string) error { return errors.ErrUnsupported }
