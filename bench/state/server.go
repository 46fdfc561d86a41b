package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// server is a PostgreSQL server with the settings of its package but for the place.
type server struct {
	bin    string
	dir    string
	port   int
	secret string
	cmd    *exec.Cmd
}

// containers describes the server for orrery, in a folder of its own.
func (p *server) containers(dir string) error {
	text, err := json.Marshal([]map[string]any{{
		"name": "postgresql-database", "module": "postgresql-database",
		"properties": map[string]any{
			"host": p.dir, "port": p.port, "user": "postgres", "passwordFile": p.passwordFile(), "forks": filepath.Join(p.dir, "forks"),
		},
	}})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "containers.json"), text, 0o600)
}

func (p *server) passwordFile() string { return filepath.Join(p.dir, "password") }

// variables are what the client programs need.
func (p *server) variables() []string {
	return []string{
		"PGHOST=" + p.dir, "PGPORT=" + strconv.Itoa(p.port), "PGUSER=postgres", "PGPASSWORD=" + p.secret, "PATH=" + p.bin + ":" + os.Getenv("PATH"),
	}
}

func (b *bench) startServer() (*server, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		return nil, errors.Join(err, errors.New("needs a PostgreSQL server (apt-get install postgresql)"))
	}
	p := &server{bin: found[len(found)-1], dir: filepath.Join(b.dir, "pg"), secret: rand.Text()}
	if err := os.Mkdir(p.dir, 0o755); err != nil { //nolint:gosec // clients of other users connect in it
		return nil, err
	}
	if err := os.WriteFile(p.passwordFile(), []byte(p.secret+"\n"), 0o644); err != nil { //nolint:gosec // the server's user reads it, for as long as this runs
		return nil, err
	}
	credential, err := p.owner()
	if err != nil {
		return nil, err
	}
	if p.port, err = freePort(b); err != nil {
		return nil, err
	}
	data := filepath.Join(p.dir, "data")
	initdb := exec.CommandContext(b.ctx, filepath.Join(p.bin, "initdb"), "-D", data, "-U", "postgres", "-A", "scram-sha-256",
		"--pwfile", p.passwordFile(), "-E", "UTF8", "--locale", "C")
	initdb.Dir, initdb.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: credential}
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	p.cmd = exec.Command(filepath.Join(p.bin, "postgres"), "-D", data, "-k", p.dir, "-c", "listen_addresses=127.0.0.1", "-p", strconv.Itoa(p.port)) //nolint:noctx // stopped by stop
	p.cmd.Dir, p.cmd.SysProcAttr = p.dir, &syscall.SysProcAttr{Credential: credential, Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	return p, until(b.ctx, func() bool {
		_, err := b.shell("psql -qc 'select 1' postgres >/dev/null", p.variables()...)
		return err == nil
	})
}

// owner is who the server runs as, and gets its folder: PostgreSQL refuses root.
func (p *server) owner() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // the caller's own
	}
	account, err := user.Lookup("postgres")
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
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, os.Chown(p.dir, int(uid), int(gid))
}

func (p *server) stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGINT); err != nil {
		return err
	}
	killer := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() })
	defer killer.Stop()
	return p.cmd.Wait()
}

func freePort(b *bench) (int, error) {
	var config net.ListenConfig
	l, err := config.Listen(b.ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("no TCP address")
	}
	return address.Port, l.Close()
}
