// The blue sky is the sky with a change that a developer tries out: another colour and
// another title. See ../sky for what it answers and its environment.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"orrery/examples/observatory/sky/page"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := page.Run(ctx, page.Theme{Name: "blue", Title: "The blue sky"}); err != nil {
		fmt.Fprintln(os.Stderr, "sky-blue:", err)
		os.Exit(1)
	}
}
