package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"orrery/internal/testenv"
	"orrery/internal/testenv/script"
)

// TestKeyring: the key is in GNOME's keyring, on a bus of the test.
func TestKeyring(t *testing.T) {
	for program, install := range map[string]string{
		"dbus-run-session": "dbus", "gnome-keyring-daemon": "gnome-keyring", "secret-tool": "libsecret-tools",
	} {
		testenv.Need(t, program, "apt-get install "+install)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/keyring",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			display, _ := testenv.XServer(t)
			for name, value := range map[string]string{
				"DISPLAY": display, "WAYLAND_DISPLAY": "", "HOME": e.WorkDir, "XDG_RUNTIME_DIR": e.WorkDir + "/run", "XDG_DATA_HOME": e.WorkDir + "/data",
				"XDG_CONFIG_HOME": e.WorkDir + "/config", "XDG_CACHE_HOME": e.WorkDir + "/cache", "DBUS_SESSION_BUS_ADDRESS": "", "LC_ALL": "C.UTF-8", "GORACE": script.Race(),
			} {
				e.Setenv(name, value)
			}
			return os.Mkdir(e.WorkDir+"/run", 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": script.Exits, "await": script.Await},
	})
}
