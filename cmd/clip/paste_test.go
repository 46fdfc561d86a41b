package main

import (
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"orrery/internal/testenv"
	"orrery/internal/testenv/script"
)

// TestPasteX11: what is picked is pasted, on an X server with a window manager.
func TestPasteX11(t *testing.T) {
	for _, program := range []string{"openbox", "xterm", "xdotool", "tmux"} {
		testenv.Need(t, program, "apt-get install "+program)
	}
	needGTK(t)
	testscript.Run(t, testscript.Params{
		Files:               []string{"testdata/paste/x11.txtar"},
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			display, _ := testenv.XServer(t)
			for name, value := range map[string]string{
				"DISPLAY": display, "WAYLAND_DISPLAY": "", "HOME": e.WorkDir, "XDG_RUNTIME_DIR": e.WorkDir + "/run", "XDG_DATA_HOME": e.WorkDir + "/data",
				"XDG_CONFIG_HOME": e.WorkDir + "/config", "TMUX_TMPDIR": e.WorkDir, "LC_ALL": "C.UTF-8", "GDK_BACKEND": "x11", "NO_AT_BRIDGE": "1", "GORACE": script.Race(),
			} {
				e.Setenv(name, value)
			}
			folder, err := os.MkdirTemp("", "orrery-openbox-") //nolint:usetesting // its daemon removes it
			if err != nil {
				return err
			}
			manager := testenv.Start(t, testenv.Daemon{
				Path: "openbox", Args: []string{"--sm-disable"}, Folder: folder, Env: []string{"DISPLAY=" + display, "HOME=" + e.WorkDir}, Ready: func([]byte) bool { return true },
			})
			t.Cleanup(func() { _ = manager.Close() })
			return os.Mkdir(e.WorkDir+"/run", 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": script.Exits, "await": script.Await},
	})
}

// TestPasteWayland is TestPasteX11 on a Wayland compositor.
func TestPasteWayland(t *testing.T) {
	for _, program := range []string{"foot", "tmux", "wtype"} {
		testenv.Need(t, program, "apt-get install "+program)
	}
	needGTK(t)
	testscript.Run(t, testscript.Params{
		Files:               []string{"testdata/paste/wayland.txtar"},
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			display, _ := testenv.Sway(t)
			for name, value := range map[string]string{
				"DISPLAY": "", "WAYLAND_DISPLAY": display, "HOME": e.WorkDir, "XDG_RUNTIME_DIR": e.WorkDir + "/run", "XDG_DATA_HOME": e.WorkDir + "/data",
				"XDG_CONFIG_HOME": e.WorkDir + "/config", "TMUX_TMPDIR": e.WorkDir, "LC_ALL": "C.UTF-8", "GDK_BACKEND": "wayland", "NO_AT_BRIDGE": "1", "GORACE": script.Race(),
			} {
				e.Setenv(name, value)
			}
			return os.Mkdir(e.WorkDir+"/run", 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": script.Exits, "await": script.Await},
	})
}

// needGTK says whether programs of GTK can be run.
func needGTK(t *testing.T) {
	t.Helper()
	const probe = "import gi; gi.require_version('Gtk', '3.0'); from gi.repository import Gtk"
	if err := exec.CommandContext(t.Context(), "/usr/bin/python3", "-c", probe).Run(); err != nil {
		testenv.Missing(t, "GTK for Python", "apt-get install python3-gi gir1.2-gtk-3.0")
	}
}
