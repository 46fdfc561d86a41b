package mysql

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"orrery/internal/command"
	"orrery/internal/cow"
	"orrery/state"
)

// maxBehind is how far, in bytes of the source's binary log, a base may be behind until a fork takes a new one: it carries
// out that much again.
const maxBehind = 256 << 20

// position is a place in the source's binary log.
type position struct {
	file     string
	offset   int64
	filtered bool // the log leaves databases out
}

// logEnd is where the binary log ends. Whatever was committed before is in front of it.
func (d *database) logEnd(ctx context.Context) (position, error) {
	var p position
	var include, exclude string
	err := d.conn.QueryRowContext(ctx, "show master status").Scan(&p.file, &p.offset, &include, &exclude)
	p.filtered = include+exclude != ""
	return p, err
}

// binaryLogs are the files of the binary log that are still there, oldest first.
func (d *database) binaryLogs(ctx context.Context) (names []string, sizes []int64, err error) {
	rows, err := d.conn.QueryContext(ctx, "show binary logs")
	if err != nil {
		return nil, nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err says what was wrong
	for rows.Next() {
		var name string
		var size int64
		if err := rows.Scan(&name, &size); err != nil {
			return nil, nil, err
		}
		names, sizes = append(names, name), append(sizes, size)
	}
	return names, sizes, rows.Err()
}

// freshBase returns a prepared backup that the source's log still leads on from, and takes one if there is none.
func (f *thinFork) freshBase(ctx context.Context) (string, error) {
	var uid string // another one's log may have the same names
	if err := f.source.conn.QueryRowContext(ctx, "select concat(@@hostname, ' ', @@datadir, ' ', @@server_id)").Scan(&uid); err != nil {
		return "", err
	}
	return cow.Bases{
		Folder: f.folder, Source: digest(f.source.server.address() + " " + uid), Usable: f.usable, Take: f.newBase,
	}.Fresh(ctx)
}

// baseAttempts bounds how often a backup is taken again because somebody changed a schema meanwhile.
const baseAttempts = 5

// newBase takes a backup while no schema changes: tables that are made or renamed under mariadb-backup may be missing in what it
// makes, and it does not say so.
func (f *thinFork) newBase(ctx context.Context, into string) error {
	for range baseAttempts {
		if err := os.RemoveAll(into); err != nil {
			return err
		}
		from, err := f.source.logEnd(ctx)
		if err != nil {
			return err
		}
		if err := f.backUp(ctx, into); err != nil {
			return err
		}
		to, err := backedUpTo(into)
		if err != nil {
			return err
		}
		var changed schemaChange
		if err := f.readLog(ctx, from, to, &changed); err != nil {
			return err
		}
		if !changed.found {
			return nil
		}
	}
	return fmt.Errorf("tables are made, changed or dropped on the server all the time, also of other databases, so that no backup of it is whole: %w (try again)", state.ErrInUse)
}

// schemaChange finds statements that change a schema in the text of a binary log. What only looks like one counts too.
type schemaChange struct {
	found bool
	line  []byte // that is not complete
}

var (
	changesSchema = regexp.MustCompile(`(?i)\b(create|drop|alter|rename|truncate|optimize|repair)\b`)
	onlyTemporary = regexp.MustCompile(`(?i)\b(create|drop)\b[^a-z]*\d*[^a-z]*temporary\b`)
)

// maxLine is how much of a line is looked at.
const maxLine = 4 << 10

// Write implements io.Writer.
func (c *schemaChange) Write(b []byte) (int, error) {
	for rest := b; len(rest) > 0; {
		line, after, ended := bytes.Cut(rest, []byte{'\n'})
		c.line = append(c.line, line[:min(len(line), maxLine-min(maxLine, len(c.line)))]...)
		if ended {
			c.found = c.found || changesSchema.Match(c.line) && !onlyTemporary.Match(c.line)
			c.line = c.line[:0]
		}
		rest = after
	}
	return len(b), nil
}

// backUp takes a backup of the running server, and makes it one that a server starts on without having to recover.
func (f *thinFork) backUp(ctx context.Context, into string) error {
	var data string
	if err := f.source.conn.QueryRowContext(ctx, "select @@datadir").Scan(&data); err != nil {
		return err
	}
	if err := os.Mkdir(into, 0o700); err != nil {
		return err
	}
	if f.Owner != nil {
		if err := os.Chown(into, int(f.Owner.Uid), int(f.Owner.Gid)); err != nil {
			return err
		}
	}
	run := func(args ...string) error {
		return command.Program{Path: f.backup, Args: args, Env: f.source.toolEnvironment(), Credential: f.Owner, Secrets: []string{f.source.secret}}.Run(ctx)
	}
	if err := run(append(f.source.administration(), "--backup", "--target-dir="+into, "--datadir="+data)...); err != nil {
		return err
	}
	return run("--no-defaults", "--prepare", "--target-dir="+into)
}

// backedUpTo is where the source's binary log was when a base was taken.
func backedUpTo(base string) (position, error) {
	var p position
	for _, name := range []string{"mariadb_backup_binlog_info", "xtrabackup_binlog_info"} {
		content, err := os.ReadFile(filepath.Join(base, name))
		if err != nil {
			continue
		}
		if fields := strings.Fields(string(content)); len(fields) >= 2 {
			p.file = fields[0]
			p.offset, err = strconv.ParseInt(fields[1], 10, 64)
			return p, err
		}
	}
	return p, fmt.Errorf("the base %s does not say where the binary log was", base)
}

// usable says whether the source still has the log from where the base ends, and is not far ahead.
func (f *thinFork) usable(ctx context.Context, base string) (bool, error) {
	from, err := backedUpTo(base)
	if err != nil {
		return false, nil //nolint:nilerr // not whole, so a new one is taken
	}
	names, sizes, err := f.source.binaryLogs(ctx)
	if err != nil {
		return false, err
	}
	i := slices.Index(names, from.file)
	if i < 0 || sizes[i] < from.offset {
		return false, nil
	}
	behind := -from.offset
	for _, size := range sizes[i:] {
		behind += size
	}
	return behind <= maxBehind, nil
}
