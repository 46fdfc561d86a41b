// Command ferretdb serves MongoDB's protocol on loopback, for tests: FerretDB 1.24, the last version that keeps its
// data in SQLite, embedded.
package main

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/FerretDB/FerretDB/ferretdb"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:27017", "address")
	data := flag.String("data", "", "folder of the databases")
	flag.Parse()
	if err := serve(*listen, *data); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(listen, data string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	server, err := ferretdb.New(&ferretdb.Config{
		Listener: ferretdb.ListenerConfig{TCP: listen}, Handler: "sqlite", SQLiteURL: "file:" + data + "/",
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return err
	}
	if user := os.Getenv("FERRETDB_USER"); user != "" {
		if err := protect(ctx, server, user, os.Getenv("FERRETDB_PASSWORD")); err != nil {
			return err
		}
	}
	go announce(ctx, listen)
	return server.Run(ctx)
}

// announce says so when connections are taken.
func announce(ctx context.Context, listen string) {
	for ctx.Err() == nil {
		if c, err := net.Dial("tcp", listen); err == nil {
			_ = c.Close()
			fmt.Println("serving on", listen)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
