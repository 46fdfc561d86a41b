package testenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Redis is a Redis server for tests, with passwords, over TCP and a socket.
type Redis struct {
	Host         string // 127.0.0.1
	Port         int
	Socket       string
	Password     string // of the default user
	User         string // another one, with the rights of UserRights
	UserPassword string

	data   string
	config string
	folder string    // of the process that runs now
	alive  io.Closer // kept, because the server ends when this is closed, also by the garbage collector
}

// RedisDatabases is how many logical databases the server has.
const RedisDatabases = 300

// StartRedis starts one for one test. Settings are lines of its configuration, and of its user's rights, in the server's ACL
// language (empty: all).
func StartRedis(tb testing.TB, rights, settings string) *Redis {
	tb.Helper()
	Need(tb, "redis-server", "apt-get install redis-server")
	r := &Redis{
		Host: "127.0.0.1", Port: FreePort(tb), Password: `sesame's"secret`, User: "orrery", UserPassword: "open-sesame", data: tb.TempDir(),
	}
	r.Socket = filepath.Join(r.data, "s")
	r.config = filepath.Join(r.data, "redis.conf")
	if rights == "" {
		rights = "+@all"
	}
	text := fmt.Sprintf("bind 127.0.0.1\nport %d\nunixsocket %s\ndir %s\ndatabases %d\nsave \"\"\nhz 200\nrequirepass \"sesame's\\\"secret\"\nuser %s on >%s ~* &* %s\n%s\n",
		r.Port, r.Socket, r.data, RedisDatabases, r.User, r.UserPassword, rights, settings)
	if err := os.WriteFile(r.config, []byte(text), 0o600); err != nil {
		tb.Fatal(err)
	}
	r.Start(tb)
	tb.Cleanup(func() { r.Stop(tb) })
	return r
}

// Start starts the server with the data that it saved.
func (r *Redis) Start(tb testing.TB) {
	tb.Helper()
	folder, err := os.MkdirTemp(fastFolder(), "orrery-redis-") //nolint:usetesting // removed when the server has ended
	if err != nil {
		tb.Fatal(err)
	}
	r.folder = folder
	r.alive = Start(tb, Daemon{
		Folder: folder, Path: Need(tb, "redis-server", "apt-get install redis-server"), Args: []string{r.config},
		Ready: func(log []byte) bool { return bytes.Contains(log, []byte("eady to accept connections")) },
	})
}

// Stop stops the server and waits for its end. It saves only what it was told to save.
func (r *Redis) Stop(tb testing.TB) {
	tb.Helper()
	_ = r.alive.Close()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), time.Minute) // the test's has ended when this cleans up
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := os.Lstat(r.folder); errors.Is(err, fs.ErrNotExist) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			tb.Fatal("the redis server did not end")
		}
	}
}
