package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// ferretDB is the server of a test binary.
var ferretDB struct {
	once    sync.Once
	port    int
	program string
	err     error
	alive   io.Closer // kept, because the server ends when this is closed
}

// MongoDB returns the port of this test binary's server that speaks MongoDB's protocol, on 127.0.0.1 and without users:
// FerretDB with SQLite, from the module ferretdb beside this file. The first test that asks starts it.
func MongoDB(tb testing.TB) int {
	tb.Helper()
	port := FreePort(tb)
	ferretDB.once.Do(func() { ferretDB.port, ferretDB.err = port, buildFerretDB(port) })
	if ferretDB.err != nil {
		Missing(tb, fmt.Sprintf("the MongoDB server of internal/testenv/ferretdb (%v)", ferretDB.err), "go mod download -C internal/testenv/ferretdb")
	}
	return ferretDB.port
}

// MongoDBWith starts another such server for one test, which asks for a user (none: ""), and returns its port and what stops it.
func MongoDBWith(tb testing.TB, user, password string) (int, io.Closer) {
	tb.Helper()
	return ferretIn(tb, fastFolder(), "FERRETDB_USER="+user, "FERRETDB_PASSWORD="+password)
}

// MongoDBIn starts another such server for one test, without users, whose data is in a folder below parent.
func MongoDBIn(tb testing.TB, parent string) (int, io.Closer) {
	tb.Helper()
	return ferretIn(tb, parent)
}

func ferretIn(tb testing.TB, parent string, env ...string) (int, io.Closer) {
	tb.Helper()
	MongoDB(tb)
	dir, err := os.MkdirTemp(parent, "orrery-ferretdb-") //nolint:usetesting // the server removes it when it has ended
	if err != nil {
		tb.Fatal(err)
	}
	port := FreePort(tb)
	d := ferretDaemon(dir, ferretDB.program, port)
	d.Env = env
	alive := Start(tb, d)
	tb.Cleanup(func() { _ = alive.Close() })
	return port, alive
}

func ferretDaemon(dir, program string, port int) Daemon {
	return Daemon{
		Folder: dir, Path: program, Args: []string{"-listen", fmt.Sprintf("127.0.0.1:%d", port), "-data", dir},
		Ready: func(log []byte) bool { return bytes.Contains(log, []byte("serving on")) },
	}
}

func buildFerretDB(port int) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute) //nolint:forbidigo // shared by all tests, so that no test's context fits
	defer cancel()
	dir, err := os.MkdirTemp(fastFolder(), "orrery-ferretdb-")
	if err != nil {
		return err
	}
	_, here, _, _ := runtime.Caller(0)
	ferretDB.program = filepath.Join(dir, "ferretdb")
	build := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(filepath.Dir(here), "ferretdb"), "-o", ferretDB.program, ".")
	build.Env = append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return errors.Join(fmt.Errorf("cannot build it: %w: %s", err, out), os.RemoveAll(dir))
	}
	ferretDB.alive, err = daemon(ctx, ferretDaemon(dir, ferretDB.program, port))
	return err
}
