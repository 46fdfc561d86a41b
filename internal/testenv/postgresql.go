package testenv

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Postgres is a PostgreSQL server for tests. Its user is a superuser; TCP and socket ask for the password.
type Postgres struct {
	Host      string // 127.0.0.1
	Port      int
	SocketDir string
	User      string
	Password  string
	Bin       string // the folder of its programs

	alive io.Closer // kept, because the server ends when this is closed, also by the garbage collector
}

var shared struct {
	once   sync.Once
	server *Postgres
	err    error
}

// PostgreSQL returns the server of this test binary, started by the first test that asks.
func PostgreSQL(tb testing.TB) *Postgres {
	tb.Helper()
	initdb := Need(tb, "initdb", "apt-get install postgresql", "/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb")
	port := FreePort(tb)
	shared.once.Do(func() { shared.server, shared.err = startPostgres(filepath.Dir(initdb), port) })
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	return shared.server
}

const postgresConfig = `
listen_addresses = '127.0.0.1'
port = %d
unix_socket_directories = '%s'
fsync = off
full_page_writes = off
synchronous_commit = off
wal_level = replica
max_wal_senders = 10
autovacuum = off
shared_buffers = 32MB
max_connections = 60
timezone = 'UTC'
`

func startPostgres(bin string, port int) (*Postgres, error) {
	dir, err := os.MkdirTemp(fastFolder(), "orrery-postgresql-")
	if err != nil {
		return nil, err
	}
	p := &Postgres{Host: "127.0.0.1", Port: port, SocketDir: dir, User: "orrery", Password: "sesame's \"secret\"", Bin: bin}
	credential, err := notRoot(dir)
	if err != nil {
		return nil, err
	}
	password := filepath.Join(dir, "password")
	if err := os.WriteFile(password, []byte(p.Password+"\n"), 0o644); err != nil { //nolint:gosec // the server's user reads it
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:forbidigo // shared by all tests, so that no test's context fits
	defer cancel()
	initdb := exec.CommandContext(ctx, filepath.Join(bin, "initdb"), "-D", filepath.Join(dir, "data"), "-U", p.User,
		"-A", "scram-sha-256", "--pwfile", password, "-E", "UTF8", "--locale", "C", "--no-sync")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	initdb.Dir = dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	config, err := os.OpenFile(filepath.Join(dir, "data", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	_, err = fmt.Fprintf(config, postgresConfig, port, dir)
	if err := config.Close(); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	p.alive, err = daemon(ctx, Daemon{
		Folder: dir, Path: filepath.Join(bin, "postgres"), Args: []string{"-D", filepath.Join(dir, "data")},
		Credential: credential, Stop: syscall.SIGINT,
		Ready: func(log []byte) bool { return bytes.Contains(log, []byte("ready to accept connections")) },
	})
	return p, err
}

// fastFolder is where temporary files cost the least: in memory, where there is such a place.
func fastFolder() string {
	const memory = "/dev/shm"
	if syscall.Access(memory, 2) == nil { // W_OK
		return memory
	}
	return ""
}

// notRoot returns the credential of the user postgres if the test runs as root, which PostgreSQL refuses,
// and gives it the folder.
func notRoot(dir string) (*syscall.Credential, error) { return notRootAs(dir, "postgres") }

// notRootAs returns the credential of a service's user if the test runs as root, and gives it the folder.
func notRootAs(dir, name string) (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // no credential means the caller's own
	}
	account, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(account.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(account.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(dir, int(uid), int(gid))
}
