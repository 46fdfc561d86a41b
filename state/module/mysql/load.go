package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"orrery/state"
)

// createSide makes an empty side database like the component's.
func (d *database) createSide(ctx context.Context, name, options string) error {
	if err := d.drop(ctx, name); err != nil {
		return err
	}
	return d.exec(ctx, "create database %s"+options, name)
}

// options are the clauses of CREATE DATABASE that an existing database has.
func (d *database) options(ctx context.Context, name string) (string, error) {
	found, err := d.strings(ctx, `select concat(' character set ', default_character_set_name, ' collate ', default_collation_name)
		from information_schema.schemata where schema_name = ?`, name)
	if err != nil || len(found) == 0 {
		return "", err
	}
	return found[0], nil
}

// load fills the side database from a dump. only, if given, is the one table to load.
func (d *database) load(ctx context.Context, r *reader, only string) error {
	if err := d.exec(ctx, "use %s", d.next); err != nil {
		return err
	}
	if _, err := d.conn.ExecContext(ctx, "set names utf8mb4, unique_checks = 0, foreign_key_checks = 0, "+resetContext); err != nil {
		return err
	}
	for {
		st, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case only != "" && st.name != only:
			continue // read on, to the end marker
		case st.kind == kindEvent:
			d.events = append(d.events, st)
			continue
		}
		if err := d.carryOut(ctx, st); err != nil {
			return err
		}
	}
}

// carryOut carries out one statement of a dump.
func (d *database) carryOut(ctx context.Context, st statement) error {
	if st.context != "" {
		if _, err := d.conn.ExecContext(ctx, "set "+st.context); err != nil {
			return err
		}
	}
	if _, err := d.conn.ExecContext(ctx, string(st.text)); err != nil {
		return fmt.Errorf("cannot carry out %.80q: %w", st.text, d.explain(err))
	}
	if st.context == "" {
		return nil
	}
	_, err := d.conn.ExecContext(ctx, "set "+resetContext)
	return err
}

// The server's numbers for what another server's dump may have.
const (
	unknownCharset   = 1115
	unknownCollation = 1273
)

// explain adds to an error of the server what a person can do.
func (d *database) explain(err error) error {
	if hasNumber(err, unknownCollation) || hasNumber(err, unknownCharset) {
		return fmt.Errorf("%w: the state is of a server with other collations, those with 0900 are MySQL 8's: %w restore it here (restore it where it is from, "+
			"ALTER TABLE ... CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci there, and take another snapshot)", err, state.ErrNotAble)
	}
	return err
}

// loadSchema fills the side database from the component's schema.
func (d *database) loadSchema(ctx context.Context) error {
	if d.props.Schema == "" {
		return nil
	}
	if err := d.script(ctx, d.next, d.props.Schema); err != nil {
		return fmt.Errorf("cannot load schema %s: %w", d.props.Schema, err)
	}
	return nil
}

// script carries out a file of a person's in a database, on a connection with the server's own settings.
func (d *database) script(ctx context.Context, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // only read
	return d.statements(ctx, name, f)
}

func (d *database) statements(ctx context.Context, name string, r io.Reader) error {
	if err := d.exec(ctx, "use %s", name); err != nil {
		return err
	}
	if _, err := d.conn.ExecContext(ctx, "set sql_mode = default, time_zone = default"); err != nil {
		return err
	}
	s := newSplitter(r)
	for {
		text, err := s.next()
		if errors.Is(err, io.EOF) {
			_, err := d.conn.ExecContext(ctx, "set unique_checks = 0, foreign_key_checks = 0, "+resetContext)
			return err
		}
		if err != nil {
			return err
		}
		if words := tokens(text, 16); name == d.next && words[0] == "CREATE" && slices.Contains(words, "EVENT") {
			d.events = append(d.events, statement{kind: kindEvent, what: event, text: text, context: "sql_mode = @@global.sql_mode, time_zone = @@global.time_zone"})
			continue
		}
		if _, err := d.conn.ExecContext(ctx, string(text)); err != nil {
			return fmt.Errorf("%.80q: %w", text, err)
		}
	}
}
