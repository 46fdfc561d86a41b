package sqldb

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"orrery/matrix/table"
)

// Prepare is that of table.DB. It asks once what there is, and makes what is missing at once: most of the time that a statement takes is its round trip.
func (d *DB) Prepare(ctx context.Context, schemas []*table.Schema) error {
	return d.Update(ctx, func(tx table.Tx) error {
		t, _ := tx.(*transaction)
		found, err := t.catalog()
		if err != nil {
			return fmt.Errorf("cannot read which tables there are: %w", err)
		}
		var missing []statement
		for _, s := range schemas {
			missing = append(missing, d.dialect.missing(s, found)...)
		}
		if err := t.run(missing...); err != nil {
			return fmt.Errorf("cannot prepare the tables: %w", err)
		}
		return nil
	})
}

// Tables is that of table.Catalog.
func (d *DB) Tables(ctx context.Context) (names []string, err error) {
	err = d.View(ctx, func(tx table.Tx) error {
		t, _ := tx.(*transaction)
		found, err := t.catalog()
		names = slices.Collect(maps.Keys(found))
		return err
	})
	return names, err
}

// catalog is the columns of tables, and indexes, which have none, by their names.
func (t *transaction) catalog() (map[string]map[string]bool, error) {
	rows, end, err := t.rows(statement{text: t.d.dialect.catalog})
	if err != nil {
		return nil, err
	}
	defer end()
	found := map[string]map[string]bool{}
	for rows.Next() {
		var name, column string
		if err := rows.Scan(&name, &column); err != nil {
			return nil, t.failure(err)
		}
		if found[name] == nil {
			found[name] = map[string]bool{}
		}
		found[name][column] = true
	}
	return found, t.failure(rows.Err())
}

// missing are the statements that make what a database has not of a table.
func (d *dialect) missing(s *table.Schema, found map[string]map[string]bool) (all []statement) {
	add := func(format string, args ...any) {
		all = append(all, statement{text: fmt.Sprintf(format, args...), of: s.Name})
	}
	columns := make([]string, len(s.Columns))
	for i, c := range s.Columns {
		columns[i] = quote(c.Name) + " " + d.column(c.Kind)
	}
	if has := found[s.Name]; has == nil {
		add("CREATE TABLE IF NOT EXISTS %s (%s, PRIMARY KEY (%s))%s", quote(s.Name), strings.Join(columns, ", "), names(s, s.Key), d.options(s))
	} else {
		for i, c := range s.Columns {
			if !has[c.Name] {
				add("ALTER TABLE %s ADD COLUMN %s", quote(s.Name), columns[i])
			}
		}
	}
	for _, x := range s.Indexes {
		if found[s.Name+"_"+x.Name] != nil {
			continue
		}
		unique := ""
		if x.Unique {
			unique = "UNIQUE "
		}
		of := append([]string{}, x.Columns...)
		for i, c := range of {
			of[i] = quote(c)
		}
		add("CREATE %sINDEX IF NOT EXISTS %s ON %s (%s)", unique, quote(s.Name+"_"+x.Name), quote(s.Name), strings.Join(of, ", "))
	}
	return all
}

// run executes statements that are not kept. An error names the table that the one was about which failed, and says how it begins.
func (t *transaction) run(all ...statement) error {
	if len(all) == 0 {
		return nil
	}
	if err := t.send(); err != nil {
		return err
	}
	return t.failure(t.s.run(t.ctx, all...))
}

// maxShown is how much of a statement an error shows.
const maxShown = 60

// failedToMake is an error of a statement that is not kept.
func (s *statement) failedToMake(err error) error {
	text := s.text
	if len(text) > maxShown {
		text = text[:maxShown] + "..."
	}
	return s.failed(fmt.Errorf("%w (in %s)", err, text))
}
