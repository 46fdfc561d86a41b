package postgresql

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// reading is a transaction that holds all tables of a database as they are at one point in time.
type reading struct {
	conn     *pgx.Conn
	pid      uint32
	snapshot string // its name for other sessions
	tables   []table
	// others says that there are rows which only pg_dump knows to write: of extensions, and large objects. Then it also
	// writes where the sequences are, otherwise this package does.
	others    bool
	sequences string // statements
	// source is that of a replica, not connected, and at how far its log was carried out before the reading began.
	source *database
	at     string
}

// table is one whose rows this package copies.
type table struct {
	id        uint32
	schema    string
	name      string
	qualified string // quoted where that is needed
	columns   string // the columns that have stored values of their own, quoted
	order     string // clause, with a blank before it, or empty
	whole     bool   // its partitions' rows are copied as its own
	part      bool   // its rows are copied as those of the table that it is a partition of
}

// readingSettings make values the same text everywhere, as pg_dump does, and let nothing but ctx end the session.
const readingSettings = `set search_path to ''; set client_encoding to 'UTF8'; set datestyle to 'ISO'; set intervalstyle to 'postgres'; set timezone to 'UTC';
	set extra_float_digits to 3; set bytea_output to 'hex'; set lc_monetary to 'C'; set synchronize_seqscans to off; set row_security to off; set quote_all_identifiers to off;
	set statement_timeout to 0; set lock_timeout to 0; set idle_in_transaction_session_timeout to 0; set jit to off; set client_min_messages to warning`

// sortMemory is what the server may use to sort a table that has no index in the right order; beyond it, it uses files.
const sortMemory = `set work_mem to '64MB'`

// locked are the tables that pg_dump locks: all but the server's own, and of extensions those that it dumps rows of.
const locked = `from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
	where c.relkind in ('r', 'p') and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and (
		not exists (select from pg_catalog.pg_depend where classid = 'pg_catalog.pg_class'::regclass and objid = c.oid and objsubid = 0 and deptype = 'e')
		or c.oid in (select unnest(extconfig) from pg_catalog.pg_extension))`

// hold begins a reading. It is errMoved if tables were made or dropped meanwhile.
func (d *database) hold(ctx context.Context) (*reading, error) {
	conn, err := d.connect(ctx, d.name)
	if err != nil {
		return nil, err
	}
	r := &reading{conn: conn, pid: conn.PgConn().PID()}
	if d.replica() {
		if linked, err := d.linked(ctx, conn); err != nil {
			r.release(ctx)
			return nil, err
		} else if linked { // what does not follow now does not depend on its source
			r.source = d.origin()
		}
	}
	if err := r.begin(ctx, d.major); err != nil {
		r.release(ctx)
		return nil, err
	}
	return r, nil
}

func (r *reading) release(ctx context.Context) { closeConn(ctx, r.conn) }

func (r *reading) begin(ctx context.Context, major int) error {
	settings := readingSettings + "; " + sortMemory
	if major >= 17 {
		settings += "; set transaction_timeout to 0"
	}
	if _, err := r.conn.Exec(ctx, settings); err != nil {
		return err
	}
	before, err := r.lockable(ctx)
	if err != nil {
		return err
	}
	if r.source != nil {
		if err := r.conn.QueryRow(ctx, "select coalesce(pg_last_wal_replay_lsn(), '0/0')::text").Scan(&r.at); err != nil {
			return err
		}
	}
	if _, err := r.conn.Exec(ctx, "begin isolation level repeatable read read only"); err != nil {
		return err
	}
	// LOCK takes no snapshot, so that the one which the next statement takes is of a time when all is locked.
	for some := range slices.Chunk(before, atOnce) {
		if err := r.lock(ctx, some); err != nil {
			return err
		}
	}
	if err := r.conn.QueryRow(ctx, "select pg_catalog.pg_export_snapshot()").Scan(&r.snapshot); err != nil {
		return err
	}
	after, err := r.lockable(ctx)
	if err != nil {
		return err
	}
	if !slices.Equal(before, after) {
		return errMoved
	}
	return r.describe(ctx)
}

// lockable are the tables to lock, each with its number, so that one that was dropped and made again is another one.
func (r *reading) lockable(ctx context.Context) ([]lockable, error) {
	rows, err := r.conn.Query(ctx, "select c.oid, format('%I.%I', n.nspname, c.relname) "+locked+" order by c.oid")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[lockable])
}

type lockable struct {
	ID   uint32
	Name string
}

func (r *reading) lock(ctx context.Context, some []lockable) error {
	quoted := make([]string, len(some))
	for i, t := range some {
		quoted[i] = t.Name
	}
	_, err := r.conn.Exec(ctx, "lock table only "+strings.Join(quoted, ", only ")+" in access share mode")
	for _, gone := range []string{"42P01", "3F000", "42809", "40P01"} { // no such table, no such schema, no table any more, a deadlock
		if hasCode(err, gone) {
			return fmt.Errorf("%w: %w", errMoved, err)
		}
	}
	return err
}

// described are the tables whose rows this package copies, which are those with rows of their own that are of no extension. A
// table that is distributed by the hash of an enum's values is copied as one, as pg_dump does, because the hash depends on the numbers
// that the server gave to the values: its partitions are not copied. Where one of these is a foreign table, all are left to pg_dump.
// A standby has no rows of unlogged tables.
const described = `with hashed as (
		select distinct pg_catalog.pg_partition_root(p.partrelid)::oid as root from pg_catalog.pg_partitioned_table p
		join pg_catalog.pg_opclass o on o.oid = any (p.partclass) join pg_catalog.pg_am m on m.oid = o.opcmethod where o.opcname = 'enum_ops' and m.amname = 'hash'
	), copied as (
		select root from hashed where not exists (select from pg_catalog.pg_partition_tree(root) join pg_catalog.pg_class t on t.oid = relid where t.relkind not in ('r', 'p'))
	)
	select c.oid, n.nspname, c.relname, format('%I.%I', n.nspname, c.relname),
		c.relkind = 'p', c.relkind = 'r' and coalesce(pg_catalog.pg_partition_root(c.oid) in (select root from copied), false) ` + locked + `
	and not exists (select from pg_catalog.pg_depend where classid = 'pg_catalog.pg_class'::regclass and objid = c.oid and objsubid = 0 and deptype = 'e')
	and (c.relpersistence = 'p' or not pg_catalog.pg_is_in_recovery())
	and case c.relkind when 'r' then coalesce(pg_catalog.pg_partition_root(c.oid) not in (select root from hashed except select root from copied), true)
		else c.oid in (select root from copied) end
	order by n.nspname collate "C", c.relname collate "C"`

// othersThere looks for what only pg_dump knows to write.
const othersThere = `select exists (select from pg_catalog.pg_largeobject_metadata) or exists (select from pg_catalog.pg_extension where extconfig is not null)
	or exists (select from pg_catalog.pg_partitioned_table p join pg_catalog.pg_opclass o on o.oid = any (p.partclass) join pg_catalog.pg_am m on m.oid = o.opcmethod
		where o.opcname = 'enum_ops' and m.amname = 'hash')`

// describeOthers reads what is not rows of tables.
func (r *reading) describeOthers(ctx context.Context) error {
	if err := r.conn.QueryRow(ctx, othersThere).Scan(&r.others); err != nil || r.others {
		return err
	}
	rows, err := r.conn.Query(ctx, `select c.oid, format('%I.%I', n.nspname, c.relname) from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relkind = 'S' and n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and (c.relpersistence = 'p' or not pg_catalog.pg_is_in_recovery())
			and not exists (select from pg_catalog.pg_depend where classid = 'pg_catalog.pg_class'::regclass and objid = c.oid and objsubid = 0 and deptype = 'e')
		order by n.nspname collate "C", c.relname collate "C"`)
	if err != nil {
		return err
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[lockable])
	if err != nil {
		return err
	}
	found := make(map[uint32]position, len(all))
	for some := range slices.Chunk(all, atOnce) {
		statements := make([]string, len(some))
		for i, q := range some {
			statements[i] = fmt.Sprintf("select %d::oid, last_value, is_called from %s", q.ID, q.Name)
		}
		err := readSome(ctx, r.conn, strings.Join(statements, " union all "), found)
		if hasCode(err, "42P01") { // dropped meanwhile, since no lock keeps a sequence
			return fmt.Errorf("%w: %w", errMoved, err)
		}
		if err != nil {
			return err
		}
	}
	if r.source != nil {
		r.source.settleReading(ctx, r.at, found)
	}
	r.sequences = positionStatements(all, found)
	return nil
}

// positionStatements are what pg_dump writes.
func positionStatements(all []lockable, found map[uint32]position) string {
	var b strings.Builder
	for _, q := range all {
		p := found[q.ID]
		fmt.Fprintf(&b, "%s%s', %d, %t);\n\n\n", setval, strings.ReplaceAll(q.Name, "'", "''"), p.last, p.called)
	}
	return b.String()
}

// describe reads what the tables are like.
func (r *reading) describe(ctx context.Context) error {
	rows, err := r.conn.Query(ctx, described)
	if err != nil {
		return err
	}
	r.tables, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (table, error) {
		var t table
		return t, row.Scan(&t.id, &t.schema, &t.name, &t.qualified, &t.whole, &t.part)
	})
	if err != nil {
		return err
	}
	if err := r.describeOthers(ctx); err != nil || len(r.tables) == 0 {
		return err
	}
	columns, err := r.columns(ctx)
	if err != nil {
		return err
	}
	keys, err := r.keys(ctx)
	if err != nil {
		return err
	}
	o, err := r.ordering(ctx, columns)
	if err != nil {
		return err
	}
	for i := range r.tables {
		t := &r.tables[i]
		t.columns = stored(columns[t.id])
		t.order = o.clause(columns[t.id], keys[t.id])
	}
	return nil
}

func (r *reading) ids() []uint32 {
	ids := make([]uint32, len(r.tables))
	for i, t := range r.tables {
		ids[i] = t.id
	}
	return ids
}

// column is a column of a table.
type column struct {
	number    int16
	name      string // quoted where that is needed
	kind      uint32 // its type
	generated bool
	collated  bool // values are compared by a collation
	bytewise  bool // and that compares bytes
}

// columns reads those of all tables, in their order. The collation of a column may be the database's.
func (r *reading) columns(ctx context.Context) (map[uint32][]column, error) {
	rows, err := r.conn.Query(ctx, `select attrelid, attnum, quote_ident(attname), atttypid, attgenerated <> '', attcollation <> 0,
			coalesce(case l.collprovider when 'd' then (select coalesce(to_jsonb(d)->>'datlocprovider', 'c') = 'c' and datcollate in ('C', 'POSIX') from pg_catalog.pg_database d where datname = current_database())
				when 'c' then l.collcollate in ('C', 'POSIX') end, false)
		from pg_catalog.pg_attribute a left join pg_catalog.pg_collation l on l.oid = a.attcollation
		where attrelid = any ($1::oid[]) and attnum > 0 and not attisdropped order by attrelid, attnum`, r.ids())
	if err != nil {
		return nil, err
	}
	all := map[uint32][]column{}
	var id uint32
	var c column
	_, err = pgx.ForEachRow(rows, []any{&id, &c.number, &c.name, &c.kind, &c.generated, &c.collated, &c.bytewise}, func() error {
		all[id] = append(all[id], c)
		return nil
	})
	return all, err
}

// stored lists the columns that COPY takes.
func stored(columns []column) string {
	var names []string
	for _, c := range columns {
		if !c.generated {
			names = append(names, c.name)
		}
	}
	return strings.Join(names, ", ")
}

// keys finds for each table the columns of the primary key, or else of the shortest key without nulls.
func (r *reading) keys(ctx context.Context) (map[uint32][]int16, error) {
	rows, err := r.conn.Query(ctx, `select distinct on (indrelid) indrelid,
			array(select k from unnest(indkey) with ordinality u (k, nth) where nth <= indnkeyatts order by nth)
		from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = indexrelid
		where indrelid = any ($1::oid[]) and indisunique and indisvalid and indpred is null and indexprs is null and not exists (
			select from unnest(indkey) with ordinality u (k, nth) join pg_catalog.pg_attribute on attrelid = indrelid and attnum = k where nth <= indnkeyatts and not attnotnull)
		order by indrelid, indisprimary desc, indnkeyatts, c.relname collate "C"`, r.ids())
	if err != nil {
		return nil, err
	}
	keys := map[uint32][]int16{}
	var id uint32
	var key []int16
	_, err = pgx.ForEachRow(rows, []any{&id, &key}, func() error {
		keys[id] = slices.Clone(key)
		return nil
	})
	return keys, err
}

// ordering reads what must be known of the columns' types.
func (r *reading) ordering(ctx context.Context, columns map[uint32][]column) (*ordering, error) {
	o := &ordering{kinds: map[uint32]kind{}}
	var encoding string
	if err := r.conn.QueryRow(ctx, "select pg_catalog.getdatabaseencoding()").Scan(&encoding); err != nil {
		return nil, err
	}
	// In these, the order of bytes is that of the characters' numbers, as in UTF-8; or there are no characters.
	o.transcode = !slices.Contains([]string{"UTF8", "LATIN1", "SQL_ASCII"}, encoding)
	var ids []uint32
	for _, some := range columns {
		for _, c := range some {
			ids = append(ids, c.kind)
		}
	}
	for len(ids) > 0 { // types that others consist of
		slices.Sort(ids)
		var err error
		if ids, err = r.kinds(ctx, o, slices.Compact(ids)); err != nil {
			return nil, err
		}
	}
	return o, nil
}

// kinds reads types, and returns those of which they consist and that are not known yet.
func (r *reading) kinds(ctx context.Context, o *ordering, ids []uint32) (further []uint32, err error) {
	rows, err := r.conn.Query(ctx, `select oid, typname, typnamespace = 'pg_catalog'::regnamespace, typtype::text,
			case when typtype = 'd' then typbasetype when typcategory = 'A' then typelem else 0 end
		from pg_catalog.pg_type where oid = any ($1::oid[])`, ids)
	if err != nil {
		return nil, err
	}
	var id uint32
	var k kind
	_, err = pgx.ForEachRow(rows, []any{&id, &k.name, &k.builtin, &k.sort, &k.of}, func() error {
		o.kinds[id] = k
		further = append(further, k.of)
		return nil
	})
	return slices.DeleteFunc(further, func(id uint32) bool { _, known := o.kinds[id]; return id == 0 || known }), err
}
