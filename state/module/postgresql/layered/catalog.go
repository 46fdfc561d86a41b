package layered

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// ours are objects that the database's user made, not an extension.
const ours = `n.nspname <> 'information_schema' and n.nspname !~ '^pg_' and not exists
	(select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')`

// refused names what has no layered form, with the reason.
const refused = `
	select format('%I.%I (%s)', n.nspname, c.relname, case
			when c.relkind = 'p' then 'it is partitioned' when c.relkind = 'm' then 'it is a materialized view'
			when c.relkind = 'f' then 'it is a foreign table' when c.relrowsecurity then 'it has row security'
			when c.reloftype <> 0 then 'it is a typed table' when c.relhassubclass or c.relispartition
				or exists (select from pg_inherits where inhrelid = c.oid) then 'it inherits'
			else 'it has no primary key and is larger than ' || pg_size_pretty($1::bigint) end)
	from pg_class c join pg_namespace n on n.oid = c.relnamespace
	where (c.relkind in ('p', 'm', 'f') or c.relkind = 'r' and (c.relrowsecurity or c.reloftype <> 0 or c.relhassubclass
		or exists (select from pg_inherits where inhrelid = c.oid)
		or not exists (select from pg_index where indrelid = c.oid and indisprimary) and pg_table_size(c.oid) > $1)) and ` + ours + `
	order by 1 limit 20`

// Refuse returns an ErrCannot that names what in a database has no layered form.
func Refuse(ctx context.Context, origin *pgx.Conn, limit int64) error {
	bad, err := column[string](ctx, origin, refused, limit)
	if err != nil || len(bad) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", ErrCannot, strings.Join(bad, ", "))
}

// sequenceValues are statements that bring sequences to where the origin's are.
const sequenceValues = `select format('select pg_catalog.setval(%L, %s, %L)', format('%I.%I', s.schemaname, s.sequencename), coalesce(s.last_value, s.start_value), s.last_value is not null)
	from pg_sequences s join pg_namespace n on n.nspname = s.schemaname join pg_class c on c.relnamespace = n.oid and c.relname = s.sequencename where ` + ours

// viewDefinitions are statements that bind views to what has the names of their tables later.
const viewDefinitions = `select format('create or replace view %I.%I as %s', n.nspname, c.relname, pg_get_viewdef(c.oid))
	from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.relkind = 'v' and ` + ours + ` order by c.oid`

// boundFunctions are those whose bodies are bound to tables, not to names.
const boundFunctions = `select pg_get_functiondef(p.oid) from pg_proc p join pg_namespace c on c.oid = pronamespace
	where to_jsonb(p)->>'prosqlbody' is not null and c.nspname <> 'information_schema' and c.nspname !~ '^pg_'
	and not exists (select from pg_depend e where e.classid = 'pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e') order by p.oid`

// table is one that becomes a view.
type table struct {
	oid          uint32
	schema, name string
	number       int
	home         string // the schema that it moves to
	columns      []col
	key          []string // columns of the primary key
	keyName      string
	uniques      []unique
	serials      []string // sequences, qualified, that must not move with it
}

type col struct {
	name, kind, deflt string
	generated         bool
	identity          bool // deflt is the name of its sequence, which moves with the table
}

type unique struct {
	name    string
	columns []string
}

// foreignKey is one of the origin's.
type foreignKey struct {
	Name                 string
	Child, Parent        string // see plain
	Columns, References  []string
	OnUpdate, OnDelete   string // a: no action, r: restrict, c: cascade, n: set null, d: set default
	Deferrable, Deferred bool
}

func foreignKeys(ctx context.Context, origin *pgx.Conn) ([]foreignKey, error) {
	rows, err := origin.Query(ctx, `
		select conname, n.nspname::text, c.relname::text, pn.nspname::text, p.relname::text,
			(select array_agg(attname::text order by i) from unnest(conkey) with ordinality u(k, i) join pg_attribute on attrelid = conrelid and attnum = k),
			(select array_agg(attname::text order by i) from unnest(confkey) with ordinality u(k, i) join pg_attribute on attrelid = confrelid and attnum = k),
			confupdtype::text, confdeltype::text, condeferrable, condeferred
		from pg_constraint f join pg_class c on c.oid = conrelid join pg_namespace n on n.oid = c.relnamespace
			join pg_class p on p.oid = confrelid join pg_namespace pn on pn.oid = p.relnamespace
		where contype = 'f' and conparentid = 0 and `+ours+` order by f.oid`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (foreignKey, error) {
		var k foreignKey
		var child, parent [2]string
		err := row.Scan(&k.Name, &child[0], &child[1], &parent[0], &parent[1], &k.Columns, &k.References, &k.OnUpdate, &k.OnDelete, &k.Deferrable, &k.Deferred)
		k.Child, k.Parent = plain(child[0], child[1]), plain(parent[0], parent[1])
		return k, err
	})
}

// readTables reads the tables with a primary key, and has the others filled by a copy.
func readTables(ctx context.Context, tx pgx.Tx) ([]table, error) {
	rows, err := tx.Query(ctx, `select c.oid, n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where c.relkind = 'r' and `+ours+` order by n.nspname, c.relname`)
	if err != nil {
		return nil, err
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (table, error) {
		var t table
		return t, row.Scan(&t.oid, &t.schema, &t.name)
	})
	if err != nil {
		return nil, err
	}
	homes := map[string]int{}
	for i := range tables {
		t := &tables[i]
		if _, ok := homes[t.schema]; !ok {
			homes[t.schema] = len(homes) + 1
		}
		t.number, t.home = i+1, fmt.Sprintf("orrery_delta_%d", homes[t.schema])
		if err := t.read(ctx, tx); err != nil {
			return nil, err
		}
	}
	return tables, nil
}

func (t *table) read(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `select attname, format_type(atttypid, atttypmod) || case when attcollation <> typcollation then
				(select format(' collate %I.%I', nspname, collname) from pg_collation co join pg_namespace cn on cn.oid = collnamespace where co.oid = attcollation) else '' end,
			case when attidentity <> '' then (select relname from pg_depend join pg_class q on q.oid = objid where classid = 'pg_class'::regclass
					and refclassid = 'pg_class'::regclass and refobjid = attrelid and refobjsubid = attnum and deptype = 'i')
				when attgenerated = '' then coalesce(pg_get_expr(adbin, adrelid), '') else '' end, attgenerated <> '', attidentity <> ''
		from pg_attribute join pg_type ty on ty.oid = atttypid left join pg_attrdef on adrelid = attrelid and adnum = attnum
		where attrelid = $1 and attnum > 0 and not attisdropped order by attnum`, t.oid)
	if err != nil {
		return err
	}
	t.columns, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (col, error) {
		var c col
		return c, row.Scan(&c.name, &c.kind, &c.deflt, &c.generated, &c.identity)
	})
	if err != nil {
		return err
	}
	rows, err = tx.Query(ctx, `select i.relname, indisprimary,
			(select array_agg(attname::text order by o) from unnest(indkey::int2[]) with ordinality u(k, o) join pg_attribute on attrelid = indrelid and attnum = k where o <= indnkeyatts)
		from pg_index x join pg_class i on i.oid = indexrelid where indrelid = $1 and indisunique and indpred is null and indexprs is null`, t.oid)
	if err != nil {
		return err
	}
	var u unique
	var primary bool
	if _, err := pgx.ForEachRow(rows, []any{&u.name, &primary, &u.columns}, func() error {
		if primary {
			t.key, t.keyName = u.columns, u.name
		} else {
			t.uniques = append(t.uniques, u)
		}
		return nil
	}); err != nil {
		return err
	}
	t.serials, err = column[string](ctx, tx, `select objid::regclass::text from pg_depend join pg_class on pg_class.oid = objid
		where classid = 'pg_class'::regclass and refclassid = 'pg_class'::regclass and refobjid = $1 and deptype = 'a' and relkind = 'S'`, t.oid)
	return err
}
