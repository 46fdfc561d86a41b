// Command orrery runs a node, and is the command line for everything a cluster does.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version is set when the binary is linked.
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if code, ok := asCompat(ctx, os.Args); ok {
		os.Exit(code)
	}
	if err := newRoot(os.Stdin, os.Stdout, os.Stderr).ExecuteContext(ctx); err != nil {
		if !errors.As(err, new(programEnded)) {
			fmt.Fprintln(os.Stderr, "orrery:", err)
		}
		os.Exit(exitCode(err))
	}
}
