package layered

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Row is a row of a table as text.
type Row struct {
	Table string // qualified and quoted where that is needed
	Key   []byte // values of the primary key; nil if there is none
	Text  []byte // nil: the table exists, and nothing is said of rows
}

// Changes tells what a layer keeps apart from its origin: of tables that are views the rows that the layer wrote, and those of
// the origin that have their keys; of other tables all rows on both sides. The origin is read as it is now. Rows are
// valid during the call.
func Changes(ctx context.Context, layer, origin *pgx.Conn, visit func(ofLayer bool, r Row) error) error {
	return reading(ctx, layer, func(here pgx.Tx) error {
		return reading(ctx, origin, func(there pgx.Tx) error {
			c := changes{here, there, visit}
			if err := c.written(ctx); err != nil {
				return err
			}
			return c.copied(ctx)
		})
	})
}

// reading has one moment of a database read, in a way of writing values that is the same everywhere.
func reading(ctx context.Context, conn *pgx.Conn, do func(pgx.Tx) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, conn, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `set local search_path to ''; set local timezone to 'UTC'; set local datestyle to 'ISO'; set local intervalstyle to 'postgres';
			set local extra_float_digits to 1; set local bytea_output to 'hex'`); err != nil {
			return err
		}
		return do(tx)
	})
}

type changes struct {
	here, there pgx.Tx
	visit       func(ofLayer bool, r Row) error
}

// overlaid is a table that is a view in the layer.
type overlaid struct {
	name, delta, gone string   // as they are written in statements
	columns           []string // quoted
	key, kinds        []string // the key's columns, quoted, and their types
}

// overlays finds the views by what they read: the layer's own table of the rows, and by the number of the foreign one that of the keys.
const overlays = `
	select format('%I.%I', vn.nspname, v.relname), format('%I.%I', dn.nspname, d.relname), 'orrery_layer.gone_' || substr(f.relname, 8),
		(select array_agg(quote_ident(attname) order by attnum) from pg_attribute where attrelid = v.oid and attnum > 0 and not attisdropped),
		(select array_agg(quote_ident(attname) order by attnum) from pg_attribute where attrelid = g.oid and attnum > 0 and not attisdropped),
		(select array_agg(format_type(atttypid, atttypmod) order by attnum) from pg_attribute where attrelid = g.oid and attnum > 0 and not attisdropped)
	from pg_class v join pg_namespace vn on vn.oid = v.relnamespace join pg_rewrite on ev_class = v.oid
		join lateral (select distinct refobjid from pg_depend where classid = 'pg_rewrite'::regclass and objid = pg_rewrite.oid and refclassid = 'pg_class'::regclass) dd on true
		join pg_class d on d.oid = dd.refobjid and d.relkind = 'r' and d.relname = v.relname join pg_namespace dn on dn.oid = d.relnamespace and dn.nspname ~ '^orrery_delta_'
		join lateral (select distinct refobjid from pg_depend where classid = 'pg_rewrite'::regclass and objid = pg_rewrite.oid and refclassid = 'pg_class'::regclass) fd on true
		join pg_class f on f.oid = fd.refobjid and f.relkind = 'f' and f.relname ~ '^origin_' and f.relnamespace = 'orrery_layer'::regnamespace
		join pg_class g on g.relnamespace = f.relnamespace and g.relname = 'gone_' || substr(f.relname, 8)
	where v.relkind = 'v' order by 1`

func (c changes) written(ctx context.Context) error {
	rows, err := c.here.Query(ctx, overlays)
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t overlaid, err error) {
		return t, row.Scan(&t.name, &t.delta, &t.gone, &t.columns, &t.key, &t.kinds)
	})
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := c.table(ctx, t); err != nil {
			return fmt.Errorf("table %s: %w", t.name, err)
		}
	}
	return nil
}

// keyText is a key's values as text.
func (t overlaid) keyText() string { return "concat_ws(', ', " + strings.Join(t.key, ", ") + ")" }

func (t overlaid) rowText() string { return "row(" + strings.Join(t.columns, ", ") + ")::text" }

func (c changes) table(ctx context.Context, t overlaid) error {
	for _, ofLayer := range []bool{false, true} {
		if err := c.visit(ofLayer, Row{Table: t.name}); err != nil {
			return err
		}
	}
	written := "select " + t.keyText() + ", " + t.rowText() + " from " + t.delta
	if err := each(ctx, c.here, written, nil, func(key, text []byte) error { return c.visit(true, Row{t.name, key, text}) }); err != nil {
		return err
	}
	return c.hidden(ctx, t)
}

// keysAtOnce is how many rows the origin is asked for in one statement.
const keysAtOnce = 1000

// hidden are the origin's rows whose keys the layer wrote or deleted.
func (c changes) hidden(ctx context.Context, t overlaid) error {
	casts := make([]string, len(t.key))
	texts := make([]string, len(t.key))
	for i, kind := range t.kinds {
		casts[i] = fmt.Sprintf("$%d::text[]::%s[]", i+1, kind)
		texts[i] = t.key[i] + "::text"
	}
	key := strings.Join(t.key, ", ")
	ask := fmt.Sprintf("select %s, %s from %s where (%s) in (select * from unnest(%s) u)", t.keyText(), t.rowText(), t.name, key, strings.Join(casts, ", "))
	if _, err := c.here.Exec(ctx, "declare orrery_keys no scroll cursor for select array["+strings.Join(texts, ", ")+"] from "+t.gone); err != nil {
		return err
	}
	for {
		keys, err := column[[]string](ctx, c.here, fmt.Sprintf("fetch %d from orrery_keys", keysAtOnce))
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			_, err := c.here.Exec(ctx, "close orrery_keys")
			return err
		}
		values := make([]any, len(t.key))
		for i := range t.key {
			var of []string
			for _, k := range keys {
				of = append(of, k[i])
			}
			values[i] = of
		}
		if err := each(ctx, c.there, ask, values, func(key, text []byte) error { return c.visit(false, Row{t.name, key, text}) }); err != nil {
			return err
		}
	}
}

// plainTables are the layer's tables that are no views: those without a primary key, and those that were made in it.
const plainTables = `select format('%I.%I', n.nspname, c.relname),
		(select array_agg(quote_ident(attname) order by attnum) from pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped)
	from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'r' and n.nspname !~ '^orrery_(layer$|delta_)' and ` + ours + ` order by 1`

func (c changes) copied(ctx context.Context) error {
	rows, err := c.here.Query(ctx, plainTables)
	if err != nil {
		return err
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t overlaid, err error) {
		return t, row.Scan(&t.name, &t.columns)
	})
	if err != nil {
		return err
	}
	known, err := column[string](ctx, c.there, `select format('%I.%I', nspname, relname) from pg_class c join pg_namespace n on n.oid = relnamespace where relkind in ('r', 'p')`)
	if err != nil {
		return err
	}
	there := map[string]bool{}
	for _, name := range known {
		there[name] = true
	}
	for _, t := range tables {
		for ofLayer, tx := range map[bool]pgx.Tx{true: c.here, false: c.there} {
			if !ofLayer && !there[t.name] {
				continue
			}
			err := c.visit(ofLayer, Row{Table: t.name})
			if err == nil {
				err = each(ctx, tx, "select null, "+t.rowText()+" from "+t.name, nil, func(_, text []byte) error { return c.visit(ofLayer, Row{t.name, nil, text}) })
			}
			if err != nil {
				return fmt.Errorf("table %s: %w", t.name, err)
			}
		}
	}
	return nil
}

// each visits the two texts of each row of a query.
func each(ctx context.Context, tx pgx.Tx, sql string, values []any, visit func(key, text []byte) error) error {
	rows, err := tx.Query(ctx, sql, values...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		raw := rows.RawValues()
		if err := visit(raw[0], raw[1]); err != nil {
			return err
		}
	}
	return rows.Err()
}
