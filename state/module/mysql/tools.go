package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"orrery/internal/command"
	"orrery/state"
)

// tool finds a program of MariaDB or MySQL, best that of the server's maker.
func (d *database) tool(mariadb, mysql string) (string, error) {
	names := []string{mysql, mariadb}
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
		r.events, r.awake = events, d.server.replicated
		return read(r)
	})
}

// dumpInto has the dump tool's output read. What it fails with counts before what the reader made of it.
func (d *database) dumpInto(ctx context.Context, name string, read func(*reader) error, more ...string) error {
	path, special, err := d.dumpTool(ctx)
	if err != nil {
		return err
	}
	args := append(d.connection(), "--single-transaction", "--quick", "--skip-dump-date", "--comments", "--order-by-primary",
		"--routines", "--triggers", "--events", "--hex-blob", "--no-tablespaces", "--net-buffer-length=1M", "--max-allowed-packet=1G")
	args = append(append(append(args, special...), more...), "--", name)
	var generated map[string]columns
	if special == nil && !d.mariaDB() {
		if generated, err = d.generatedColumns(ctx, name); err != nil {
			return err
		}
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := command.Program{Path: path, Args: args, Env: d.toolEnvironment(), Out: w, Secrets: []string{d.secret}}.Run(ctx)
		w.CloseWithError(err)
		done <- err
	}()
	raw := newReader(r, rawEndMarker)
	raw.columns = generated
	err = read(raw)
	r.CloseWithError(errStopped)
	ran := <-done
	if ran != nil && !errors.Is(ran, errStopped) {
		return ran
	}
	return err
}

// dumpTool finds the dump tool and the arguments that not every one knows.
func (d *database) dumpTool(ctx context.Context) (path string, special []string, err error) {
	if path, err = d.tool("mariadb-dump", "mysqldump"); err != nil {
		return "", nil, err
	}
	said, err := command.Program{Path: path, Args: []string{"--no-defaults", "--version"}}.Output(ctx, 1<<12)
	if err != nil {
		return "", nil, err
	}
	special, err = toolArguments(string(said), d.mariaDB())
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", path, err)
	}
	return path, special, nil
}

var toolVersion = regexp.MustCompile(`(?:Distrib|Ver) (\d+)\.(\d+)\.\d+`)

// toolArguments are the arguments for a tool of MySQL, by what it says of its version: they leave out what belongs to the
// server and not to the database, and statistics, which 8.0 asks for where older servers and MariaDB have none.
func toolArguments(said string, mariaDB bool) ([]string, error) {
	if strings.Contains(said, "MariaDB") {
		return nil, nil
	}
	if mariaDB {
		return nil, fmt.Errorf("%w dump a MariaDB database with MySQL's tool, which leaves out sequences (apt-get install mariadb-client, or set the container's tools)", state.ErrNotAble)
	}
	all := []string{"--set-gtid-purged=OFF"}
	if v := toolVersion.FindStringSubmatch(said); v != nil && len(v[1]) == 1 && v[1] >= "8" {
		all = append(all, "--column-statistics=0")
	}
	return all, nil
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
