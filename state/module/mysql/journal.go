package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// record is what makes a database again of its tables, wherever those are.
type record struct {
	fresh   bool   // there is no database
	options string // of CREATE DATABASE
	away    string // the database that the tables are moved to
	tables  []string
	objects []statement
	rights  []statement // GRANTs on its routines, which are lost when a routine is dropped
}

func (r record) triggers() bool {
	return slices.ContainsFunc(r.objects, func(st statement) bool { return st.what == trigger })
}

// grant is the kind of a statement that gives somebody rights on a routine. Its table is the routine, with its kind.
const grant = "GRANT"

// grants are those on the routines that are among objects.
func (r record) grants(objects []statement) []statement {
	there := map[string]bool{}
	for _, st := range objects {
		if all := words(st.text, maxHead); st.what == "FUNCTION" || st.what == "PROCEDURE" {
			if i := slices.IndexFunc(all, func(w word) bool { return w.text == st.what }); i >= 0 && i+1 < len(all) {
				there[st.what+" "+identifier(st.text, all[i+1])] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(r.rights), func(st statement) bool { return !there[st.table] })
}

// survey finds out what a database has beside the rows of its tables.
func (d *database) survey(ctx context.Context, name string) (record, error) {
	var r record
	exists, err := d.exists(ctx, name)
	if err != nil || !exists {
		r.fresh = true
		return r, err
	}
	if r.options, err = d.options(ctx, name); err != nil {
		return r, err
	}
	if r.tables, err = d.tables(ctx, name); err != nil {
		return r, err
	}
	if r.objects, err = d.objects(ctx, name); err != nil {
		return r, err
	}
	r.rights, err = d.rights(ctx, name)
	return r, err
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

// rights are the GRANTs on a database's routines, as far as the container's user may read them.
func (d *database) rights(ctx context.Context, name string) ([]statement, error) {
	rows, err := d.conn.QueryContext(ctx, `select routine_name, upper(routine_type), lower(proc_priv), user, host from mysql.procs_priv
		where db = ? and routine_type in ('FUNCTION', 'PROCEDURE') order by user, host, routine_name`, name)
	if denied(err) || hasNumber(err, 1146) { // no such table: not every server keeps them there
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err says what was wrong
	var all []statement
	for rows.Next() {
		var routine, kind, rights, user, host string
		if err := rows.Scan(&routine, &kind, &rights, &user, &host); err != nil {
			return nil, err
		}
		what := slices.DeleteFunc(strings.Split(rights, ","), func(s string) bool { return s == "grant" || s == "" })
		if len(what) == 0 {
			what = []string{"usage"}
		}
		text := "grant " + strings.Join(what, ", ") + " on " + kind + " " + quote(name) + "." + quote(routine) + " to " + quote(user)
		if host != "" { // else it is a role
			text += "@" + quote(host)
		}
		if strings.Contains(rights, "grant") {
			text += " with grant option"
		}
		all = append(all, statement{kind: kindObject, what: grant, table: kind + " " + routine, text: []byte(text)})
	}
	return all, rows.Err()
}

// denied says that the container's user lacks a right.
func denied(err error) bool {
	return slices.ContainsFunc([]uint16{1044, 1045, 1142, 1143, 1227, 1370}, func(n uint16) bool { return hasNumber(err, n) })
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

// parts are the tables of a record in the journal.
var parts = []struct{ name, columns string }{
	{"object", "n int primary key, kind int, what varchar(20), tbl varchar(200), context blob, body longblob"},
	{"tbl", "n int primary key, name varchar(64)"},
	{"home", "options text, away varchar(64), fresh int"},
}

// writeJournal keeps a record. The table done is made last: without it, nothing was changed yet.
func (d *database) writeJournal(ctx context.Context, r record) error {
	if err := d.createSide(ctx, d.journal, ""); err != nil {
		return err
	}
	if err := d.writeRecord(ctx, r, ""); err != nil {
		return err
	}
	return d.exec(ctx, "create table %s.done (x int) engine=InnoDB", d.journal)
}

// writeRecord writes tables whose names end in suffix.
func (d *database) writeRecord(ctx context.Context, r record, suffix string) error {
	at := func(part string) string { return quote(d.journal) + "." + quote(part+suffix) }
	for _, part := range parts {
		if err := d.exec(ctx, "drop table if exists "+at(part.name)); err != nil {
			return err
		}
		if err := d.exec(ctx, "create table "+at(part.name)+" ("+part.columns+") engine=InnoDB character set utf8mb4 collate utf8mb4_bin"); err != nil {
			return err
		}
	}
	for i, st := range append(slices.Clone(r.objects), r.rights...) {
		_, err := d.conn.ExecContext(ctx, "insert into "+at("object")+" values (?, ?, ?, ?, ?, ?)", i, int(st.kind), st.what, st.table, []byte(st.context), st.text)
		if err != nil {
			return err
		}
	}
	for i, t := range r.tables {
		if _, err := d.conn.ExecContext(ctx, "insert into "+at("tbl")+" values (?, ?)", i, t); err != nil {
			return err
		}
	}
	_, err := d.conn.ExecContext(ctx, "insert into "+at("home")+" values (?, ?, ?)", r.options, r.away, r.fresh)
	return err
}

func (d *database) readJournal(ctx context.Context) (record, error) {
	var r record
	err := d.conn.QueryRowContext(ctx, "select options, away, fresh from "+quote(d.journal)+".home").Scan(&r.options, &r.away, &r.fresh)
	if errors.Is(err, sql.ErrNoRows) {
		return r, fmt.Errorf("the journal in database %q is not whole", d.journal)
	}
	if err != nil {
		return r, err
	}
	if r.tables, err = d.strings(ctx, "select name from "+quote(d.journal)+".tbl order by n"); err != nil {
		return r, err
	}
	rows, err := d.conn.QueryContext(ctx, "select kind, what, tbl, context, body from "+quote(d.journal)+".object order by n")
	if err != nil {
		return r, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err says what was wrong
	for rows.Next() {
		var st statement
		if err := rows.Scan(&st.kind, &st.what, &st.table, &st.context, &st.text); err != nil {
			return r, err
		}
		if st.what == grant {
			r.rights = append(r.rights, st)
		} else {
			r.objects = append(r.objects, st)
		}
	}
	return r, rows.Err()
}
