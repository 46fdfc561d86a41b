package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"orrery/internal/testenv"
	"orrery/internal/testenv/script"
)

// The scripts in testdata run the command line as a process of its own, on an X server: clip is the real main.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"clip": main})
}

func TestScripts(t *testing.T) {
	for _, program := range []string{"xclip", "tmux", "xdotool"} {
		testenv.Need(t, program, "apt-get install "+program)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(e *testscript.Env) error {
			display, _ := testenv.XServer(t)
			foreign, err := filepath.Abs("../../clip/exchange/testdata") // files of other clipboard managers
			if err != nil {
				return err
			}
			e.Setenv("FOREIGN", foreign)
			for name, value := range map[string]string{
				"DISPLAY": display, "HOME": e.WorkDir, "XDG_RUNTIME_DIR": e.WorkDir + "/run", "XDG_DATA_HOME": e.WorkDir + "/data", "XDG_CONFIG_HOME": e.WorkDir + "/config",
				"TMUX_TMPDIR": e.WorkDir, "LC_ALL": "C.UTF-8", "GORACE": script.Race(),
			} {
				e.Setenv(name, value)
			}
			return os.Mkdir(e.WorkDir+"/run", 0o700)
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": script.Exits, "await": script.Await, "copied": copied},
	})
}

// copied FILE [SELECTION] lets another program copy a file's content. It goes on in the background, with no pipe of the test's; owner.pid has its number.
func copied(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: copied FILE [SELECTION]")
	}
	ts.Check(ts.Exec("sh", "-c", `xclip -quiet -selection "$2" "$1" >/dev/null 2>&1 & echo $! >owner.pid`, "sh", args[0], append(args, "clipboard")[1]))
}
