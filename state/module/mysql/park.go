package mysql

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"orrery/state"
)

// The tables of an inactive component are in a side database, a shelf, and its own database is gone: its clients, whatever
// their rights are, find none. The journal says on which of the shelves it lies and has what makes the database again. The shelf has triggers,
// views, routines and events too, so that it can be dumped; its events do not run.

// locate finds out whether the component lies on a shelf.
func (d *database) locate(ctx context.Context) error {
	d.parked = ""
	found, err := d.hasTable(ctx, d.journal, "shelf")
	if err != nil || !found {
		return err
	}
	names, err := d.strings(ctx, "select name from "+quote(d.journal)+".shelf")
	if err == nil && len(names) > 0 {
		d.parked = names[0]
	}
	return err
}

// place is the database that has the component's tables.
func (d *database) place() string {
	if d.parked != "" {
		return d.parked
	}
	return d.name
}

// park takes the component's database out of its clients' reach.
func (d *database) park(ctx context.Context) error {
	exists, err := d.exists(ctx, d.name)
	if err != nil || !exists || d.parked != "" {
		return err
	}
	if err := d.toShelf(ctx); err != nil {
		return errors.Join(err, d.cleanUp(ctx))
	}
	return d.dropSides(ctx)
}

func (d *database) toShelf(ctx context.Context) error {
	old, err := d.survey(ctx, d.name)
	if err != nil {
		return err
	}
	old.away = d.shelves[0]
	if err := inOrder(
		func() error { return d.createSide(ctx, old.away, old.options) },
		func() error { return d.createSide(ctx, d.next, "") },
		func() error { return d.createMark(ctx, d.next) },
		func() error { return d.writeJournal(ctx, old) },
	); err != nil {
		return err
	}
	hidden := hide(oldPrefix, old.tables)
	if err := d.rename(ctx, moves(d.name, old.tables, nil, d.name, hidden)); err != nil {
		return err
	}
	if err := d.dropObjects(ctx, d.name); err != nil {
		return err
	}
	if err := d.rename(ctx, append(moves(d.name, old.tables, hidden, old.away, nil), moves(d.next, []string{markTable}, nil, d.name, nil)...)); err != nil {
		return err
	}
	if err := d.install(ctx, old.away, asleep(old.objects), nil); err != nil {
		return err
	}
	if err := d.terminate(ctx); err != nil {
		return err
	}
	if err := d.nothingBut(ctx, markTable); err != nil { // made by a client just now
		return err
	}
	if err := d.drop(ctx, d.name); err != nil {
		return err
	}
	return d.point(ctx, old.away)
}

// asleep are objects whose events do not run.
func asleep(objects []statement) []statement {
	all := slices.Clone(objects)
	for i, st := range all {
		if st.kind == kindEvent {
			all[i].text = disabled(st.text)
		}
	}
	return all
}

// point says which shelf the component lies on.
func (d *database) point(ctx context.Context, shelf string) error {
	if err := d.exec(ctx, "create table if not exists %s.shelf (name varchar(64) not null) engine=InnoDB", d.journal); err != nil {
		return err
	}
	if _, err := d.conn.ExecContext(ctx, "insert into "+quote(d.journal)+".shelf values (?)", shelf); err != nil {
		return err
	}
	d.parked = shelf
	return nil
}

// nothingBut refuses to go on where the component's database has something in it.
func (d *database) nothingBut(ctx context.Context, allowed string) error {
	found, err := d.strings(ctx, `select table_name from information_schema.tables where table_schema = ? and table_name <> ?
		union all select routine_name from information_schema.routines where routine_schema = ?
		union all select event_name from information_schema.events where event_schema = ? limit 3`, d.name, allowed, d.name, d.name)
	if err != nil || len(found) == 0 {
		return err
	}
	return fmt.Errorf("somebody else made %s in the database %q meanwhile: %w (move that to another database, or drop it)", strings.Join(found, ", "), d.name, state.ErrInUse)
}

// unpark gives the component back to its clients.
func (d *database) unpark(ctx context.Context) error {
	exists, err := d.exists(ctx, d.name)
	if err != nil {
		return err
	}
	if exists { // made while the component was inactive
		if err := d.nothingBut(ctx, markTable); err != nil {
			return err
		}
	}
	if err := inOrder(
		func() error { return d.drop(ctx, d.name) },
		func() error { return d.createSide(ctx, d.next, "") },
		func() error { return d.exec(ctx, "drop table %s.shelf", d.journal) }, // from here on an interruption ends with the component in service
	); err != nil {
		return err
	}
	d.parked = ""
	if err := d.undo(ctx); err != nil {
		return errors.Join(err, d.cleanUp(ctx))
	}
	return d.dropSides(ctx)
}

// forgetLost forgets a shelf that is gone: a deletion was interrupted.
func (d *database) forgetLost(ctx context.Context) error {
	exists, err := d.exists(ctx, d.parked)
	if err != nil || exists {
		return err
	}
	d.parked = ""
	return d.drop(ctx, d.journal)
}

// nothingShelved refuses to remove tables that may be the only ones: somebody removed the journal.
func (d *database) nothingShelved(ctx context.Context) error {
	exists, err := d.exists(ctx, d.name)
	if err != nil || exists {
		return err
	}
	for _, shelf := range d.shelves {
		tables, err := d.tables(ctx, shelf)
		if err != nil {
			return err
		}
		if len(tables) > 0 {
			return fmt.Errorf("database %q has tables and nothing says whose state they are: %w (rename them into a database %q, or drop it)", shelf, state.ErrCorrupt, d.name)
		}
	}
	return nil
}

// replaceParked fills the other shelf and has the journal point to it.
func (d *database) replaceParked(ctx context.Context, fill func() error) error {
	was, next := d.events, d.next
	d.next = d.shelves[0]
	if d.parked == d.next {
		d.next = d.shelves[1]
	}
	err := d.fillShelf(ctx, fill)
	d.next, d.events = next, was
	if err != nil {
		return errors.Join(err, d.cleanUp(ctx))
	}
	if err := d.locate(ctx); err != nil {
		return err
	}
	return d.dropSides(ctx)
}

func (d *database) fillShelf(ctx context.Context, fill func() error) error {
	before, err := d.readJournal(ctx)
	if err != nil {
		return err
	}
	if err := d.createSide(ctx, d.next, before.options); err != nil {
		return err
	}
	if err := fill(); err != nil {
		return err
	}
	after, err := d.survey(ctx, d.next)
	if err != nil {
		return err
	}
	after.objects = append(after.objects, d.events...)
	after.options, after.away = before.options, d.next
	after.rights = before.grants(after.objects)
	if err := d.install(ctx, d.next, asleep(d.events), nil); err != nil {
		return err
	}
	return d.turn(ctx, after)
}

// turn puts another record into the journal, with the shelf that it is about, in one statement.
func (d *database) turn(ctx context.Context, r record) error {
	names := []string{"shelf"}
	for _, part := range parts {
		names = append(names, part.name)
	}
	for _, name := range names {
		if err := d.exec(ctx, "drop table if exists %s."+quote(name+"-old"), d.journal); err != nil {
			return err
		}
	}
	if err := d.writeRecord(ctx, r, "-new"); err != nil {
		return err
	}
	if err := d.exec(ctx, "drop table if exists %s."+quote("shelf-new"), d.journal); err != nil {
		return err
	}
	if err := d.exec(ctx, "create table %s."+quote("shelf-new")+" (name varchar(64) not null) engine=InnoDB", d.journal); err != nil {
		return err
	}
	if _, err := d.conn.ExecContext(ctx, "insert into "+quote(d.journal)+"."+quote("shelf-new")+" values (?)", r.away); err != nil {
		return err
	}
	old, fresh := map[string]string{}, map[string]string{}
	for _, name := range names {
		old[name], fresh[name] = name+"-old", name+"-new"
	}
	return d.rename(ctx, append(moves(d.journal, names, nil, d.journal, old), moves(d.journal, names, fresh, d.journal, nil)...))
}

// sleepers are the events of an inactive component as they are when it is active, by their quoted names.
func (d *database) sleepers(ctx context.Context) (map[string]statement, error) {
	if d.parked == "" {
		return nil, nil
	}
	r, err := d.readJournal(ctx)
	if err != nil {
		return nil, err
	}
	all := map[string]statement{}
	for _, st := range r.objects {
		if st.kind == kindEvent {
			maps.Copy(all, map[string]statement{eventName(st.text): st})
		}
	}
	return all, nil
}

// eventName is the word by which the statement that makes an event calls it.
func eventName(text []byte) string {
	all := tokens(text, maxHead)
	if i := slices.Index(all, event); i >= 0 && i+1 < len(all) {
		return all[i+1]
	}
	return ""
}
