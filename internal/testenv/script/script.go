// Package script has the commands that scripts of several programs use (testscript).
package script

import (
	"errors"
	"os/exec"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Exits is exits CODE COMMAND... runs a command that ends with this exit code.
func Exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	var failed *exec.ExitError
	got := 0
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &failed) {
		got = failed.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// Await is await COMMAND... repeats a command until it succeeds (with !, fails), for at most half a minute.
func Await(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: [!] await COMMAND...")
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.NewTimer(30 * time.Second)
	defer end.Stop()
	for {
		if err := ts.Exec(args[0], args[1:]...); (err != nil) == neg {
			return
		}
		select {
		case <-tick.C:
		case <-end.C:
			ts.Fatalf("never happened: %v", args)
		}
	}
}
