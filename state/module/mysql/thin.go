package mysql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"orrery/internal/command"
	"orrery/internal/cow"
	"orrery/state"
	"orrery/state/module/mysql/thin"
)

// thinFork is a thin fork, or a replica, that is being made.
type thinFork struct {
	thin.Copy
	source  *database
	into    state.Target
	verb    string // what is being done, for errors
	follows bool   // it goes on reading the log: it is a replica
	folder  string
	base    string
	how     string
	port    int
	backup  string // programs of the server's version
	binlog  string
}

// thin makes a second server, on a copy of a physical backup that shares its storage, and brings it to where the source is.
func (m *Module) thin(ctx context.Context, from, into state.Target) error {
	return m.with(ctx, from, "fork", func(source *database) error {
		return m.secondServer(ctx, into, &thinFork{source: source, into: into, verb: "fork it thin"})
	})
}

// secondServer makes the server of a fork or replica. An error leaves nothing of it.
func (m *Module) secondServer(ctx context.Context, into state.Target, f *thinFork) error {
	if err := inOrder(func() error { return f.source.recover(ctx) }, func() error { return f.source.mustServe(ctx) }); err != nil {
		return err
	}
	s, err := decodeContainer(into.Container)
	if err != nil {
		return err
	}
	f.Copy, f.folder = thinCopy(into, s, forkMark{}), forksFolder(into, s)
	if _, err := os.Lstat(f.Folder); err == nil {
		return fmt.Errorf("%s exists: %w (collect the garbage of %s first)", f.Folder, state.ErrInUse, into.Component.Ref())
	}
	began := time.Now()
	if err := f.make(ctx); err != nil {
		return errors.Join(err, f.Kill(ctx), f.Remove())
	}
	m.log.InfoContext(ctx, "second server", "component", into.Component.Ref().String(), "replica", f.follows, "by", f.how, "base", f.base,
		"port", f.port, "took", time.Since(began))
	return nil
}

func (f *thinFork) make(ctx context.Context) (err error) {
	if f.Owner, err = thin.Owner(); err != nil {
		return err
	}
	if err := f.check(ctx); err != nil {
		return err
	}
	if err := f.findPrograms(ctx); err != nil {
		return err
	}
	if err := f.share(ctx); err != nil {
		return err
	}
	if f.port, err = cow.FreePort(ctx); err != nil {
		return err
	}
	return f.begin(ctx)
}

// check finds why there cannot be a thin fork of the source.
func (f *thinFork) check(ctx context.Context) error {
	if !f.source.mariaDB() {
		return fmt.Errorf("the server is not MariaDB, whose mariadb-backup takes the base: %w %s (fork by copy)", state.ErrNotAble, f.verb)
	}
	var logs bool
	var format, encrypted string
	if err := f.source.conn.QueryRowContext(ctx, "select @@log_bin, @@binlog_format, @@innodb_encrypt_tables").Scan(&logs, &format, &encrypted); err != nil {
		return err
	}
	switch {
	case !logs:
		return fmt.Errorf("the server keeps no binary log, which brings a base to where the server is: %w %s (set log_bin and restart it)", state.ErrNotAble, f.verb)
	case format == "STATEMENT":
		return fmt.Errorf("binlog_format is STATEMENT, which does not lead to the same rows again: %w %s (set it to MIXED or ROW)", state.ErrNotAble, f.verb)
	case encrypted != "OFF":
		return fmt.Errorf("the server encrypts its tables: %w %s", state.ErrNotAble, f.verb)
	}
	at, err := f.source.logEnd(ctx)
	if err != nil {
		return err
	}
	if at.filtered {
		return fmt.Errorf("the binary log leaves databases out (binlog_do_db, binlog_ignore_db): %w %s", state.ErrNotAble, f.verb)
	}
	if len(f.Socket()) > 100 {
		return fmt.Errorf("the path %s is too long for a socket: %w %s (set the container's forks to a shorter folder)", f.Folder, state.ErrNotAble, f.verb)
	}
	if err := os.MkdirAll(f.folder, 0o755); err != nil { //nolint:gosec // the server's user passes through
		return err
	}
	if err := (command.Program{Path: "/usr/bin/test", Args: []string{"-x", f.folder}, Credential: f.Owner}).Run(ctx); err != nil {
		return fmt.Errorf("the user mysql cannot reach %s (set the container's forks to a folder that it can reach): %w", f.folder, state.ErrNotAble)
	}
	return nil
}

// findPrograms finds the server's programs, of its version: files of another one may not be read.
func (f *thinFork) findPrograms(ctx context.Context) error {
	number, _, _ := strings.Cut(f.source.version, "-")
	for name, path := range map[string]*string{"mariadbd": &f.Program, "mariadb-backup": &f.backup, "mariadb-binlog": &f.binlog} {
		found, err := find(f.source.server.Tools, name)
		if err != nil {
			return fmt.Errorf("%s %s: %w on this machine (apt-get install mariadb-server mariadb-backup)", name, number, err)
		}
		*path = found
		if name == "mariadb-binlog" { // reads the logs of all versions
			continue
		}
		said, err := (command.Program{Path: "/bin/sh", Args: []string{"-c", `exec "$0" --version 2>&1`, found}}).Output(ctx, 1<<12)
		if err != nil {
			return err
		}
		if !strings.Contains(string(said), number+"-MariaDB") {
			return fmt.Errorf("%s is not of the server's version %s: %w %s", found, number, state.ErrNotAble, f.verb)
		}
	}
	return nil
}

// find finds a program, in a folder or where servers' programs are.
func find(folder, name string) (string, error) {
	for _, folder := range []string{folder, "/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"} {
		if folder == "" {
			continue
		}
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil && filepath.IsAbs(path) {
			return path, nil
		}
	}
	return "", state.ErrNotFound
}

// share makes the copy of a base. Nobody else makes or removes bases meanwhile.
func (f *thinFork) share(ctx context.Context) error {
	unlock, err := cow.Lock(ctx, f.folder)
	if err != nil {
		return err
	}
	defer unlock()
	if f.base, err = f.freshBase(ctx); err != nil {
		return err
	}
	f.how, err = f.Make(ctx, f.base)
	return err
}
