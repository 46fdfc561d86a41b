package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A swap moves the component's tables to the side database previous and those of next to the component's database, in
// one RENAME TABLE. Triggers, views, routines and events cannot move between databases: they are dropped before it and
// made after it. So that a crash in between can be undone, the side database journal has the statements that make the old
// ones, from before the first is dropped until all is done; and a table that moves along tells whether
// the RENAME was carried out.
const (
	markTable = "orrery-mark"
	// freshTable, in the journal, says that there was no database before.
	freshTable = "fresh"
	// swapAttempts bounds how often clients that hold tables in transactions are ended.
	swapAttempts = 5
)

const lockTimeout = 1205

// replace fills the side database and puts its content into the place of the component's. On an error the database
// is as it was.
func (d *database) replace(ctx context.Context, fill func() error) error {
	options, err := d.options(ctx)
	if err == nil {
		err = d.createSide(ctx, d.next, options)
	}
	if err == nil {
		err = fill()
	}
	if err == nil {
		err = d.swap(ctx, options)
	}
	if err != nil {
		return errors.Join(err, d.cleanUp(ctx))
	}
	return d.dropSides(ctx)
}

// cleanUp undoes what was begun, also after ctx ended, which closed the connection.
func (d *database) cleanUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	_ = d.conn.Close()
	if err := d.connect(ctx); err != nil {
		return err
	}
	return d.recover(ctx)
}

// recover undoes a swap that was interrupted and removes the side databases.
func (d *database) recover(ctx context.Context) error {
	begun, err := d.exists(ctx, d.journal)
	if err == nil && begun {
		begun, err = d.hasTable(ctx, d.journal, "done")
	}
	if err == nil && begun {
		err = d.undo(ctx)
	}
	if err != nil {
		return fmt.Errorf("cannot undo an interrupted restore of %q: %w", d.name, err)
	}
	return d.dropSides(ctx)
}

func (d *database) hasTable(ctx context.Context, schema, table string) (bool, error) {
	found, err := d.strings(ctx, "select 1 from information_schema.tables where table_schema = ? and table_name = ?", schema, table)
	return len(found) > 0, err
}

// dropSides removes the side databases; the journal first, so that nothing is undone half.
func (d *database) dropSides(ctx context.Context) error {
	if _, err := d.conn.ExecContext(ctx, "set foreign_key_checks = 0"); err != nil {
		return err
	}
	for _, name := range []string{d.journal, d.next, d.previous} {
		if err := d.drop(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) swap(ctx context.Context, options string) error {
	objects, err := d.objects(ctx, d.next)
	if err != nil {
		return err
	}
	objects = append(objects, d.events...)
	if err := d.createSide(ctx, d.previous, options); err != nil {
		return err
	}
	if err := d.dropObjects(ctx, d.next); err != nil {
		return err
	}
	if err := d.exec(ctx, "create table %s.%s (x int) engine=InnoDB", d.next, markTable); err != nil {
		return err
	}
	if err := d.writeJournal(ctx); err != nil {
		return err
	}
	if err := d.exec(ctx, "create database if not exists %s"+options, d.name); err != nil {
		return err
	}
	if err := d.dropObjects(ctx, d.name); err != nil {
		return err
	}
	if err := d.rename(ctx, [2]string{d.name, d.previous}, [2]string{d.next, d.name}); err != nil {
		return err
	}
	if err := d.create(ctx, objects); err != nil {
		return err
	}
	if err := d.exec(ctx, "drop table %s.%s", d.name, markTable); err != nil {
		return err
	}
	return d.drop(ctx, d.journal) // from here on the new state is the state
}

// undo brings back the state from before a swap.
func (d *database) undo(ctx context.Context) error {
	fresh, err := d.hasTable(ctx, d.journal, freshTable)
	if err != nil {
		return err
	}
	if fresh { // there was no database before
		return d.drop(ctx, d.name)
	}
	old, err := d.readJournal(ctx)
	if err != nil {
		return err
	}
	if err := d.dropObjects(ctx, d.name); err != nil {
		return err
	}
	// Where the mark is gone from next, the RENAME was carried out.
	waiting, err := d.hasTable(ctx, d.next, markTable)
	if err != nil {
		return err
	}
	if !waiting {
		if err := d.createSideOnce(ctx, d.next); err != nil {
			return err
		}
		if err := d.rename(ctx, [2]string{d.name, d.next}, [2]string{d.previous, d.name}); err != nil {
			return err
		}
	}
	if err := d.create(ctx, old); err != nil {
		return err
	}
	return d.drop(ctx, d.journal)
}

func (d *database) createSideOnce(ctx context.Context, name string) error {
	return d.exec(ctx, "create database if not exists %s", name)
}

// rename moves all tables of one database to another one, for each pair, at once.
func (d *database) rename(ctx context.Context, moves ...[2]string) error {
	var parts []string
	for _, move := range moves {
		tables, err := d.tables(ctx, move[0])
		if err != nil {
			return err
		}
		for _, table := range tables {
			parts = append(parts, quote(move[0])+"."+quote(table)+" to "+quote(move[1])+"."+quote(table))
		}
	}
	if len(parts) == 0 {
		return nil
	}
	return d.insist(ctx, "rename table "+strings.Join(parts, ", "))
}

// insist carries out a statement that waits for clients' transactions; those that take too long are ended.
func (d *database) insist(ctx context.Context, statement string) error {
	if _, err := d.conn.ExecContext(ctx, "set lock_wait_timeout = 2"); err != nil {
		return err
	}
	var err error
	for range swapAttempts {
		if _, err = d.conn.ExecContext(ctx, statement); !hasNumber(err, lockTimeout) {
			break
		}
		if err := d.terminate(ctx); err != nil {
			return err
		}
	}
	if hasNumber(err, lockTimeout) {
		return fmt.Errorf("clients hold tables in transactions and come back faster than they can be ended (stop them): %w", err)
	}
	if err != nil {
		return err
	}
	_, err = d.conn.ExecContext(ctx, "set lock_wait_timeout = 10")
	return err
}

// objects are the statements that make the triggers, views, routines and events of a database.
func (d *database) objects(ctx context.Context, name string) ([]statement, error) {
	var all []statement
	err := d.dumpInto(ctx, name, func(r *reader) error {
		for {
			st, err := r.next()
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			if st.kind == kindObject || st.kind == kindEvent {
				all = append(all, st)
			}
		}
	}, "--no-data")
	return all, err
}

// create makes objects in the component's database.
func (d *database) create(ctx context.Context, objects []statement) error {
	if err := d.exec(ctx, "use %s", d.name); err != nil {
		return err
	}
	if _, err := d.conn.ExecContext(ctx, "set names utf8mb4, foreign_key_checks = 0, "+resetContext); err != nil {
		return err
	}
	for _, st := range objects {
		if err := d.carryOut(ctx, st); err != nil {
			return fmt.Errorf("cannot carry out %.80q: %w", st.text, err)
		}
	}
	return nil
}

// dropObjects drops all that is in a database but its tables.
func (d *database) dropObjects(ctx context.Context, name string) error {
	for _, q := range []struct{ what, query string }{
		{"event", "select event_name from information_schema.events where event_schema = ?"},
		{"trigger", "select trigger_name from information_schema.triggers where trigger_schema = ?"},
		{"view", "select table_name from information_schema.views where table_schema = ?"},
		{"function", "select routine_name from information_schema.routines where routine_schema = ? and routine_type = 'FUNCTION'"},
		{"procedure", "select routine_name from information_schema.routines where routine_schema = ? and routine_type = 'PROCEDURE'"},
	} {
		names, err := d.strings(ctx, q.query, name)
		if err != nil {
			return err
		}
		for _, object := range names {
			if err := d.insist(ctx, "drop "+q.what+" "+quote(name)+"."+quote(object)); err != nil {
				return err
			}
		}
	}
	return nil
}

// writeJournal keeps the statements that make the component's objects. The table done is made last: without it,
// nothing was dropped yet.
func (d *database) writeJournal(ctx context.Context) error {
	if err := d.createSide(ctx, d.journal, ""); err != nil {
		return err
	}
	exists, err := d.exists(ctx, d.name)
	if err != nil {
		return err
	}
	var old []statement
	if exists {
		old, err = d.objects(ctx, d.name)
	} else {
		_, err = d.conn.ExecContext(ctx, "create table "+quote(d.journal)+"."+freshTable+" (x int) engine=InnoDB")
	}
	if err != nil {
		return err
	}
	table := quote(d.journal) + ".object"
	if _, err := d.conn.ExecContext(ctx, "create table "+table+" (n int primary key, context blob, body longblob) engine=InnoDB"); err != nil {
		return err
	}
	for i, st := range old {
		if _, err := d.conn.ExecContext(ctx, "insert into "+table+" values (?, ?, ?)", i+1, []byte(st.context), st.text); err != nil {
			return err
		}
	}
	_, err = d.conn.ExecContext(ctx, "create table "+quote(d.journal)+".done (x int) engine=InnoDB")
	return err
}

func (d *database) readJournal(ctx context.Context) ([]statement, error) {
	rows, err := d.conn.QueryContext(ctx, "select context, body from "+quote(d.journal)+".object order by n")
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err says what was wrong
	var all []statement
	for rows.Next() {
		st := statement{kind: kindObject}
		if err := rows.Scan(&st.context, &st.text); err != nil {
			return nil, err
		}
		all = append(all, st)
	}
	return all, rows.Err()
}
