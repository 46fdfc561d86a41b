// Command orrery runs a node, and is the command line for everything a cluster does.
package main

import (
	"context"
	"errors"
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
	if code, ok := asCompat(ctx, os.Args); ok {
		os.Exit(code)
	}
	os.Exit(commandline.Run(ctx, newRoot(os.Stdin, os.Stdout, os.Stderr), func(err error) (int, bool) {
		return exitCode(err), !errors.As(err, new(programEnded))
	}))
}
