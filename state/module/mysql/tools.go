package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"orrery/internal/command"
	"orrery/state"
)

// tool finds a program of MariaDB or MySQL.
func (d *database) tool(mariadb, mysql string) (string, error) {
	names := []string{mysql}
	if d.mariaDB() {
		names = []string{mariadb, mysql}
	}
	for _, name := range names {
		if d.server.Tools != "" {
			name = filepath.Join(d.server.Tools, name)
		}
		if path, err := exec.LookPath(name); err == nil && filepath.IsAbs(path) {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w (apt-get install mariadb-client or mysql-client, or set the container's tools)", names[0], state.ErrNotFound)
}

// connection are the arguments by which a client program finds the server. The password is in the environment.
func (d *database) connection() []string {
	args := []string{"--no-defaults", "--user=" + d.server.User, "--default-character-set=utf8mb4"}
	if d.server.Socket != "" {
		return append(args, "--socket="+d.server.Socket)
	}
	return append(args, "--protocol=tcp", "--host="+d.server.Host, "--port="+strconv.Itoa(d.server.Port))
}

func (d *database) toolEnvironment() []string {
	if d.secret == "" {
		return nil
	}
	return []string{"MYSQL_PWD=" + d.secret}
}

// dump writes the component's canonical dump.
func (d *database) dump(ctx context.Context, w io.Writer) error {
	return d.read(ctx, func(r *reader) error { return canonicalise(r, w) })
}

// read has the component's dump read, as it is when the component is active.
func (d *database) read(ctx context.Context, read func(*reader) error) error {
	events, err := d.sleepers(ctx)
	if err != nil {
		return err
	}
	return d.dumpInto(ctx, d.place(), func(r *reader) error {
		r.events = events
		return read(r)
	})
}

// dumpInto has the dump tool's output read. What it fails with counts before what the reader made of it.
func (d *database) dumpInto(ctx context.Context, name string, read func(*reader) error, more ...string) error {
	path, err := d.tool("mariadb-dump", "mysqldump")
	if err != nil {
		return err
	}
	args := append(d.connection(), "--single-transaction", "--quick", "--skip-dump-date", "--comments", "--order-by-primary",
		"--routines", "--triggers", "--events", "--hex-blob", "--no-tablespaces", "--net-buffer-length=1M", "--max-allowed-packet=1G")
	if !d.mariaDB() {
		args = append(args, "--set-gtid-purged=OFF", "--column-statistics=0")
	}
	args = append(append(args, more...), "--", name)
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := command.Program{Path: path, Args: args, Env: d.toolEnvironment(), Out: w, Secrets: []string{d.secret}}.Run(ctx)
		w.CloseWithError(err)
		done <- err
	}()
	err = read(newReader(r, rawEndMarker))
	r.CloseWithError(errStopped)
	ran := <-done
	if ran != nil && !errors.Is(ran, errStopped) {
		return ran
	}
	return err
}

var errStopped = errors.New("the dump is not read on")

// shell is the client program.
func (d *database) shell(script string) (state.Command, error) {
	path, err := d.tool("mariadb", "mysql")
	if err != nil {
		return state.Command{}, err
	}
	args := append(d.connection(), "--comments", "--database="+d.name) // comments in triggers are a part of them
	if strings.TrimSpace(script) != "" {
		args = append(args, "--execute="+script)
	}
	return state.Command{Path: path, Args: args, Env: d.toolEnvironment()}, nil
}
