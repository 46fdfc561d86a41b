package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"orrery/state"
)

var (
	_ state.Integrity    = (*Module)(nil)
	_ state.Versioner    = (*Module)(nil)
	_ state.Sheller      = (*Module)(nil)
	_ state.Clients      = (*Module)(nil)
	_ state.Migrator     = (*Module)(nil)
	_ state.Itemizer     = (*Module)(nil)
	_ state.Presenter    = (*Module)(nil)
	_ state.PartRestorer = (*Module)(nil)
)

// Integrity reads the whole database, with its indexes, and follows its foreign keys.
func (m *Module) Integrity(ctx context.Context, t state.Target) error {
	return m.use(ctx, path(t), func(c *connection) error {
		result, err := c.text(ctx, "PRAGMA integrity_check(1)")
		if err != nil {
			return fmt.Errorf("cannot check %s: %w: %w", c.files.path, state.ErrCorrupt, err)
		}
		if result != "ok" {
			return fmt.Errorf("%s: %w: %s", c.files.path, state.ErrCorrupt, result)
		}
		dangling, err := c.number(ctx, "SELECT count(*) FROM pragma_foreign_key_check")
		if err != nil {
			return err
		}
		if dangling > 0 {
			return fmt.Errorf("%s: %w: %d rows refer to rows that do not exist", c.files.path, state.ErrCorrupt, dangling)
		}
		return nil
	})
}

// Version is that of the SQLite library in this program, which reads and writes the file.
func (m *Module) Version(ctx context.Context, t state.Target) (version string, err error) {
	err = m.use(ctx, path(t), func(c *connection) error {
		version, err = c.text(ctx, "SELECT 'SQLite ' || sqlite_version()")
		return err
	})
	return version, err
}

// Shell is the program sqlite3 on the database.
func (m *Module) Shell(_ context.Context, t state.Target, command string) (state.Command, error) {
	program, err := exec.LookPath("sqlite3")
	if err != nil {
		return state.Command{}, fmt.Errorf("program sqlite3 is not installed: %w (install the package sqlite3)", state.ErrNotFound)
	}
	c := state.Command{Path: program, Args: []string{path(t)}}
	if command != "" {
		c.Args = []string{"-batch", "-bail", path(t), " " + command} // a comment, --, is no option
	}
	return c, nil
}

// Clients counts other programs that have the database open: SQLite tells of one at most.
func (m *Module) Clients(_ context.Context, t state.Target) (n int, err error) {
	f, err := m.hold(path(t))
	if err != nil {
		return 0, err
	}
	pid, err := lockHolder(f.db)
	if pid != 0 {
		n = 1
	}
	return n, errors.Join(err, m.release(f))
}

// migrationTable has a row for each migration that was carried out.
const migrationTable = "orrery_migrations"

// Migrated reads the table of migrations.
func (m *Module) Migrated(ctx context.Context, t state.Target) (all []state.Migration, err error) {
	err = m.use(ctx, path(t), func(c *connection) error {
		n, err := c.number(ctx, "SELECT count(*) FROM sqlite_schema WHERE type='table' AND name='"+migrationTable+"'")
		if err != nil || n == 0 {
			return err
		}
		rows, err := c.QueryContext(ctx, "SELECT number, name, sha256, applied FROM "+migrationTable+" ORDER BY number")
		if err != nil {
			return err
		}
		defer func() { _ = rows.Close() }() // rows.Err says what went wrong
		for rows.Next() {
			var one state.Migration
			var applied string
			if err := rows.Scan(&one.Number, &one.Name, &one.SHA256, &applied); err != nil {
				return err
			}
			if one.Applied, err = time.Parse(time.RFC3339, applied); err != nil {
				return fmt.Errorf("%s: time of migration %s: %w", migrationTable, one.Name, err)
			}
			all = append(all, one)
		}
		return rows.Err()
	})
	return all, err
}

// Migrate carries out a script and records it in one transaction. A script that ends that transaction is an error,
// which leaves what it did before.
func (m *Module) Migrate(ctx context.Context, t state.Target, migration state.Migration, script []byte) error {
	return m.use(ctx, path(t), func(c *connection) error {
		if err := c.exec(ctx, "BEGIN IMMEDIATE"); err != nil {
			return err
		}
		err := c.exec(ctx, string(script),
			"CREATE TABLE IF NOT EXISTS "+migrationTable+"(number INTEGER PRIMARY KEY, name TEXT NOT NULL, sha256 TEXT NOT NULL, applied TEXT NOT NULL)")
		if err == nil {
			_, err = c.ExecContext(ctx, "INSERT INTO "+migrationTable+" VALUES(?, ?, ?, ?)",
				migration.Number, migration.Name, migration.SHA256, time.Now().UTC().Format(time.RFC3339))
		}
		if err != nil {
			_, _ = c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // closing the connection does so too
			return err
		}
		if err := c.exec(ctx, "COMMIT"); err != nil {
			return fmt.Errorf("the script ends the transaction that it is in: %w", err)
		}
		return nil
	})
}

// identifier quotes a name.
func identifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
