package mysql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"orrery/state"
	"orrery/state/module/internal/mark"
)

// Health implements state.Doctor: the server answers and has the database.
func (m *Module) Health(ctx context.Context, t state.Target) error {
	if c, ok, err := thinOf(t); err != nil || ok && !c.Running() {
		return errors.Join(err, fmt.Errorf("the server of %s does not run: %w", t.Component.Ref(), state.ErrInactive))
	}
	return m.with(ctx, t, "reach", func(d *database) error {
		return inOrder(func() error { return d.mustServe(ctx) }, func() error { return d.notLost(ctx) })
	})
}

// Size implements state.Sizer, by the server's statistics.
func (m *Module) Size(ctx context.Context, t state.Target) (int64, error) {
	var size int64
	err := m.with(ctx, t, "measure", func(d *database) error {
		if err := d.mustExist(ctx); err != nil {
			return err
		}
		return d.conn.QueryRowContext(ctx, "select cast(coalesce(sum(data_length + index_length), 0) as signed) from information_schema.tables where table_schema = ?",
			d.place()).Scan(&size)
	})
	return size, err
}

// Integrity implements state.Integrity by CHECK TABLE.
func (m *Module) Integrity(ctx context.Context, t state.Target) error {
	return m.with(ctx, t, "check", func(d *database) error {
		if err := d.mustExist(ctx); err != nil {
			return err
		}
		tables, err := d.tables(ctx, d.place())
		if err != nil {
			return err
		}
		var damage []error
		for _, table := range tables {
			if err := d.checkTable(ctx, table); err != nil {
				damage = append(damage, err)
			}
		}
		return errors.Join(damage...)
	})
}

func (d *database) checkTable(ctx context.Context, table string) error {
	rows, err := d.conn.QueryContext(ctx, "check table "+quote(d.place())+"."+quote(table))
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err says what was wrong
	for rows.Next() {
		var name, op, kind, text string
		if err := rows.Scan(&name, &op, &kind, &text); err != nil {
			return err
		}
		if strings.EqualFold(kind, "error") || strings.EqualFold(kind, "status") && text != "OK" {
			return fmt.Errorf("table %q: %w: %s", table, state.ErrCorrupt, text)
		}
	}
	return rows.Err()
}

// Clients implements state.Clients: the sessions whose database this is.
func (m *Module) Clients(ctx context.Context, t state.Target) (int, error) {
	var n int
	err := m.with(ctx, t, "ask for the clients of", func(d *database) error {
		return d.conn.QueryRowContext(ctx, "select count(*) from information_schema.processlist where db = ? and id <> connection_id()", d.name).Scan(&n)
	})
	return n, err
}

// Shell implements state.Sheller.
func (m *Module) Shell(ctx context.Context, t state.Target, script string) (state.Command, error) {
	var c state.Command
	k, err := mark.Read[forkMark](t)
	if err != nil {
		return c, err
	}
	err = m.with(ctx, t, "open a shell on", func(d *database) (err error) {
		if err := d.mustServe(ctx); err != nil {
			return err
		}
		if k.Method == state.ForkReplica { // whose administrator can write
			d.server.User = k.User
		}
		c, err = d.shell(script)
		return err
	})
	return c, err
}

// Version implements state.Versioner.
func (m *Module) Version(ctx context.Context, t state.Target) (string, error) {
	var version string
	err := m.with(ctx, t, "reach", func(d *database) error {
		number, _, _ := strings.Cut(d.version, "-")
		if version = "MySQL " + number; d.mariaDB() {
			version = "MariaDB " + number
		}
		return nil
	})
	return version, err
}

// Migrated implements state.Migrator.
func (m *Module) Migrated(ctx context.Context, t state.Target) ([]state.Migration, error) {
	var all []state.Migration
	err := m.with(ctx, t, "read the migrations of", func(d *database) error {
		if found, err := d.hasTable(ctx, d.name, migrations); err != nil || !found {
			return errors.Join(err, d.mustServe(ctx))
		}
		rows, err := d.conn.QueryContext(ctx, "select number, name, sha256, applied from "+quote(d.name)+"."+migrations+" order by number")
		if err != nil {
			return err
		}
		defer rows.Close() //nolint:errcheck // rows.Err says what was wrong
		for rows.Next() {
			var one state.Migration
			if err := rows.Scan(&one.Number, &one.Name, &one.SHA256, &one.Applied); err != nil {
				return err
			}
			all = append(all, one)
		}
		return rows.Err()
	})
	return all, err
}

// Migrate implements state.Migrator. The server commits before and after each statement that changes a schema, so an
// error may leave a part.
func (m *Module) Migrate(ctx context.Context, t state.Target, step state.Migration, script []byte) error {
	if err := refuseReplica(t, "migrate"); err != nil {
		return err
	}
	return m.with(ctx, t, fmt.Sprintf("carry out migration %s of", step.Name), func(d *database) error {
		if err := inOrder(func() error { return d.recover(ctx) }, func() error { return d.mustServe(ctx) }); err != nil {
			return err
		}
		table := quote(d.name) + "." + migrations
		if _, err := d.conn.ExecContext(ctx, "create table if not exists "+table+
			" (number int primary key, name varchar(255) not null, sha256 char(64) not null, applied datetime not null) engine=InnoDB character set utf8mb4"); err != nil {
			return err
		}
		if _, err := d.conn.ExecContext(ctx, "set unique_checks = 1, foreign_key_checks = 1"); err != nil {
			return err
		}
		if err := d.statements(ctx, d.name, bytes.NewReader(script)); err != nil {
			return err
		}
		_, err := d.conn.ExecContext(ctx, "insert into "+table+" values (?, ?, ?, ?)", step.Number, step.Name, step.SHA256, step.Applied.UTC())
		return err
	})
}

// Extension implements state.Portable.
func (*Module) Extension() string { return ".sql" }

// Export implements state.Portable: a snapshot is what the mariadb and mysql clients load.
func (*Module) Export(ctx context.Context, snapshot io.Reader, w io.Writer) error {
	r, err := openSnapshot(snapshot)
	if err != nil {
		return err
	}
	return errors.Join(canonicalise(r, w), ctx.Err())
}

// Import implements state.Portable. It takes what Export wrote, or a dump of one database by mariadb-dump or mysqldump.
func (*Module) Import(ctx context.Context, plain io.Reader, w io.Writer) error {
	start := make([]byte, len(magic))
	n, err := io.ReadFull(plain, start)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	end := rawEndMarker
	if string(start[:n]) == magic {
		end = endMarker
	}
	return errors.Join(canonicalise(newReader(io.MultiReader(bytes.NewReader(start[:n]), plain), end), w), ctx.Err())
}
