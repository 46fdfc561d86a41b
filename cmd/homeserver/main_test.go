package main

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"orrery/internal/testenv"
	"orrery/internal/testenv/script"
)

// The scripts in testdata run the command line as a process of its own: homeserver is the real main.
func TestMain(m *testing.M) {
	if os.Getenv(asHomeserver) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"homeserver": main})
}

func TestScripts(t *testing.T) {
	testenv.Need(t, "curl", "apt-get install curl")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                map[string]func(ts *testscript.TestScript, neg bool, args []string){"exits": script.Exits, "await": script.Await},
	})
}
