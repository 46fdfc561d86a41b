package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"orrery/internal/testenv"
	"orrery/internal/testenv/script"
)

// TestWaylandScripts is TestScripts on a Wayland compositor.
func TestWaylandScripts(t *testing.T) {
	for _, program := range []string{"wl-copy", "wl-paste"} {
		testenv.Need(t, program, "apt-get install wl-clipboard")
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/wayland",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			for name, value := range map[string]string{
				"WAYLAND_DISPLAY": e.WorkDir + "/display", "DISPLAY": "", "HOME": e.WorkDir, "XDG_RUNTIME_DIR": e.WorkDir + "/run", "XDG_DATA_HOME": e.WorkDir + "/data",
				"XDG_CONFIG_HOME": e.WorkDir + "/config", "LC_ALL": "C.UTF-8",
			} {
				e.Setenv(name, value)
			}
			c := &compositor{t: t, display: e.WorkDir + "/display"}
			e.Values[compositor{}] = c
			return errors.Join(os.Mkdir(e.WorkDir+"/run", 0o700), c.start())
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exits": script.Exits, "await": script.Await, "copied": copiedWayland, "compositor": changeCompositor,
		},
	})
}

// compositor is the one of a script. What WAYLAND_DISPLAY names is a link to its socket, because each has a folder of its own.
type compositor struct {
	t       *testing.T
	display string
	server  io.Closer
}

func (c *compositor) start() error {
	var socket string
	socket, c.server = testenv.Sway(c.t)
	if err := os.Remove(c.display); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Symlink(socket, c.display)
}

// changeCompositor is compositor start or compositor stop.
func changeCompositor(ts *testscript.TestScript, neg bool, args []string) {
	c, ok := ts.Value(compositor{}).(*compositor)
	if neg || !ok || len(args) != 1 {
		ts.Fatalf("usage: compositor start|stop")
	}
	if args[0] == "start" {
		ts.Check(c.start())
		return
	}
	ts.Check(c.server.Close())
}

// copiedWayland is copied FILE [OPTION...], by wl-copy.
func copiedWayland(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: copied FILE [OPTION...]")
	}
	ts.Check(ts.Exec("sh", append([]string{"-c", `file=$1; shift; wl-copy --foreground "$@" <"$file" >/dev/null 2>&1 & echo $! >owner.pid`, "sh", filepath.Base(args[0])}, args[1:]...)...))
}
