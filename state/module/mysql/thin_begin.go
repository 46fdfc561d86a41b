package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"orrery/internal/command"
	"orrery/state"
	"orrery/state/module/internal/mark"
	"orrery/state/module/mysql/thin"
)

// ownSettings are those of a fork's server. Its events were copied too, and must not happen twice. A server that starts removes
// what it takes for left behind in its folder of temporary files: so this is its own.
const ownSettings = `[mariadbd]
bind-address = 127.0.0.1
port = %d
socket = %s
datadir = %s
tmpdir = %s
skip-log-bin
skip-slave-start
event-scheduler = OFF
innodb-flush-log-at-trx-commit = 2
`

// followed are settings without which a server cannot read the files, or would answer otherwise.
var followed = []string{
	"innodb_page_size", "innodb_data_file_path", "innodb_undo_tablespaces", "innodb_checksum_algorithm", "innodb_log_file_size", "innodb_buffer_pool_size",
	"lower_case_table_names", "character_set_server", "collation_server", "sql_mode", "time_zone", "max_allowed_packet", "max_connections",
	"explicit_defaults_for_timestamp", "skip_name_resolve", "local_infile",
}

// settings are the text of the server's file of settings.
func (f *thinFork) settings(ctx context.Context) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, ownSettings, f.port, f.Socket(), f.Data(), f.Temporary())
	for _, name := range followed {
		var value string
		if err := f.source.conn.QueryRowContext(ctx, "select @@global."+name).Scan(&value); err != nil {
			return "", err
		}
		if name == "time_zone" {
			name = "default_time_zone"
		}
		if strings.ContainsAny(value, "\"\\\n") {
			return "", fmt.Errorf("the server's setting %s has a quote, backslash or line end: %w %s", name, state.ErrNotAble, f.verb)
		}
		fmt.Fprintf(&b, "%s = \"%s\"\n", name, value)
	}
	return b.String(), nil
}

// begin starts the server, carries out what the source did since the base was taken, up to now, and makes it durable.
func (f *thinFork) begin(ctx context.Context) error {
	config, err := f.settings(ctx)
	if err != nil {
		return err
	}
	if f.follows {
		return f.beginReplica(ctx, config)
	}
	if err := f.Write(thin.ConfigName, config); err != nil {
		return err
	}
	end, err := f.source.logEnd(ctx)
	if err != nil {
		return err
	}
	// The mark is written when all is done: a fork that is not complete must not serve.
	k := forkMark{Method: state.ForkThin, Port: f.port, Database: f.source.name, Program: f.Program}
	s, p := k.at(f.into, f.source.server, f.source.props)
	if err := startAt(ctx, f.Copy, s, p); err != nil {
		return err
	}
	fork, err := openAt(ctx, s, p)
	if err != nil {
		return err
	}
	defer fork.close()
	// Nothing of it is kept if the machine fails meanwhile.
	if err := fork.exec(ctx, "set global innodb_flush_log_at_trx_commit = 0"); err != nil {
		return err
	}
	if err := f.catchUp(ctx, fork, end); err != nil {
		return fmt.Errorf("the copy does not reach the source's state: %w", err)
	}
	if err := fork.mustExist(ctx); err != nil {
		return err
	}
	if err := fork.exec(ctx, "set global innodb_flush_log_at_trx_commit = 2"); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return mark.Write(f.into, k)
}

// catchUp has the client carry out the source's binary log from where the base was taken to an end.
func (f *thinFork) catchUp(ctx context.Context, fork *database, end position) error {
	from, err := backedUpTo(f.base)
	if err != nil {
		return err
	}
	path, err := fork.tool("mariadb", "mysql")
	if err != nil {
		return err
	}
	client := command.Program{Path: path, Args: append(fork.connection(), "--binary-mode"), Env: fork.toolEnvironment(), Secrets: []string{fork.secret}}
	return client.Feed(ctx, func(w io.Writer) error { return f.readLog(ctx, from, end, w) })
}

// readLog writes what is in the source's binary log between two positions, as statements.
func (f *thinFork) readLog(ctx context.Context, from, to position, w io.Writer) error {
	if from.file == to.file && from.offset == to.offset {
		return nil
	}
	names, _, err := f.source.binaryLogs(ctx)
	if err != nil {
		return err
	}
	i, j := slices.Index(names, from.file), slices.Index(names, to.file)
	if i < 0 || j < i {
		return errors.New("the source's server removed its binary log meanwhile (set binlog_expire_logs_seconds)")
	}
	args := append(f.source.administration(), "--read-from-remote-server", "--verify-binlog-checksum",
		"--start-position="+strconv.FormatInt(from.offset, 10), "--stop-position="+strconv.FormatInt(to.offset, 10))
	return command.Program{
		Path: f.binlog, Args: append(args, names[i:j+1]...), Env: f.source.toolEnvironment(), Out: w, Secrets: []string{f.source.secret},
	}.Run(ctx)
}

// administration are the arguments by which a program that knows no character sets finds the server.
func (d *database) administration() []string {
	return slices.DeleteFunc(d.connection(), func(arg string) bool { return strings.HasPrefix(arg, "--default-character-set") })
}
