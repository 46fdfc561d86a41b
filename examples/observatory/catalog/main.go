// The catalog answers questions about the bodies of the solar system, from a
// SQLite database that bodies.sql fills.
//
//	GET /bodies?kind=&parent=&q=   all bodies that match, largest first
//	GET /bodies/{id}               one of them
//	GET /healthz                   204 while the database can be read
//
// Environment: ADDRESS to listen on, DATABASE is the path of the database.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"orrery/examples/observatory/internal/web"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "catalog:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	address, err := web.Env("ADDRESS")
	if err != nil {
		return err
	}
	path, err := web.Env("DATABASE")
	if err != nil {
		return err
	}
	c, err := open(path)
	if err != nil {
		return err
	}
	defer c.close()
	return web.Serve(ctx, address, c.handler())
}
