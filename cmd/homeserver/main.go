// Command homeserver is a Matrix homeserver: one binary, its data in SQLite, PostgreSQL or Pebble.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"orrery/internal/commandline"
)

// version is set when the binary is linked.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(commandline.Run(ctx, newRoot(os.Stdin, os.Stdout, os.Stderr), func(err error) (int, bool) { return exitCode(err), true }))
}
