package postgresql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"orrery/internal/command"
	"orrery/internal/cow"
	"orrery/state"
	"orrery/state/module/internal/mark"
	"orrery/state/module/postgresql/thin"
)

// thinCopy is where a component's thin fork is, or would be.
func thinCopy(t state.Target, s server) (thin.Copy, error) {
	owner, err := thin.Owner()
	return thin.Copy{Copy: cow.Copy{Folder: forkFolder(t, s), Owner: owner}}, err
}

func forkFolder(t state.Target, s server) string {
	return filepath.Join(forksFolder(t, s), "fork-"+digest(t.Directory)) // nobody else's, also where several share a folder of forks
}

func forksFolder(t state.Target, s server) string {
	if s.Forks != "" {
		return s.Forks
	}
	return filepath.Join(t.Container.Directory, "forks")
}

// thin makes a second server, on a copy of a base backup that shares its storage, and brings it to where the source is.
func (m *Module) thin(ctx context.Context, from, into state.Target) error {
	return m.with(ctx, from, "fork", func(source *database) error {
		p, err := decodeComponent(into.Component)
		if err != nil {
			return err
		}
		return m.secondServer(ctx, into, &thinFork{source: source, name: p.Database, mark: forkMark{Method: state.ForkThin}})
	})
}

// secondServer makes the server of a fork or replica. An error leaves nothing of it.
func (m *Module) secondServer(ctx context.Context, into state.Target, f *thinFork) error {
	s, err := decodeContainer(into.Container)
	if err != nil {
		return err
	}
	if f.Copy, err = thinCopy(into, s); err != nil {
		return err
	}
	if f.Bin, err = f.source.serverBin(ctx); err != nil {
		return err
	}
	if _, err := os.Lstat(f.Folder); err == nil {
		return fmt.Errorf("%s exists: %w (collect the garbage of %s first)", f.Folder, state.ErrInUse, into.Component.Ref())
	}
	f.folder = forksFolder(into, s)
	began := time.Now()
	if err = f.make(ctx); err == nil {
		f.mark.Port, f.mark.Bin = f.port, f.Bin
		err = mark.Write(into, f.mark)
	}
	if err != nil {
		return errors.Join(err, f.Stop(ctx), f.Remove())
	}
	m.log.InfoContext(ctx, "second server", "component", into.Component.Ref().String(), "method", f.mark.Method, "by", f.how, "base", f.base,
		"port", f.port, "took", time.Since(began))
	return nil
}

// thinFork is a thin fork, or a replica, that is being made.
type thinFork struct {
	thin.Copy
	source  *database
	folder  string
	name    string // of the database, in the fork
	mark    forkMark
	follows bool // it stays a standby: it is a replica
	base    string
	stale   string // a base that the source's log does not lead on from
	how     string
	port    int
}

// serverBin is the folder of the server's programs of its version.
func (d *database) serverBin(ctx context.Context) (string, error) {
	for _, folder := range d.toolFolders() {
		if executable(filepath.Join(folder, "pg_ctl")) && executable(filepath.Join(folder, "postgres")) && toolMajor(ctx, filepath.Join(folder, "pg_ctl")) == d.major {
			return folder, nil
		}
	}
	return "", fmt.Errorf("pg_ctl and postgres of PostgreSQL %d: %w on this machine (apt-get install postgresql-%d)", d.major, state.ErrNotFound, d.major)
}

func (f *thinFork) make(ctx context.Context) error {
	if err := f.check(ctx); err != nil {
		return err
	}
	if err := f.keepLog(ctx); err != nil {
		return err
	}
	err := f.attempt(ctx)
	if errors.Is(err, errLogGone) { // cannot happen twice: the log from here on is kept
		f.stale = f.base
		if err := errors.Join(f.Stop(ctx), f.Remove()); err != nil {
			return err
		}
		err = f.attempt(ctx)
	}
	return err
}

// keepLog has the source's server keep its log from its last checkpoint on, for as long as the operation is connected to it.
func (f *thinFork) keepLog(ctx context.Context) error {
	_, err := f.source.admin.Exec(ctx, "select pg_create_physical_replication_slot('orrery_' || pg_backend_pid(), true, true)")
	return err
}

func (f *thinFork) attempt(ctx context.Context) (err error) {
	if err := f.share(ctx); err != nil {
		return err
	}
	if f.port, err = cow.FreePort(ctx); err != nil {
		return err
	}
	return f.begin(ctx)
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

// check finds why there cannot be a thin fork of the source.
func (f *thinFork) check(ctx context.Context) error {
	var level string
	var senders, spaces int
	var standby, super bool
	err := f.source.admin.QueryRow(ctx, `select current_setting('wal_level'), current_setting('max_wal_senders')::int, pg_is_in_recovery(),
		(select rolsuper from pg_roles where rolname = current_user),
		(select count(*) from pg_tablespace where spcname not in ('pg_default', 'pg_global'))`).Scan(&level, &senders, &standby, &super, &spaces)
	verb := "fork it thin"
	if f.follows {
		verb = "replicate it"
	}
	switch {
	case err != nil:
		return err
	case !super:
		return fmt.Errorf("user %q is no superuser: %w %s (set the container's user to one)", f.source.server.User, state.ErrNotAble, verb)
	case standby:
		return fmt.Errorf("the server is a standby: %w %s (do that with the server that it follows)", state.ErrNotAble, verb)
	case level == "minimal" || senders < 3:
		return fmt.Errorf("the server takes no base backups: %w %s (set wal_level = replica and max_wal_senders = 10)", state.ErrNotAble, verb)
	case spaces > 0:
		return fmt.Errorf("the server has tablespaces: %w %s", state.ErrNotAble, verb)
	case f.source.secret == "":
		return fmt.Errorf("the container has no password, and the copy's server lets nobody in without one: %w %s (set passwordFile)", state.ErrNotAble, verb)
	}
	if err := os.MkdirAll(f.folder, 0o755); err != nil { //nolint:gosec // the server's user passes through
		return err
	}
	if err := (command.Program{Path: "/usr/bin/test", Args: []string{"-x", f.folder}, Credential: f.Owner}).Run(ctx); err != nil {
		return fmt.Errorf("the user postgres cannot reach %s (set the container's forks to a folder that it can reach): %w", f.folder, state.ErrNotAble)
	}
	return nil
}
