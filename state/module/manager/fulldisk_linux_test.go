package manager

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"orrery/internal/testenv"
	"orrery/state"
)

// On a disk without room for a definition, whether it is the manager's or the node's, an activation fails and leaves nothing; once there is
// room it works.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	disk := t.TempDir()
	testenv.SmallDisk(t, disk, "64k")
	must(t, os.Chmod(disk, 0o755))
	scripts := filepath.Join(disk, "init.d")
	must(t, os.Mkdir(scripts, 0o755))
	filler := filepath.Join(disk, "filler")
	w := world{module: module(t, "sysvinit-script"), container: state.Properties{"scriptDir": scripts}, folder: scripts}
	target := w.target(t, "full")
	own := target
	own.Directory = filepath.Join(disk, "own")
	for _, target := range []state.Target{target, own} {
		if err := os.WriteFile(filler, make([]byte, 128<<10), 0o600); !errors.Is(err, unix.ENOSPC) {
			t.Fatal(err)
		}
		if err := w.module.Activate(t.Context(), target); !errors.Is(err, unix.ENOSPC) {
			t.Error(err)
		}
		w.nothingLeft(t, target)
		must(t, os.Remove(filler))
		must(t, w.module.Activate(t.Context(), target))
		must(t, w.module.Deactivate(t.Context(), target))
		w.nothingLeft(t, target)
	}
}
