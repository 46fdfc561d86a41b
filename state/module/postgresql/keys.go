package postgresql

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"

	"orrery/state"
	"orrery/state/module/postgresql/script"
)

// rowKey is where in a row the columns are that name it; none if nothing does.
type rowKey []int

// keyIn finds the columns of a key among those of a table.
func keyIn(columns, key []string) (all rowKey) {
	for _, name := range key {
		at := slices.Index(columns, name)
		if at < 0 {
			return nil
		}
		all = append(all, at)
	}
	return all
}

// item is a row of a table as an item.
func (k rowKey) item(table string, row []byte) state.Item {
	i := state.Item{Part: table, Content: row}
	if len(k) == 0 {
		return i
	}
	fields := bytes.Split(row, []byte{'\t'})
	for n, at := range k {
		if at >= len(fields) {
			return state.Item{Part: table, Content: row}
		}
		if n > 0 {
			i.Key = append(i.Key, ", "...)
		}
		i.Key = append(i.Key, fields[at]...)
	}
	i.Within = true
	return i
}

// Keys implements state.KeyFinder: the primary keys, for which a dump has statements after the rows.
func (*Module) Keys(ctx context.Context, snapshot io.Reader) (map[string][]string, error) {
	body, err := openDump(snapshot)
	if err != nil {
		return nil, err
	}
	r, all := script.NewReader(body), map[string][]string{}
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all, ctx.Err()
		}
		if err != nil {
			return nil, dumpError(body, err)
		}
		if e.Kind == script.Copy && ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if e.Kind != script.Statement {
			continue
		}
		if table, columns, ok := script.PrimaryKey(e.Text); ok {
			all[table] = columns
		}
	}
}

// LiveKeys implements state.KeyFinder.
func (m *Module) LiveKeys(ctx context.Context, t state.Target) (map[string][]string, error) {
	all := map[string][]string{}
	err := m.with(ctx, t, "find the primary keys of", func(d *database) error {
		conn, err := d.connect(ctx, d.name)
		if err != nil {
			return err
		}
		defer closeConn(ctx, conn)
		rows, err := conn.Query(ctx, `select quote_ident(nspname) || '.' || quote_ident(relname), array_agg(quote_ident(attname) order by o)
			from pg_index cross join unnest(indkey::int2[]) with ordinality u(k, o) join pg_class c on c.oid = indrelid join pg_namespace n on n.oid = relnamespace
				join pg_attribute on attrelid = indrelid and attnum = k
			where indisprimary and o <= indnkeyatts and nspname !~ '^pg_' and nspname <> 'information_schema' group by nspname, relname`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var table string
			var columns []string
			if err := rows.Scan(&table, &columns); err != nil {
				return err
			}
			all[table] = columns
		}
		return rows.Err()
	})
	return all, err
}

// Group implements state.Presenter.
func (*Module) Group(i state.Item) string { return i.Part }

// Name implements state.Presenter: a row without a key is told by its fields.
func (*Module) Name(i state.Item) string {
	const enough = 1 << 10
	if i.Key != nil {
		return string(i.Key)
	}
	content := i.Content[:min(len(i.Content), enough)]
	if i.Part == partSchema {
		return string(bytes.Join(bytes.Fields(content), []byte{' '}))
	}
	return string(bytes.ReplaceAll(content, []byte{'\t'}, []byte(", ")))
}
