package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"orrery/state"
)

const suffixPart = ".part"

// RestorePart brings back one table as a snapshot has it: its definition, rows, indexes and triggers, in one transaction,
// while clients go on. Views, and the triggers of other tables, stay as they are.
func (m *Module) RestorePart(ctx context.Context, t state.Target, snapshot io.Reader, part string) (err error) {
	db := path(t)
	side := db + suffixPart
	if err := remove(side); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove(side)) }()
	if err := receive(ctx, side, snapshot); err != nil {
		return err
	}
	return m.use(ctx, db, func(c *connection) error {
		if _, err := c.ExecContext(ctx, "ATTACH ? AS part", side); err != nil {
			return err
		}
		return errors.Join(c.replaceTable(ctx, part), c.exec(context.WithoutCancel(ctx), "DETACH part"))
	})
}

// replaceTable makes a table of the database what the attached one has.
func (c *connection) replaceTable(ctx context.Context, table string) error {
	kind, rowids, err := c.tableKind(ctx, table)
	if err != nil {
		return err
	}
	if kind != "table" || strings.HasPrefix(table, "sqlite_") {
		return fmt.Errorf("%w: it is a %s table (restore all of the database)", state.ErrNotAble, kind)
	}
	columns, err := c.columns(ctx, table, rowids)
	if err != nil {
		return err
	}
	definitions, err := c.definitions(ctx, table)
	if err != nil {
		return err
	}
	// Dropping a table would otherwise delete what refers to its rows.
	if err := c.exec(ctx, "PRAGMA foreign_keys=off", "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := c.fillTable(ctx, table, columns, definitions); err != nil {
		_, _ = c.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") // closing the connection does so too
		return err
	}
	return c.exec(ctx, "COMMIT")
}

func (c *connection) fillTable(ctx context.Context, table string, columns, definitions []string) error {
	const dangling = "SELECT count(*) FROM pragma_foreign_key_check"
	before, err := c.number(ctx, dangling)
	if err != nil {
		return err
	}
	name, list := identifier(table), strings.Join(columns, ",")
	statements := []string{
		"DROP TABLE IF EXISTS main." + name,
		definitions[0],
		"INSERT INTO main." + name + "(" + list + ") SELECT " + list + " FROM part." + name,
	}
	if err := c.exec(ctx, append(statements, definitions[1:]...)...); err != nil {
		return err
	}
	if err := c.copySequence(ctx, table); err != nil {
		return err
	}
	after, err := c.number(ctx, dangling)
	if err != nil {
		return err
	}
	if after > before {
		return fmt.Errorf("%d rows would refer to rows that do not exist (restore all of the database, or the other tables first)", after-before)
	}
	return nil
}

// tableKind is what the attached database has of that name, and whether its rows have numbers of their own.
func (c *connection) tableKind(ctx context.Context, table string) (kind string, rowids bool, err error) {
	rows, err := c.QueryContext(ctx, "SELECT type, wr FROM pragma_table_list WHERE schema='part' AND name=? AND type<>'view'", table)
	if err != nil {
		return "", false, err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what went wrong
	if !rows.Next() {
		return "", false, errors.Join(rows.Err(), fmt.Errorf("table %q in the snapshot: %w", table, state.ErrNotFound))
	}
	var without bool
	err = rows.Scan(&kind, &without)
	return kind, !without, err
}

// columns are the columns that can be written, with the row's number where that has a name.
func (c *connection) columns(ctx context.Context, table string, rowids bool) (quoted []string, err error) {
	rows, err := c.QueryContext(ctx, "SELECT name, hidden FROM pragma_table_xinfo(?, 'part')", table)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what went wrong
	var names []string
	for rows.Next() {
		var name string
		var hidden int
		if err := rows.Scan(&name, &hidden); err != nil {
			return nil, err
		}
		names = append(names, strings.ToLower(name))
		if hidden == 0 {
			quoted = append(quoted, identifier(name))
		}
	}
	for _, alias := range []string{"rowid", "oid", "_rowid_"} {
		if rowids && !slices.Contains(names, alias) {
			quoted = append([]string{alias}, quoted...)
			break
		}
	}
	return quoted, rows.Err()
}

// definitions are the statements that make the table, its indexes and its triggers, in that order.
func (c *connection) definitions(ctx context.Context, table string) (all []string, err error) {
	rows, err := c.QueryContext(ctx, `SELECT sql FROM part.sqlite_schema WHERE tbl_name=? AND type IN ('table', 'index', 'trigger')
		AND sql IS NOT NULL ORDER BY type<>'table', type<>'index', name`, table)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what went wrong
	for rows.Next() {
		var definition string
		if err := rows.Scan(&definition); err != nil {
			return nil, err
		}
		all = append(all, definition)
	}
	return all, rows.Err()
}

// copySequence copies the last number that an AUTOINCREMENT table gave.
func (c *connection) copySequence(ctx context.Context, table string) error {
	n, err := c.number(ctx, "SELECT count(*) FROM part.sqlite_schema WHERE name='sqlite_sequence'")
	if err != nil || n == 0 {
		return err
	}
	if n, err = c.number(ctx, "SELECT count(*) FROM main.sqlite_schema WHERE name='sqlite_sequence'"); err != nil || n == 0 {
		return err
	}
	if _, err := c.ExecContext(ctx, "DELETE FROM main.sqlite_sequence WHERE name=?", table); err != nil {
		return err
	}
	_, err = c.ExecContext(ctx, "INSERT INTO main.sqlite_sequence(name, seq) SELECT name, seq FROM part.sqlite_sequence WHERE name=?", table)
	return err
}
