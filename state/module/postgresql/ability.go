package postgresql

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"github.com/jackc/pgx/v5"

	"orrery/state"
)

// Shell implements state.Sheller: it is psql, connected as the container's user.
func (m *Module) Shell(ctx context.Context, t state.Target, commandText string) (state.Command, error) {
	var shell state.Command
	err := m.with(ctx, t, "open a shell in", func(d *database) error {
		found, err := d.tools(ctx)
		if err != nil {
			return err
		}
		if exists, err := d.exists(ctx, d.name); err != nil || !exists {
			return errors.Join(err, fmt.Errorf("database %q %w on the server at %s", d.name, state.ErrNotFound, d.server.address()))
		}
		shell = state.Command{Path: found.psql, Args: []string{"--no-password"}, Env: d.shellEnvironment()}
		if commandText != "" {
			shell.Args = append(shell.Args, "--no-psqlrc", "--set=ON_ERROR_STOP=1", "--command="+commandText)
		}
		return nil
	})
	return shell, err
}

// shellEnvironment is what a person's psql connects by. What belongs to dumps is left to their own settings.
func (d *database) shellEnvironment() []string {
	var env []string
	for _, variable := range d.toolEnvironment(d.name, "") {
		name, _, _ := strings.Cut(variable, "=")
		if name != "PGOPTIONS" && name != "PGTZ" {
			env = append(env, variable)
		}
	}
	return env
}

// Version implements state.Versioner.
func (m *Module) Version(ctx context.Context, t state.Target) (string, error) {
	var version string
	err := m.with(ctx, t, "ask the version of", func(d *database) error {
		return d.admin.QueryRow(ctx, "select split_part(current_setting('server_version'), ' ', 1)").Scan(&version)
	})
	if err != nil {
		return "", err
	}
	return "PostgreSQL " + version, nil
}

// Beside implements state.Neighbor: a component without the property has a database of its own name.
func (*Module) Beside(c state.Component, name string) state.Component {
	c.Name = name
	c.Properties = maps.Clone(c.Properties)
	delete(c.Properties, "database")
	return c
}

// Clients counts the sessions of the component's database that are not this module's.
func (m *Module) Clients(ctx context.Context, t state.Target) (int, error) {
	var n int
	err := m.with(ctx, t, "count the clients of", func(d *database) error {
		return d.admin.QueryRow(ctx, `select count(*) from pg_stat_activity
			where datname = $1 and backend_type = 'client backend' and application_name <> 'orrery'`, d.name).Scan(&n)
	})
	return n, err
}

// Extension implements state.Portable.
func (*Module) Extension() string { return ".sql" }

// Export implements state.Portable: what psql reads. The first line stays where the rows are in order, so that Import knows it.
func (*Module) Export(_ context.Context, snapshot io.Reader, w io.Writer) error {
	body, err := openDump(snapshot)
	if err != nil {
		return err
	}
	if body.version > 1 {
		if _, err := io.WriteString(w, magic2); err != nil {
			return err
		}
	}
	_, err = io.Copy(w, body)
	return err
}

// Import implements state.Portable: what Export wrote, or what pg_dump writes in its plain format, best with --no-owner.
func (*Module) Import(_ context.Context, plain io.Reader, w io.Writer) error {
	head := bufio.NewReader(plain)
	if begin, err := head.Peek(len(magicBegin)); err == nil && string(begin) == magicBegin {
		body, err := openDump(head)
		if err != nil {
			return err
		}
		begin := map[int]string{1: magic, 2: magic2}[body.version]
		_, err = io.Copy(w, io.MultiReader(strings.NewReader(begin), body))
		return err
	}
	c := &canonical{w: w, begin: magic}
	if _, err := io.Copy(struct{ io.Writer }{c}, head); err != nil {
		return err
	}
	if err := c.finish(endMarker); err != nil {
		return fmt.Errorf("not a whole plain dump of pg_dump: %w", err)
	}
	return nil
}

// Integrity implements state.Integrity: by the server's amcheck, which looks at heaps and B-trees, where the
// server has it and the container's user may use it; else every row is read. The log says which.
func (m *Module) Integrity(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "check", func(d *database) error {
		conn, err := d.connect(ctx, d.name)
		if err != nil {
			return err
		}
		defer closeConn(ctx, conn)
		how := "amcheck"
		err = amcheck(ctx, conn, d.major)
		if hasCode(err, "0A000") || hasCode(err, "58P01") || hasCode(err, "42501") || hasCode(err, "25006") { // no such extension file, not allowed, or a standby
			how = "reading every row"
			err = readAll(ctx, conn)
		}
		m.log.InfoContext(ctx, "integrity looked at", "component", t.Component.Ref().String(), "by", how)
		if hasCode(err, "XX001") || hasCode(err, "XX002") {
			err = fmt.Errorf("%w: %w", state.ErrCorrupt, err)
		}
		return err
	})
}

// amcheck uses the extension in a transaction that is rolled back, so that it leaves nothing in the database.
func amcheck(ctx context.Context, conn *pgx.Conn, major int) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(ctx) }() // the connection is closed next
	var schema string
	err = tx.QueryRow(ctx, "select nspname from pg_extension e join pg_namespace n on n.oid = extnamespace where extname = 'amcheck'").Scan(&schema)
	if errors.Is(err, pgx.ErrNoRows) {
		schema = "orrery_amcheck"
		_, err = tx.Exec(ctx, "create schema orrery_amcheck; create extension amcheck schema orrery_amcheck")
	}
	if err != nil {
		return err
	}
	q := quote(schema)
	_, err = tx.Exec(ctx, "select "+q+`.bt_index_check(c.oid, true) from pg_class c join pg_index i on i.indexrelid = c.oid
		where c.relam = (select oid from pg_am where amname = 'btree') and c.relkind = 'i' and indisvalid and indisready and c.relpersistence = 'p'`)
	if err != nil || major < 14 { // it checks heaps since 14
		return err
	}
	var damage string
	err = tx.QueryRow(ctx, `select coalesce(string_agg(format('%s block %s: %s', c.oid::regclass, v.blkno, v.msg), '; '), '') from
		pg_class c, lateral (select * from `+q+`.verify_heapam(c.oid, on_error_stop => true) limit 1) v
		where c.relkind in ('r', 'm', 't') and c.relpersistence = 'p'`).Scan(&damage)
	if err == nil && damage != "" {
		err = fmt.Errorf("%w: %s", state.ErrCorrupt, damage)
	}
	return err
}

func readAll(ctx context.Context, conn *pgx.Conn) error {
	tables, err := names(ctx, conn, `select format('%I.%I', nspname, relname) from pg_class c join pg_namespace n on n.oid = relnamespace
		where relkind in ('r', 'm') and nspname <> 'information_schema' and nspname !~ '^pg_'`)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if _, err := conn.PgConn().CopyTo(ctx, io.Discard, "copy (select * from only "+table+") to stdout"); err != nil {
			return fmt.Errorf("table %s: %w", table, err)
		}
	}
	return nil
}

// querier is a connection or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// names collects a column of text.
func names(ctx context.Context, q querier, sql string, args ...any) ([]string, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
