// The notes keep observations that visitors write about bodies, in a SQLite
// database that was made with schema.sql.
//
//	POST   /notes {body, author, text, key?}   201 and the note, once it is durable; 200 for a key that was used before
//	GET    /notes?body=&after=&limit=&order=   notes with a greater id than after, oldest first (order=desc: newest first)
//	GET    /notes/{id}
//	DELETE /notes/{id}                         204
//	GET    /count                              {"count": n}
//	GET    /healthz                            204 while the database can be read
//
// Environment: ADDRESS to listen on, DATABASE is the path of the database.
// SIGTERM: requests under way are answered and the database is closed.
package main

import (
	"context"
	"errors"
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
		fmt.Fprintln(os.Stderr, "notes:", err)
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
	b, err := open(path)
	if err != nil {
		return err
	}
	return errors.Join(web.Serve(ctx, address, b.handler()), b.close())
}
