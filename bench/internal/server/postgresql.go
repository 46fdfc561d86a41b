package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// PostgreSQL is a server with the settings of its package but for the place: it is reached by a socket, and its files are below a folder.
type PostgreSQL struct {
	dir, bin   string
	credential *syscall.Credential
	process    *Process
}

// StartPostgreSQL makes a server below a folder that its user can reach, and starts it.
func StartPostgreSQL(ctx context.Context, dir string) (*PostgreSQL, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		return nil, errors.Join(err, errors.New("needs a PostgreSQL server (apt-get install postgresql)"))
	}
	p := &PostgreSQL{dir: dir, bin: found[len(found)-1]}
	if err := p.own(); err != nil {
		return nil, err
	}
	if out, err := p.command(ctx, "initdb", "-D", filepath.Join(dir, "data"), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale", "C").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	cmd := p.command(context.WithoutCancel(ctx), "postgres", "-D", filepath.Join(dir, "data"), "-k", dir, "-c", "listen_addresses=", "-c", "max_connections=200")
	credential := cmd.SysProcAttr.Credential
	if p.process, err = start(cmd, filepath.Join(dir, "log"), credential); err != nil {
		return nil, err
	}
	for end := time.Now().Add(time.Minute); ; {
		if p.command(ctx, "psql", "-h", dir, "-U", "postgres", "-c", "SELECT 1").Run() == nil {
			return p, nil
		}
		if time.Now().After(end) {
			return nil, errors.Join(errors.New("PostgreSQL does not start"), p.Stop())
		}
	}
}

// own gives the folder to the user postgres where the program runs as root, whom PostgreSQL refuses.
func (p *PostgreSQL) own() error {
	if err := os.MkdirAll(p.dir, 0o755); err != nil || os.Geteuid() != 0 { //nolint:gosec // clients of other users connect in it
		return err
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return err
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	p.credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)} //nolint:gosec // numbers of users
	return os.Chown(p.dir, uid, gid)
}

func (p *PostgreSQL) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.SysProcAttr, cmd.Dir = &syscall.SysProcAttr{Credential: p.credential}, p.dir
	return cmd
}

// NewDatabase makes an empty database, and is its URL.
func (p *PostgreSQL) NewDatabase(ctx context.Context) (string, error) {
	name := "bench" + strings.ToLower(rand.Text())
	out, err := p.command(ctx, "psql", "-h", p.dir, "-U", "postgres", "-c", "CREATE DATABASE "+name).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return "postgres://postgres@/" + name + "?host=" + p.dir, nil
}

// Used is the processor time of all of its processes, also of those that have ended and were waited for.
func (p *PostgreSQL) Used() time.Duration {
	var sum time.Duration
	links, _ := filepath.Glob("/proc/[0-9]*/cwd")
	for _, link := range links {
		if at, err := os.Readlink(link); err == nil && at == filepath.Join(p.dir, "data") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(link)))
			sum += Used(pid)
		}
	}
	return sum
}

// Stop ends the server.
func (p *PostgreSQL) Stop() error { return p.process.Stop(syscall.SIGINT) }
