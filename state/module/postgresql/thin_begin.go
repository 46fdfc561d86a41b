package postgresql

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"orrery/state/module/postgresql/thin"
)

// followed are settings that a server which replays another one's log must have at least as large, and what its databases may need.
const followed = `select coalesce(string_agg(format('%s = ''%s''', name, replace(setting, '''', '''''')), E'\n'), ''), current_setting('server_version_num')::int from pg_settings where name in
	('max_connections', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions', 'max_locks_per_transaction', 'shared_preload_libraries',
	'timezone', 'default_text_search_config', 'datestyle', 'intervalstyle', 'search_path')`

// ownSettings are those of a fork's server. Subscriptions were copied too, and must not take changes that are the source's.
const ownSettings = `listen_addresses = '127.0.0.1'
port = %d
unix_socket_directories = ''
hot_standby = on
wal_level = replica
archive_mode = off
ssl = off
lc_messages = 'C'
max_logical_replication_workers = 0
min_wal_size = 32MB
synchronous_commit = off
include_if_exists = 'orrery_source.conf'
`

// catchingUp are settings until the copy is complete: nothing of it is kept if the machine fails before.
const catchingUp = `fsync = off
full_page_writes = off
wal_retrieve_retry_interval = '100ms'
`

// What a server that reads the source's log has beside its settings: how it does, and the password.
const (
	sourceName = "orrery_source.conf"
	passName   = "orrery.pass"
)

// begin starts the server as a standby of the source, waits until it has all that the source had when it was asked, and makes it
// a server by itself.
func (f *thinFork) begin(ctx context.Context) error {
	source, err := f.source.connect(ctx, f.source.name)
	if err != nil {
		return err
	}
	defer closeConn(ctx, source)
	config, err := settings(ctx, source, f.port)
	if err != nil {
		return err
	}
	if err := f.writeSettings(config); err != nil {
		return err
	}
	if err := f.writeSource(); err != nil {
		return err
	}
	before, err := positions(ctx, source)
	if err != nil {
		return err
	}
	end, err := logged(ctx, source)
	if err != nil {
		return err
	}
	if err := f.Start(ctx); err != nil {
		return err
	}
	fork, err := f.connect(ctx, f.source.server.Database)
	if err != nil {
		return err
	}
	defer closeConn(ctx, fork)
	if err := f.catchUp(ctx, fork, end); err != nil {
		return err
	}
	if f.follows {
		return f.Sync()
	}
	if err := becomePrimary(ctx, fork); err != nil {
		return err
	}
	if err := f.settle(ctx, source, before); err != nil {
		return err
	}
	if err := f.rename(ctx, fork); err != nil {
		return err
	}
	return f.harden(ctx, fork)
}

// settings are those that the copy's server keeps.
func settings(ctx context.Context, source *pgx.Conn, port int) (text string, err error) {
	var version int
	if err := source.QueryRow(ctx, followed).Scan(&text, &version); err != nil {
		return "", err
	}
	text = fmt.Sprintf(ownSettings, port) + text + "\n"
	if version >= 140000 { // after a crash; else the server opens each file, and an overlay copies each that is opened
		text += "recovery_init_sync_method = syncfs\n"
	}
	return text, nil
}

func (f *thinFork) writeSettings(config string) error {
	for name, content := range map[string]string{
		"postgresql.auto.conf": "", "standby.signal": "",
		thin.HBAName:    "host all all 127.0.0.1/32 md5\n", // which is scram-sha-256 for passwords that are stored so
		thin.ConfigName: config,
	} {
		if err := f.Write(name, content); err != nil {
			return err
		}
	}
	return nil
}

// writeSource writes how the copy's server reads the source's log.
func (f *thinFork) writeSource() error {
	while := catchingUp
	if f.follows {
		while = replicaSettings
	}
	return writeSource(f.Copy, f.source.server, f.source.secret, while)
}

func writeSource(c thin.Copy, s server, secret, settings string) error {
	pass := filepath.Join(c.Data(), passName)
	escape := strings.NewReplacer(`\`, `\\`, ":", `\:`).Replace
	info := fmt.Sprintf("host=%s port=%d user=%s sslmode=%s passfile=%s application_name=orrery", quoteValue(s.Host), s.Port, quoteValue(s.User), s.SSLMode, quoteValue(pass))
	if err := c.Write(passName, "*:*:*:*:"+escape(secret)+"\n"); err != nil {
		return err
	}
	return c.Write(sourceName, settings+"primary_conninfo = '"+strings.ReplaceAll(info, "'", "''")+"'\n")
}

// logged writes a record into the source's log and returns where it ends. Whatever was committed before is in front of it. The
// end of the log by itself may be one that no standby reaches until somebody writes.
func logged(ctx context.Context, source *pgx.Conn) (end string, err error) {
	err = pgx.BeginFunc(ctx, source, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local synchronous_commit = local"); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "select pg_logical_emit_message(true, 'orrery', 'fork')::text").Scan(&end)
	})
	return end, err
}

// connect opens a connection to a database of the copy's server.
func (f *thinFork) connect(ctx context.Context, name string) (*pgx.Conn, error) {
	d := *f.source
	d.server = forkMark{Port: f.port}.at(d.server)
	return d.connect(ctx, name)
}

// errLogGone says that the source's server removed what a base is behind.
var errLogGone = errors.New("the source's server removed its log (set wal_keep_size)")

// replayLimit is how long the copy may take to replay what it is behind, which maxBehind bounds.
const replayLimit = 5 * time.Minute

// catchUp waits until the copy has the log up to an end.
func (f *thinFork) catchUp(ctx context.Context, fork *pgx.Conn, end string) error {
	err := awaitReplay(ctx, fork, end, func() bool { return strings.Contains(f.LastWords(), "has already been removed") })
	if err != nil {
		return fmt.Errorf("the copy does not reach the source's state (its server says: %s): %w", f.LastWords(), err)
	}
	return nil
}

// awaitReplay waits until a standby has the log up to an end, or that is gone.
func awaitReplay(ctx context.Context, standby *pgx.Conn, end string, gone func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, replayLimit)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		var there bool
		if err := standby.QueryRow(ctx, "select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", end).Scan(&there); err != nil || there {
			return err
		}
		if gone() {
			return errLogGone
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// becomePrimary makes a standby a server by itself, with all that it has read.
func becomePrimary(ctx context.Context, fork *pgx.Conn) error {
	var promoted bool
	if err := fork.QueryRow(ctx, "select pg_promote(true, 60)").Scan(&promoted); err != nil || !promoted {
		return errors.Join(err, errors.New("the copy's server was not promoted"))
	}
	return nil
}

func (f *thinFork) settle(ctx context.Context, source *pgx.Conn, before map[uint32]position) error {
	fork, err := f.connect(ctx, f.source.name)
	if err != nil {
		return err
	}
	defer closeConn(ctx, fork)
	return settle(ctx, source, fork, before)
}

// rename gives the database its name in the fork.
func (f *thinFork) rename(ctx context.Context, fork *pgx.Conn) error {
	if f.name != f.source.name {
		if _, err := fork.Exec(ctx, "alter database "+quote(f.source.name)+" rename to "+quote(f.name)); err != nil {
			return err
		}
	}
	_, err := fork.Exec(ctx, "alter database "+quote(f.name)+" reset "+fence)
	return err
}

// harden makes the copy one that outlives a failure of the machine: the server syncs from now on, and the system what it
// has written until now.
func (f *thinFork) harden(ctx context.Context, fork *pgx.Conn) error {
	if err := forgetSource(f.Copy); err != nil {
		return err
	}
	for _, statement := range []string{"select pg_reload_conf()", "checkpoint"} {
		if _, err := fork.Exec(ctx, statement); err != nil {
			return err
		}
	}
	return f.Sync()
}

// forgetSource removes how the server reads the source's log.
func forgetSource(c thin.Copy) error {
	for _, name := range []string{sourceName, passName} {
		if err := os.Remove(filepath.Join(c.Data(), name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
