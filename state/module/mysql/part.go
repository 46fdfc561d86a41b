package mysql

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"orrery/state"
)

// RestorePart implements state.PartRestorer. A table that was changed in its rows only gets them back in one transaction;
// one that is gone, or has another definition, takes the place of the one that is there. Rows of other tables that refer to it
// are not looked at.
func (m *Module) RestorePart(ctx context.Context, t state.Target, snapshot io.Reader, part string) error {
	if err := refuseReplica(t, "restore a table of"); err != nil {
		return err
	}
	return m.with(ctx, t, fmt.Sprintf("restore table %q of", part), func(d *database) error {
		r, err := openSnapshot(snapshot)
		if err != nil {
			return err
		}
		if err := inOrder(func() error { return d.recover(ctx) }, func() error { return d.mustServe(ctx) }); err != nil {
			return err
		}
		options, err := d.options(ctx, d.name)
		if err == nil {
			err = d.createSide(ctx, d.next, options)
		}
		if err == nil {
			err = d.load(ctx, r, part)
		}
		if err == nil {
			err = d.takePart(ctx, part)
		}
		if err != nil {
			return errors.Join(err, d.cleanUp(ctx))
		}
		return d.dropSides(ctx)
	})
}

func (d *database) takePart(ctx context.Context, part string) error {
	loaded, err := d.hasTable(ctx, d.next, part)
	if err != nil {
		return err
	}
	if !loaded {
		return fmt.Errorf("table %q %w in the snapshot", part, state.ErrNotFound)
	}
	there, err := d.hasTable(ctx, d.name, part)
	if err != nil {
		return err
	}
	from, to := quote(d.next)+"."+quote(part), quote(d.name)+"."+quote(part)
	if !there {
		return d.insist(ctx, "rename table "+from+" to "+to)
	}
	if err := d.noTriggers(ctx, part); err != nil {
		return err
	}
	same, err := d.sameDefinition(ctx, part)
	if err != nil {
		return err
	}
	if same {
		return d.takeRows(ctx, part)
	}
	if err := d.notReferred(ctx, part); err != nil {
		return err
	}
	if err := d.createSide(ctx, d.previous, ""); err != nil {
		return err
	}
	return d.insist(ctx, "rename table "+to+" to "+quote(d.previous)+"."+quote(part)+", "+from+" to "+to)
}

// noTriggers refuses a table whose triggers would act on the exchange of its rows.
func (d *database) noTriggers(ctx context.Context, part string) error {
	found, err := d.strings(ctx, "select trigger_name from information_schema.triggers where event_object_schema = ? and event_object_table = ?", d.name, part)
	if err != nil || len(found) == 0 {
		return err
	}
	return fmt.Errorf("%w replace it, because its trigger %q would run (restore the whole component)", state.ErrNotAble, found[0])
}

// notReferred refuses a table that foreign keys of others refer to, which would follow it when it is moved away.
func (d *database) notReferred(ctx context.Context, part string) error {
	found, err := d.strings(ctx, `select distinct table_name from information_schema.key_column_usage
		where referenced_table_schema = ? and referenced_table_name = ? and not (table_schema = ? and table_name = ?)`, d.name, part, d.name, part)
	if err != nil || len(found) == 0 {
		return err
	}
	return fmt.Errorf("%w replace it: it has another definition now and table %q refers to it (restore the whole component)", state.ErrNotAble, found[0])
}

var counter = regexp.MustCompile(` AUTO_INCREMENT=\d+`)

func (d *database) sameDefinition(ctx context.Context, part string) (bool, error) {
	var texts [2]string
	for i, name := range []string{d.name, d.next} {
		if err := d.exec(ctx, "use %s", name); err != nil {
			return false, err
		}
		var table string
		if err := d.conn.QueryRowContext(ctx, "show create table "+quote(part)).Scan(&table, &texts[i]); err != nil {
			return false, err
		}
		texts[i] = counter.ReplaceAllString(texts[i], "")
	}
	return texts[0] == texts[1] && !strings.HasPrefix(texts[0], "CREATE SEQUENCE"), nil
}

// takeRows exchanges a table's rows in one transaction.
func (d *database) takeRows(ctx context.Context, part string) error {
	columns, err := d.strings(ctx, `select column_name from information_schema.columns
		where table_schema = ? and table_name = ? and coalesce(generation_expression, '') = '' order by ordinal_position`, d.next, part)
	if err != nil {
		return err
	}
	for i, name := range columns {
		columns[i] = quote(name)
	}
	list := strings.Join(columns, ", ")
	to := quote(d.name) + "." + quote(part)
	for _, statement := range []string{
		"set foreign_key_checks = 0", "start transaction", "delete from " + to,
		"insert into " + to + " (" + list + ") select " + list + " from " + quote(d.next) + "." + quote(part), "commit",
	} {
		if _, err := d.conn.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return nil
}
