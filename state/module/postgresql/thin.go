package postgresql

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"orrery/internal/command"
	"orrery/state"
	"orrery/state/module/postgresql/thin"
)

// maxBehind is how far, in bytes of the source's log, a base may be behind until a fork takes a new one: it replays that
// much.
const maxBehind = 256 << 20

// thinCopy is where a component's thin fork is, or would be.
func thinCopy(t state.Target, s server) (thin.Copy, error) {
	owner, err := thin.Owner()
	return thin.Copy{Folder: forkFolder(t, s), Owner: owner}, err
}

func forkFolder(t state.Target, s server) string {
	return filepath.Join(forksFolder(t, s), "fork-"+digest(t.Component.Ref().String()))
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
		s, err := decodeContainer(into.Container)
		if err != nil {
			return err
		}
		p, err := decodeComponent(into.Component)
		if err != nil {
			return err
		}
		c, err := thinCopy(into, s)
		if err != nil {
			return err
		}
		if c.Bin, err = source.serverBin(ctx); err != nil {
			return err
		}
		if _, err := os.Lstat(c.Folder); err == nil {
			return fmt.Errorf("%s exists: %w (collect the garbage of %s first)", c.Folder, state.ErrInUse, into.Component.Ref())
		}
		f := &thinFork{Copy: c, source: source, folder: forksFolder(into, s), name: p.Database}
		began := time.Now()
		if err = f.make(ctx); err == nil {
			err = writeMark(into, mark{Method: state.ForkThin, Port: f.port, Bin: c.Bin})
		}
		if err != nil {
			return errors.Join(err, f.Stop(ctx), f.Remove())
		}
		m.log.InfoContext(ctx, "thin fork", "component", into.Component.Ref().String(), "by", f.how, "base", f.base, "port", f.port, "took", time.Since(began))
		return nil
	})
}

// thinFork is a thin fork that is being made.
type thinFork struct {
	thin.Copy
	source *database
	folder string
	name   string // of the database, in the fork
	base   string
	how    string
	port   int
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
	unlock, err := lockFolder(ctx, f.folder)
	if err != nil {
		return err
	}
	defer unlock()
	if f.base, err = f.freshBase(ctx); err != nil {
		return err
	}
	if f.how, err = f.Make(ctx, f.base); err != nil {
		return err
	}
	if f.port, err = freePort(ctx); err != nil {
		return err
	}
	return f.begin(ctx)
}

// check finds why there cannot be a thin fork of the source.
func (f *thinFork) check(ctx context.Context) error {
	var level string
	var senders, spaces int
	err := f.source.admin.QueryRow(ctx, `select current_setting('wal_level'), current_setting('max_wal_senders')::int,
		(select count(*) from pg_tablespace where spcname not in ('pg_default', 'pg_global'))`).Scan(&level, &senders, &spaces)
	switch {
	case err != nil:
		return err
	case level == "minimal" || senders < 3:
		return fmt.Errorf("the server takes no base backups: %w (set wal_level = replica and max_wal_senders = 10)", state.ErrNotAble)
	case spaces > 0:
		return fmt.Errorf("the server has tablespaces: %w fork it thin", state.ErrNotAble)
	case f.source.secret == "":
		return fmt.Errorf("the container has no password, and the fork's server lets nobody in without one: %w fork it thin (set passwordFile)", state.ErrNotAble)
	}
	if err := os.MkdirAll(f.folder, 0o755); err != nil { //nolint:gosec // the server's user passes through
		return err
	}
	if err := (command.Program{Path: "/usr/bin/test", Args: []string{"-x", f.folder}, Credential: f.Owner}).Run(ctx); err != nil {
		return fmt.Errorf("the user postgres cannot reach %s (set the container's forks to a folder that it can reach): %w", f.folder, state.ErrNotAble)
	}
	return nil
}

// freshBase returns a base backup that the source's log still leads on from, and takes one if there is none.
func (f *thinFork) freshBase(ctx context.Context) (string, error) {
	prefix := filepath.Join(f.folder, "base-"+digest(f.source.server.address())+"-")
	bases, err := filepath.Glob(prefix + "*")
	if err != nil {
		return "", err
	}
	for _, base := range bases {
		if strings.HasSuffix(base, ".new") {
			_ = os.RemoveAll(base) // of a process that was killed
			continue
		}
		if usable, err := f.usable(ctx, base); err != nil || usable {
			return base, err
		}
		if err := f.dropUnused(base); err != nil {
			return "", err
		}
	}
	base := prefix + time.Now().UTC().Format("20060102150405.000000")
	if err := os.Mkdir(base+".new", 0o700); err != nil {
		return "", err
	}
	if f.Owner != nil {
		if err := os.Chown(base+".new", int(f.Owner.Uid), int(f.Owner.Gid)); err != nil {
			return "", err
		}
	}
	err = command.Program{
		Path: filepath.Join(f.Bin, "pg_basebackup"), Args: []string{"-D", base + ".new", "-X", "fetch", "-c", "fast", "--no-password"},
		Env: f.source.shellEnvironment(), Credential: f.Owner, Secrets: []string{f.source.secret},
	}.Run(ctx)
	if err == nil {
		err = os.Rename(base+".new", base)
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(base+".new"))
	}
	return base, nil
}

// usable says whether the source still has the log from where the base begins, and is not far ahead.
func (f *thinFork) usable(ctx context.Context, base string) (bool, error) {
	label, err := os.ReadFile(filepath.Join(base, "backup_label"))
	if err != nil {
		return false, nil //nolint:nilerr // not whole, so a new one is taken
	}
	var lsn, file string
	if _, err := fmt.Sscanf(string(label), "START WAL LOCATION: %s (file %24s", &lsn, &file); err != nil {
		return false, nil //nolint:nilerr // see above
	}
	var usable bool
	err = f.source.admin.QueryRow(ctx, `select exists (select from pg_ls_waldir() where name = $1)
		and pg_wal_lsn_diff(pg_current_wal_insert_lsn(), $2::text::pg_lsn) between 0 and $3::bigint`, file, lsn, int64(maxBehind)).Scan(&usable)
	return usable, err
}

// dropUnused removes a base that no overlay lies over.
func (f *thinFork) dropUnused(base string) error {
	forks, err := filepath.Glob(filepath.Join(f.folder, "fork-*"))
	if err != nil {
		return err
	}
	for _, fork := range forks {
		if lower, err := (thin.Copy{Folder: fork}).Lower(); err != nil || lower == base {
			return err
		}
	}
	return os.RemoveAll(base)
}

// followed are settings that a server which replays another one's log must have at least as large, and what its databases may need.
const followed = `select coalesce(string_agg(format('%s = ''%s''', name, replace(setting, '''', '''''')), E'\n'), '') from pg_settings where name in
	('max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions', 'max_locks_per_transaction', 'shared_preload_libraries',
	'timezone', 'default_text_search_config', 'datestyle', 'intervalstyle', 'search_path')`

// begin starts the server as a standby of the source, waits until it has all that the source had when it was asked, and makes it
// a server by itself.
func (f *thinFork) begin(ctx context.Context) error {
	var settings, target string
	if err := f.source.admin.QueryRow(ctx, followed).Scan(&settings); err != nil {
		return err
	}
	if err := f.source.admin.QueryRow(ctx, "select pg_current_wal_insert_lsn()::text").Scan(&target); err != nil {
		return err
	}
	const own = "listen_addresses = '127.0.0.1'\nport = %d\nunix_socket_directories = ''\nfsync = off\nfull_page_writes = off\nhot_standby = on\nwal_level = replica\n" +
		"archive_mode = off\nssl = off\nlogging_collector = off\nmin_wal_size = 32MB\n%s\n"
	config := fmt.Sprintf(own, f.port, settings)
	pass := filepath.Join(f.Data(), "orrery.pass")
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace
	s := f.source.server
	info := fmt.Sprintf("host=%s port=%d user=%s sslmode=%s passfile=%s application_name=orrery", quoteValue(s.Host), s.Port, quoteValue(s.User), s.SSLMode, quoteValue(pass))
	for name, content := range map[string]string{
		"postgresql.auto.conf": "", "standby.signal": "", "orrery.pass": "*:*:*:*:" + escape(f.source.secret) + "\n",
		thin.HBAName:    "host all all 127.0.0.1/32 scram-sha-256\n",
		thin.ConfigName: config + "primary_conninfo = '" + strings.ReplaceAll(info, "'", "''") + "'\n",
	} {
		if err := f.Write(name, content); err != nil {
			return err
		}
	}
	if err := f.Start(ctx); err != nil {
		return err
	}
	if err := f.catchUp(ctx, target); err != nil {
		return err
	}
	if err := os.Remove(pass); err != nil {
		return err
	}
	return f.Write(thin.ConfigName, config)
}

// catchUp waits, promotes, and gives the database its name in the fork.
func (f *thinFork) catchUp(ctx context.Context, target string) error {
	d := *f.source
	d.server.Host, d.server.Port, d.server.SSLMode = "127.0.0.1", f.port, "disable"
	conn, err := d.connect(ctx, d.server.Database)
	if err != nil {
		return err
	}
	defer closeConn(ctx, conn)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for there := false; !there; {
		if err := conn.QueryRow(ctx, "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", target).Scan(&there); err != nil {
			return fmt.Errorf("the copy does not reach the source's state (its server says: %s): %w", tail(filepath.Join(f.Data(), "log")), err)
		}
		if there {
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the copy does not reach the source's state (its server says: %s): %w", tail(filepath.Join(f.Data(), "log")), ctx.Err())
		case <-tick.C:
		}
	}
	var promoted bool
	if err := conn.QueryRow(ctx, "select pg_promote(true, 60)").Scan(&promoted); err != nil || !promoted {
		return errors.Join(err, errors.New("the copy's server was not promoted"))
	}
	if f.name != f.source.name {
		if _, err := conn.Exec(ctx, "alter database "+quote(f.source.name)+" rename to "+quote(f.name)); err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, "alter database "+quote(f.name)+" reset "+fence)
	return err
}

func tail(path string) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(content[max(0, len(content)-500):]))
}

func freePort(ctx context.Context) (int, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	address, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("no port: %v", l.Addr())
	}
	return address.Port, nil
}

// thinOf returns a component's thin fork; ok is false if it is none.
func thinOf(t state.Target) (c thin.Copy, ok bool, err error) {
	k, err := readMark(t)
	if err != nil || k.Method != state.ForkThin {
		return c, false, err
	}
	s, err := decodeContainer(t.Container)
	if err != nil {
		return c, true, err
	}
	c, err = thinCopy(t, s)
	c.Bin = k.Bin
	return c, true, err
}

// serve has the server of a thin fork run while an operation works on it; end stops it again if it did not run.
func serve(ctx context.Context, t state.Target) (end func() error, err error) {
	nothing := func() error { return nil }
	c, ok, err := thinOf(t)
	if err != nil || !ok {
		return nothing, err
	}
	if c.Running() {
		return nothing, nil
	}
	if err := c.Start(ctx); err != nil {
		return nothing, err
	}
	return func() error { return c.Stop(ctx) }, nil
}

// removeThin removes the server of a thin fork, also of one that did not come into being.
func removeThin(ctx context.Context, t state.Target) (was bool, err error) {
	c, ok, err := thinOf(t)
	if err != nil {
		return ok, err
	}
	if !ok { // perhaps one that was killed before it was marked
		s, err := decodeContainer(t.Container)
		if err != nil {
			return false, err
		}
		c.Folder, c.Bin = forkFolder(t, s), anyControl()
	}
	if _, err := os.Lstat(c.Folder); errors.Is(err, fs.ErrNotExist) {
		return ok, nil
	}
	if c.Owner, err = thin.Owner(); err != nil {
		return ok, err
	}
	if err := c.Stop(ctx); err != nil {
		return ok, err
	}
	return ok, c.Remove()
}

func anyControl() string {
	for _, folder := range (&database{}).toolFolders() {
		if executable(filepath.Join(folder, "pg_ctl")) {
			return folder
		}
	}
	return ""
}

// startThin starts the server of a thin fork, for good.
func startThin(ctx context.Context, t state.Target) error {
	c, ok, err := thinOf(t)
	if err == nil && ok {
		err = c.Start(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot start the server of %s: %w", t.Component.Ref(), err)
	}
	return nil
}
