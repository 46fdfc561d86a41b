package postgresql

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"orrery/internal/testenv"
	"orrery/state"
)

// oddities has every kind of table whose rows a dump must have once, complete and in an order of their own.
const oddities = `
create table keyed (id int primary key, name text, twice int generated always as (id * 2) stored, gone text);
alter table keyed drop column gone;
insert into keyed (id, name) select i, 'row ' || i from generate_series(1, 500) i;
create table words (word text primary key, n int);
insert into words select w, 1 from unnest(array['ä', 'a', 'Z', 'z', 'A', '_', 'a b', 'aB', 'é', '10', '9', E'tab\tnew\nline', '\.', '\N', '日本', '']) w;
create table composite (a varchar not null, b numeric not null, c date, unique (a, b), primary key (b, a));
insert into composite select chr(65 + i % 26), i / 10.0, date '2020-01-01' + i from generate_series(1, 200) i;
create table second (a int, b bpchar(8) not null unique, c jsonb);
insert into second select i, 'k' || (i * 7919 % 1000), jsonb_build_object('i', i) from generate_series(1, 300) i;
create type colour as enum ('red', 'green', 'blue');
create table keyless (a float8, b json, c colour, d interval, e text[], f int);
insert into keyless select i / 3.0, json_build_object('i', i % 5), (enum_range(null::colour))[1 + i % 3], i * interval '1 hour', array['x', i::text], null from generate_series(1, 200) i;
insert into keyless select * from keyless where a < 20;
create unlogged table quick (id uuid primary key default gen_random_uuid(), v int);
insert into quick select md5(i::text)::uuid, i from generate_series(1, 100) i;
create table nothing ();
insert into nothing default values;
insert into nothing default values;
create table measured (at timestamptz not null, value int) partition by range (at);
create table "measured 2024" partition of measured for values from ('2024-01-01') to ('2025-01-01');
create table "measured 2025" partition of measured (primary key (at)) for values from ('2025-01-01') to ('2026-01-01');
insert into measured select timestamptz '2024-06-01' + i * interval '2 days', i from generate_series(1, 200) i;
create table hashed (c colour not null, n int) partition by hash (c);
create table hashed_0 partition of hashed for values with (modulus 2, remainder 0);
create table hashed_1 partition of hashed for values with (modulus 2, remainder 1);
insert into hashed select unnest(enum_range(null::colour)), 1;
create table parent (id int primary key);
create table child (extra text, primary key (id)) inherits (parent);
insert into parent select i from generate_series(1, 50) i;
insert into child select i, 'child' from generate_series(40, 90) i;
create schema "odd ""schema"".*|(x)";
create table "odd ""schema"".*|(x)"."Table; drop table keyed; --
'$$" ("Column ""1""" text primary key, "select" int);
insert into "odd ""schema"".*|(x)"."Table; drop table keyed; --
'$$" values ('x', 1), ('Y', 2);
create table guarded (id int primary key, v int);
alter table guarded enable row level security, force row level security;
insert into guarded select i, i from generate_series(1, 20) i;
create domain short as text check (length(value) < 20);
create table domained (d short primary key, v int);
insert into domained select 'D' || i, i from generate_series(1, 120) i;
create sequence counted;
select setval('counted', 4711);
create materialized view seen as select count(*) from keyed;
create extension citext;
create table insensitive (k citext primary key, v int);
insert into insensitive select chr(65 + i % 26) || chr(97 + (i * 5) % 26) || i, i from generate_series(1, 100) i;
select lo_from_bytea(4711, 'large'), lo_from_bytea(99, 'object');
`

// stir updates every row and takes that back, row by row in another order, so that none lies where it lay.
const stir = `
do $$ declare t record; begin
	for t in select c.oid::regclass as name, (select quote_ident(attname) from pg_attribute where attrelid = c.oid and attgenerated = '' and not attisdropped and attnum > 0 order by attnum desc limit 1) as col
		from pg_class c where relkind = 'r' and relnamespace::regnamespace::text !~ '^pg_|^information' loop
		if t.col is not null then
			execute format('update only %s set %s = %2$s where ctid = any (select ctid from only %1$s order by md5(ctid::text) limit 30)', t.name, t.col);
		end if;
	end loop;
end $$;
update keyed set name = 'changed' where id % 7 = 0;
update keyed set name = 'row ' || id where id % 7 = 0;
delete from keyless where f is null and a > 30;
insert into keyless select i / 3.0, json_build_object('i', i % 5), (enum_range(null::colour))[1 + i % 3], i * interval '1 hour', array['x', i::text], null
	from generate_series(200, 1, -1) i where i / 3.0 > 30;
delete from words where n = 1;
insert into words select w, 1 from unnest(array['日本', '9', '\N', '10', 'é', 'aB', '_', 'Z', E'tab\tnew\nline', '\.', 'ä', 'a', 'A', 'z', 'a b', '']) w;
`

// elsewhere is a target on another server.
func elsewhere(t *testing.T, target state.Target, p *testenv.Postgres) state.Target {
	t.Helper()
	target.Container.Properties = maps.Clone(target.Container.Properties)
	target.Container.Properties["port"] = p.Port
	return target
}

// reach connects to a database of a server of the test's own.
func reach(t *testing.T, p *testenv.Postgres, database string) (*pgx.Conn, error) {
	t.Helper()
	return pgx.Connect(t.Context(), fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s", quoteValue(p.Host), p.Port, p.User, quoteValue(p.Password), quoteValue(database)))
}

func at(t *testing.T, p *testenv.Postgres, target state.Target, sql string) {
	t.Helper()
	conn, err := reach(t, p, databaseName(target))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%.80s: %v", sql, err)
	}
}

func askAt[T any](t *testing.T, p *testenv.Postgres, database, sql string, args ...any) T {
	t.Helper()
	conn, err := reach(t, p, database)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// same says where two dumps begin to differ.
func same(t *testing.T, what string, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	a, b := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			t.Errorf("%s, line %d: %q instead of %q", what, i+1, a[i], b[i])
			return
		}
	}
	t.Errorf("%s: %d lines instead of %d", what, len(a), len(b))
}

// TestSameState has the same logical state lie otherwise on the disk, on a server that was restarted, and on one that compares text
// otherwise: all have the same snapshot.
func TestSameState(t *testing.T) {
	t.Parallel()
	first, second := testenv.OwnPostgreSQL(t, "", "--locale=C"), testenv.OwnPostgreSQL(t, "", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=de")
	target := elsewhere(t, newTarget(t, "same-state"), first)
	m := New(Config{})
	activate(t, target)
	at(t, first, target, oddities)
	want := snapshot(t, target)
	checkOddities(t, want)
	at(t, first, target, stir)
	same(t, "after updates and their reverse", snapshot(t, target), want)
	at(t, first, target, "vacuum full")
	at(t, first, target, "cluster keyed using keyed_pkey; alter table keyed set without cluster; cluster words using words_pkey; alter table words set without cluster")
	same(t, "after VACUUM FULL and CLUSTER", snapshot(t, target), want)
	first.Stop(t)
	first.Start(t)
	same(t, "after a restart", snapshot(t, target), want)
	other := elsewhere(t, target, second)
	for range 2 { // the second time what is there is replaced
		if err := m.Restore(t.Context(), other, bytes.NewReader(want)); err != nil {
			t.Fatal(err)
		}
		same(t, "restored on a server with another locale", snapshot(t, other), want)
		at(t, second, other, stir)
		same(t, "updated there", snapshot(t, other), want)
	}
	at(t, second, other, "update keyed set name = 'other' where id = 77")
	if bytes.Equal(snapshot(t, other), want) {
		t.Error("another state has the same snapshot")
	}
}

// checkOddities looks whether everything is there, once.
func checkOddities(t *testing.T, content []byte) {
	t.Helper()
	parts := map[string]int{}
	if err := New(Config{}).Items(t.Context(), bytes.NewReader(content), func(i state.Item) error {
		if i.Content != nil || i.Part == "public.nothing" {
			parts[i.Part]++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for part, n := range map[string]int{
		"public.keyed": 500, "public.words": 16, "public.composite": 200, "public.second": 300, "public.keyless": 259, "public.quick": 100, "public.nothing": 2,
		`public."measured 2024"`: 106, `public."measured 2025"`: 94, "public.measured": 0, "public.hashed": 3, "public.parent": 50, "public.child": 51,
		"\"odd \"\"schema\"\".*|(x)\".\"Table; drop table keyed; --\n'$$\"": 2, "public.guarded": 20, "public.domained": 120, "public.insensitive": 100,
		"public.planet": 3, "public.moon": 0,
	} {
		if parts[part] != n {
			t.Errorf("%d rows of %s instead of %d", parts[part], part, n)
		}
	}
	for _, once := range []string{"pg_catalog.setval('public.counted', 4711", "pg_catalog.lo_open('99'", "pg_catalog.lo_open('4711'", "REFRESH MATERIALIZED VIEW public.seen", "SET row_security = off", "ENABLE ROW LEVEL SECURITY"} {
		if n := bytes.Count(content, []byte(once)); n != 1 {
			t.Errorf("%d times %s", n, once)
		}
	}
}

// TestSequences has them where they are, whoever writes that, and whatever they are called.
func TestSequences(t *testing.T) {
	t.Parallel()
	target := newTarget(t, "sequences")
	activate(t, target)
	execute(t, databaseName(target), `create sequence "it's \ odd"; select nextval('"it''s \ odd"'); create sequence untouched start 7; create schema other;
		create table other.numbered (id int generated always as identity, v int); insert into other.numbered (v) values (1), (2)`)
	want := []string{`('other.numbered_id_seq', 2, true)`, `('public."it''s \ odd"', 1, true)`, `('public.moon_id_seq', 1, false)`, `('public.untouched', 7, false)`}
	for _, sql := range []string{"select", "select lo_create(4711)"} { // with a large object pg_dump writes them
		execute(t, databaseName(target), sql)
		content := snapshot(t, target)
		for _, one := range want {
			if n := bytes.Count(content, []byte("SELECT pg_catalog.setval"+one+";")); n != 1 {
				t.Errorf("%s: %d times %s", sql, n, one)
			}
		}
		if n := bytes.Count(content, setval); n != len(want) {
			t.Errorf("%d sequences", n)
		}
	}
	content := snapshot(t, target)
	if err := New(Config{}).Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	same(t, "restored", snapshot(t, target), content)
}

// TestExtensionTables has a table of an extension of which only some rows belong to the database.
func TestExtensionTables(t *testing.T) {
	t.Parallel()
	target := newTarget(t, "extension-tables")
	activate(t, target)
	execute(t, databaseName(target), `create extension citext;
create table settings (name citext primary key, mine boolean not null);
insert into settings values ('Own', true), ('Theirs', false), ('another', true);
alter extension citext add table settings;
update pg_extension set extconfig = array['settings'::regclass::oid], extcondition = array['where mine'] where extname = 'citext';

create table of_ours (id int primary key);
`)
	content := snapshot(t, target)
	if !bytes.Contains(content, []byte("COPY public.settings (name, mine) FROM stdin;\nOwn\tt\nanother\tt\n\\.\n")) || !bytes.Contains(content, []byte("COPY public.of_ours")) {
		t.Errorf("%s", content)
	}
}

// TestClause has rows ordered by what is the same on every server.
func TestClause(t *testing.T) {
	o := &ordering{kinds: map[uint32]kind{
		1: {name: "int4", builtin: true, sort: "b"}, 2: {name: "text", builtin: true, sort: "b"}, 3: {name: "numeric", builtin: true, sort: "b"},
		4: {name: "citext", sort: "b"}, 5: {name: "short", sort: "d", of: 2}, 6: {name: "colour", sort: "e"}, 7: {name: "_citext", sort: "b", of: 4},
		8: {name: "pair", sort: "c"}, 9: {name: "text", sort: "b"}, 10: {name: "jsonb", builtin: true, sort: "b"}, 11: {name: "_text", builtin: true, sort: "b", of: 2},
	}}
	columns := []column{
		{number: 1, name: "a", kind: 1},
		{number: 2, name: "b", kind: 2, collated: true},
		{number: 4, name: `"C c"`, kind: 3},
		{number: 5, name: "d", kind: 4, collated: true},
		{number: 6, name: "e", kind: 5, collated: true, bytewise: true},
		{number: 7, name: "f", kind: 6, generated: true},
		{number: 8, name: "g", kind: 7},
		{number: 9, name: "h", kind: 8},
		{number: 10, name: "i", kind: 9},
		{number: 11, name: "j", kind: 10},
		{number: 12, name: "k", kind: 11, collated: true},
	}
	for _, c := range []struct {
		key       []int16
		transcode bool
		want      string
	}{
		{[]int16{4, 1}, false, ` order by "C c", a`},
		{[]int16{2, 5, 6}, false, ` order by b collate "C", d::text collate "C", e`},
		{[]int16{7, 11}, false, ` order by f, j::text collate "C"`},
		{[]int16{2, 6, 1, 4}, true, ` order by pg_catalog.convert_to(b::text, 'UTF8'), pg_catalog.convert_to(e::text, 'UTF8'), a, "C c"`},
		{nil, false, ` order by a, b collate "C", "C c"::text collate "C", d::text collate "C", e, g::text collate "C", h::text collate "C", i::text collate "C", j::text collate "C", k collate "C"`},
	} {
		o.transcode = c.transcode
		if got := o.clause(columns, c.key); got != c.want {
			t.Errorf("%v:\n%s instead of\n%s", c.key, got, c.want)
		}
	}
	if got := o.clause(nil, nil); got != "" {
		t.Error(got)
	}
}

// TestExclusions has no argument longer than Linux takes, whatever the tables are called.
func TestExclusions(t *testing.T) {
	r := &reading{tables: []table{{schema: "a", name: "b"}, {schema: "a", name: `c".*`}, {schema: "A.b", name: "d"}}}
	if got := strings.Join(r.exclusions(), "\n"); got != "--exclude-table-data=\"a\".(\"b\"|\"c\"\".*\")\n--exclude-table-data=\"A.b\".(\"d\")" {
		t.Error(got)
	}
	r.tables = nil
	for i := range 3000 {
		r.tables = append(r.tables, table{schema: "s", name: strings.Repeat("n", 58) + fmt.Sprint(i)})
	}
	all := r.exclusions()
	if n := strings.Count(strings.Join(all, ""), `"nnn`); n != 3000 || len(all) != 3 {
		t.Error(n, len(all))
	}
	for _, one := range all {
		if len(one) > 100_000 || !strings.HasSuffix(one, ")") {
			t.Error(len(one))
		}
	}
	if (&reading{}).exclusions() != nil {
		t.Error("options for no table")
	}
}
