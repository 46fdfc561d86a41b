package testenv

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// Postgres is a PostgreSQL server for tests. Its user is a superuser; TCP and socket ask for the password.
type Postgres struct {
	Host      string // 127.0.0.1
	Port      int
	SocketDir string
	User      string
	Password  string
	Bin       string // the folder of its programs

	data       string // its folder
	credential *syscall.Credential

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
	p := &Postgres{Host: "127.0.0.1", Port: port, SocketDir: dir, User: "orrery", Password: "sesame's \"secret\"", Bin: bin, data: filepath.Join(dir, "data")}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) //nolint:forbidigo // shared by all tests, so that no test's context fits
	defer cancel()
	if err := p.create(ctx, "--locale", "C"); err != nil {
		return nil, err
	}
	return p, p.start(ctx, dir)
}

// create makes the server's data.
func (p *Postgres) create(ctx context.Context, options ...string) error {
	folder := filepath.Dir(p.data)
	credential, err := notRoot(folder)
	if err != nil {
		return err
	}
	p.credential = credential
	password := filepath.Join(folder, "password")
	if err := os.WriteFile(password, []byte(p.Password+"\n"), 0o644); err != nil { //nolint:gosec // the server's user reads it
		return err
	}
	initdb := exec.CommandContext(ctx, filepath.Join(p.Bin, "initdb"), append([]string{
		"-D", p.data, "-U", p.User,
		"-A", "scram-sha-256", "--pwfile", password, "-E", "UTF8", "--no-sync",
	}, options...)...)
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	initdb.Dir = folder
	if out, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w: %s", err, out)
	}
	config, err := os.OpenFile(filepath.Join(p.data, "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(config, postgresConfig, p.Port, p.SocketDir)
	if err := config.Close(); err != nil {
		return err
	}
	return err
}

// start runs the server; folder gets its log and is removed when it has ended.
func (p *Postgres) start(ctx context.Context, folder string) (err error) {
	p.alive, err = daemon(ctx, Daemon{
		Folder: folder, Path: filepath.Join(p.Bin, "postgres"), Args: []string{"-D", p.data},
		Credential: p.credential, Stop: syscall.SIGINT,
		Ready: func(log []byte) bool { return bytes.Contains(log, []byte("ready to accept connections")) },
	})
	return err
}

// OwnPostgreSQL starts a server that the test may stop and kill, with more options of initdb and its data below
// folder; by default a temporary one. It ends with the test.
func OwnPostgreSQL(tb testing.TB, folder string, options ...string) *Postgres {
	tb.Helper()
	initdb := Need(tb, "initdb", "apt-get install postgresql", "/usr/lib/postgresql/*/bin/initdb", "/usr/pgsql-*/bin/initdb")
	dir, err := os.MkdirTemp(fastFolder(), "orrery-postgresql-") //nolint:usetesting // in memory, and with a name short enough for a socket
	if err != nil {
		tb.Fatal(err)
	}
	if folder == "" {
		folder = dir
	}
	p := &Postgres{
		Host: "127.0.0.1", Port: FreePort(tb), SocketDir: dir, User: "orrery", Password: "sesame's \"secret\"",
		Bin: filepath.Dir(initdb), data: filepath.Join(folder, "data"),
	}
	tb.Cleanup(func() {
		if p.alive != nil {
			p.Stop(tb)
		}
		if err := os.RemoveAll(dir); err != nil {
			tb.Error(err)
		}
	})
	if _, err := notRoot(dir); err != nil {
		tb.Fatal(err)
	}
	if err := p.create(tb.Context(), options...); err != nil {
		tb.Fatal(err)
	}
	p.Start(tb)
	return p
}

// Start starts a server that was stopped or killed.
func (p *Postgres) Start(tb testing.TB) {
	tb.Helper()
	folder, err := os.MkdirTemp(p.SocketDir, "run-") //nolint:usetesting // what it is in belongs to the server's user
	if err == nil {
		_, err = notRoot(folder)
	}
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), time.Minute)
	defer cancel()
	if err := p.start(ctx, folder); err != nil {
		tb.Fatal(err)
	}
}

// Stop stops the server, and returns when all of its processes have ended.
func (p *Postgres) Stop(tb testing.TB) {
	tb.Helper()
	if err := p.alive.Close(); err != nil {
		tb.Error(err)
	}
	p.alive = nil
	p.gone(tb)
}

// Kill kills the server as a crash of the machine would.
func (p *Postgres) Kill(tb testing.TB) {
	tb.Helper()
	for _, pid := range p.processes(tb) {
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
	}
	p.Stop(tb)
}

func (p *Postgres) gone(tb testing.TB) {
	tb.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); len(p.processes(tb)) > 0; <-tick.C {
		if time.Now().After(end) {
			tb.Fatalf("the server in %s does not end", p.data)
		}
	}
}

// processes are the server's, all of which work in the folder of its data.
func (p *Postgres) processes(tb testing.TB) []int {
	tb.Helper()
	matches, err := filepath.Glob("/proc/[0-9]*/cwd")
	if err != nil {
		tb.Fatal(err)
	}
	var all []int
	for _, link := range matches {
		if folder, err := os.Readlink(link); err == nil && folder == p.data {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
				all = append(all, pid)
			}
		}
	}
	return all
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

// NewDatabase makes an empty database on the server, and is its URL. options follow CREATE DATABASE's name.
func (p *Postgres) NewDatabase(tb testing.TB, options string) string {
	tb.Helper()
	u := url.URL{Scheme: "postgres", User: url.UserPassword(p.User, p.Password), Host: net.JoinHostPort(p.Host, strconv.Itoa(p.Port)), Path: "postgres"}
	conn, err := pgx.Connect(tb.Context(), u.String())
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = conn.Close(tb.Context()) }()
	name := "test" + strings.ToLower(rand.Text())
	if _, err := conn.Exec(tb.Context(), "CREATE DATABASE "+name+" "+options); err != nil {
		tb.Fatal(err)
	}
	u.Path = name
	return u.String()
}
