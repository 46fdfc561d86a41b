package mysql

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"orrery/state"
)

// A swap moves the component's tables to the side database previous and those of next to the component's database, in
// one RENAME TABLE. Triggers, views, routines and events cannot move between databases: they are dropped before it and
// made after it. So that nobody writes a table without its triggers, tables that have any get other names meanwhile, which
// clients do not know, within their database, where triggers go along: for those milliseconds clients find no tables.
//
// So that a crash in between can be undone, the side database journal (see journal.go) has what makes the old state, from before
// the first change until all is done; and a table that moves along, the mark, tells whether the RENAME was carried out.
const (
	markTable = "orrery-mark"
	// The names of tables that clients are not to find begin with these.
	oldPrefix = "orrery-old-"
	newPrefix = "orrery-new-"
	// swapAttempts bounds how often clients that hold tables in transactions are ended.
	swapAttempts = 5
)

const lockTimeout = 1205

// replace fills the side database and puts its content into the place of the component's. On an error the database
// is as it was.
func (d *database) replace(ctx context.Context, fill func() error) error {
	if d.parked != "" {
		return d.replaceParked(ctx, fill)
	}
	options, err := d.options(ctx, d.name)
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
	begun, err := d.hasTable(ctx, d.journal, "done")
	if d.server.replica {
		if err == nil && begun && d.parked == "" {
			err = fmt.Errorf("its source is just being restored: %w (try again)", state.ErrInUse)
		}
		return err // what is interrupted there is undone there
	}
	if err == nil && begun {
		if err = d.locate(ctx); err == nil && d.parked == "" {
			err = d.undo(ctx)
		} else if err == nil {
			err = d.forgetLost(ctx)
		}
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

// dropSides removes the side databases that the component does not live in; the journal first, so that nothing is undone half.
func (d *database) dropSides(ctx context.Context) error {
	if _, err := d.conn.ExecContext(ctx, "set foreign_key_checks = 0"); err != nil {
		return err
	}
	sides := []string{d.next, d.previous, d.shelves[0], d.shelves[1]}
	if d.parked == "" {
		if err := d.nothingShelved(ctx); err != nil {
			return err
		}
		sides = append([]string{d.journal}, sides...)
	}
	for _, name := range sides {
		if name == d.parked {
			continue
		}
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
	old, err := d.survey(ctx, d.name)
	if err != nil {
		return err
	}
	old.options, old.away = options, d.previous
	if err := inOrder(
		func() error { return d.createSide(ctx, d.previous, options) },
		func() error { return d.dropObjects(ctx, d.next) },
		func() error { return d.createMark(ctx, d.next) },
		func() error { return d.writeJournal(ctx, old) },
		func() error { return d.exec(ctx, "create database if not exists %s"+options, d.name) },
	); err != nil {
		return err
	}
	fresh, err := d.tables(ctx, d.next)
	if err != nil {
		return err
	}
	var hidden map[string]string
	if old.triggers() || slices.ContainsFunc(objects, func(st statement) bool { return st.what == trigger }) {
		hidden = hide(newPrefix, fresh)
		if err := d.rename(ctx, moves(d.name, old.tables, nil, d.name, hide(oldPrefix, old.tables))); err != nil {
			return err
		}
	}
	if err := d.dropObjects(ctx, d.name); err != nil {
		return err
	}
	out := moves(d.name, old.tables, hide(oldPrefix, old.tables), d.previous, nil)
	if hidden == nil {
		out = moves(d.name, old.tables, nil, d.previous, nil)
	}
	if err := d.rename(ctx, append(out, moves(d.next, fresh, nil, d.name, hidden)...)); err != nil {
		return err
	}
	if err := d.install(ctx, d.name, append(objects, old.grants(objects)...), hidden); err != nil {
		return err
	}
	if err := d.exec(ctx, "drop table %s.%s", d.name, markTable); err != nil {
		return err
	}
	return d.drop(ctx, d.journal) // from here on the new state is the state
}

// inOrder takes steps until one fails.
func inOrder(steps ...func() error) error {
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (d *database) createMark(ctx context.Context, name string) error {
	return d.exec(ctx, "create table if not exists %s.%s (x int) engine=InnoDB", name, markTable)
}

// undo brings back the state that the journal has. Interrupted, it is done again.
func (d *database) undo(ctx context.Context) error {
	old, err := d.readJournal(ctx)
	if err != nil {
		return err
	}
	if old.fresh { // there was no database before
		return d.drop(ctx, d.name)
	}
	if err := d.exec(ctx, "create database if not exists %s"+old.options, d.name); err != nil {
		return err
	}
	// Where the mark is gone from next, the RENAME was carried out.
	waiting, err := d.hasTable(ctx, d.next, markTable)
	if err != nil {
		return err
	}
	if waiting {
		err = d.hideVisible(ctx, oldPrefix)
	} else {
		err = d.takeBack(ctx, old)
	}
	if err != nil {
		return err
	}
	if err := d.dropObjects(ctx, d.name); err != nil {
		return err
	}
	if err := d.install(ctx, d.name, append(old.objects, old.grants(old.objects)...), hide(oldPrefix, old.tables)); err != nil {
		return err
	}
	return d.drop(ctx, d.journal)
}

// takeBack moves the old tables to where they were, under names that clients do not know.
func (d *database) takeBack(ctx context.Context, old record) error {
	if err := inOrder(
		func() error { return d.hideVisible(ctx, newPrefix) },
		func() error { return d.dropObjects(ctx, d.name) },
		func() error { return d.dropObjects(ctx, old.away) },
		func() error { return d.exec(ctx, "create database if not exists %s", d.next) },
		func() error { return d.createMark(ctx, d.name) },
	); err != nil {
		return err
	}
	fresh, err := d.tables(ctx, d.name)
	if err != nil {
		return err
	}
	return d.rename(ctx, append(moves(d.name, fresh, nil, d.next, nil), moves(old.away, old.tables, nil, d.name, hide(oldPrefix, old.tables))...))
}

// hideVisible gives the component's tables names that clients do not know.
func (d *database) hideVisible(ctx context.Context, prefix string) error {
	tables, err := d.tables(ctx, d.name)
	if err != nil {
		return err
	}
	visible := slices.DeleteFunc(tables, func(t string) bool {
		return t == markTable || strings.HasPrefix(t, oldPrefix) || strings.HasPrefix(t, newPrefix)
	})
	return d.rename(ctx, moves(d.name, visible, nil, d.name, hide(prefix, visible)))
}

// hide maps tables to names that clients do not know.
func hide(prefix string, tables []string) map[string]string {
	names := map[string]string{}
	for _, t := range tables {
		if t != markTable {
			names[t] = prefix + digest(t)
		}
	}
	return names
}

// moves are the clauses of a RENAME TABLE that moves tables from one database to another, or changes their names.
// Tables that a map has are meant by the name there.
func moves(from string, tables []string, were map[string]string, to string, become map[string]string) []string {
	name := func(names map[string]string, t string) string {
		if other, ok := names[t]; ok {
			return quote(other)
		}
		return quote(t)
	}
	var all []string
	for _, t := range tables {
		all = append(all, quote(from)+"."+name(were, t)+" to "+quote(to)+"."+name(become, t))
	}
	return all
}

// rename carries out moves at once.
func (d *database) rename(ctx context.Context, moves []string) error {
	if len(moves) == 0 {
		return nil
	}
	return d.insist(ctx, "rename table "+strings.Join(moves, ", "))
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

// install makes objects in a database and lets its hidden tables be seen: between what they must not be without, and
// what looks at them when it is made.
func (d *database) install(ctx context.Context, name string, objects []statement, hidden map[string]string) error {
	if err := d.exec(ctx, "use %s", name); err != nil {
		return err
	}
	if _, err := d.conn.ExecContext(ctx, "set names utf8mb4, foreign_key_checks = 0, "+resetContext); err != nil {
		return err
	}
	for _, st := range objects {
		if !st.early() {
			continue
		}
		if other, ok := hidden[st.table]; ok {
			var err error
			if st.text, err = onTable(st.text, other); err != nil {
				return err
			}
		}
		if err := d.carryOut(ctx, st); err != nil {
			return err
		}
	}
	var reveal []string
	for t, other := range hidden {
		reveal = append(reveal, moves(name, []string{other}, nil, name, map[string]string{other: t})...)
	}
	slices.Sort(reveal)
	if err := d.rename(ctx, reveal); err != nil {
		return err
	}
	for _, st := range objects {
		if st.early() {
			continue
		}
		if err := d.carryOut(ctx, st); err != nil {
			return err
		}
	}
	return nil
}
