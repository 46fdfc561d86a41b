package postgresql

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orrery/internal/testenv"
	"orrery/state"
)

// restored returns a filled component and a snapshot of it from before a change.
func restored(t *testing.T, name string) (state.Target, []byte) {
	t.Helper()
	target := newTarget(t, name)
	activate(t, target)
	change(t, target, 1)
	return target, snapshot(t, target)
}

func TestShell(t *testing.T) {
	t.Parallel()
	target, _ := restored(t, "shell")
	shell, err := New(Config{}).Shell(t.Context(), target, "select count(*) from planet")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(shell.Path+strings.Join(shell.Args, " "), "sesame") {
		t.Error("the password is an argument")
	}
	cmd := exec.CommandContext(t.Context(), shell.Path, shell.Args...)
	cmd.Env = append(os.Environ(), shell.Env...)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), " 3\n") {
		t.Errorf("%s, %v", out, err)
	}
	if _, err := New(Config{}).Shell(t.Context(), newTarget(t, "shell-never"), ""); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
}

func TestVersionClientsBesideIntegrity(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target, content := restored(t, "various")
	if version, err := m.Version(t.Context(), target); err != nil || !strings.HasPrefix(version, "PostgreSQL ") || strings.Count(version, " ") != 1 {
		t.Errorf("%q, %v", version, err)
	}
	if n, err := m.Clients(t.Context(), target); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	client(t, databaseName(target))
	if n, err := m.Clients(t.Context(), target); err != nil || n != 1 {
		t.Errorf("%d, %v", n, err)
	}
	beside := m.Beside(target.Component, "other")
	if p, err := decodeComponent(beside); err != nil || p.Database != "other" || databaseName(target) == "" {
		t.Errorf("%+v, %v", beside, err)
	}
	if err := m.Integrity(t.Context(), target); err != nil {
		t.Error(err)
	}
	if err := readAll(t.Context(), client(t, databaseName(target))); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(snapshot(t, target), content) {
		t.Error("the integrity check left something")
	}
}

// TestIntegrityFindsDamage has an index whose content is not what the table says.
func TestIntegrityFindsDamage(t *testing.T) {
	t.Parallel()
	target, _ := restored(t, "damage")
	execute(t, databaseName(target), `create function lie(int) returns int language sql immutable as 'select $1'; create index on moon (lie(id));
		create or replace function lie(int) returns int language sql immutable as 'select -$1'`)
	err := New(Config{}).Integrity(t.Context(), target)
	if !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), "moon_lie_idx") {
		t.Errorf("%v", err)
	}
}

func TestPortable(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target, content := restored(t, "portable")
	var plain, back bytes.Buffer
	if err := m.Export(t.Context(), bytes.NewReader(content), &plain); err != nil {
		t.Fatal(err)
	}
	if err := m.Import(t.Context(), bytes.NewReader(plain.Bytes()), &back); err != nil || !bytes.Equal(back.Bytes(), content) {
		t.Errorf("not the snapshot again: %v", err)
	}
	p := testenv.PostgreSQL(t)
	pgDump := exec.CommandContext(t.Context(), filepath.Join(p.Bin, "pg_dump"), "--no-owner", "--no-tablespaces", databaseName(target))
	psql := exec.CommandContext(t.Context(), filepath.Join(p.Bin, "psql"), "-v", "ON_ERROR_STOP=1", "-q", "-d", databaseName(target)+"-plain")
	for _, cmd := range []*exec.Cmd{pgDump, psql} {
		cmd.Env = append(os.Environ(), "PGHOST="+p.Host, fmt.Sprintf("PGPORT=%d", p.Port), "PGUSER="+p.User, "PGPASSWORD="+p.Password)
	}
	dumped, err := pgDump.Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Import(t.Context(), bytes.NewReader(plain.Bytes()[:plain.Len()-1]), &back); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("an export that was cut: %v", err)
	}
	loaded := named(target, databaseName(target)+"-loaded")
	defer func() {
		if err := m.CollectGarbage(context.Background(), loaded); err != nil {
			t.Error(err)
		}
	}()
	back.Reset()
	if err := m.Import(t.Context(), bytes.NewReader(dumped), &back); err != nil || !bytes.HasPrefix(back.Bytes(), []byte(magic)) {
		t.Errorf("pg_dump's own dump: %v", err)
	}
	if err := m.Restore(t.Context(), loaded, bytes.NewReader(back.Bytes())); err != nil {
		t.Fatal(err)
	}
	same(t, "a dump of pg_dump, restored", snapshot(t, loaded), content)
	if err := m.Import(t.Context(), bytes.NewReader(dumped[:len(dumped)/2]), &back); !errors.Is(err, state.ErrCorrupt) {
		t.Errorf("half a dump: %v", err)
	}
	other := named(target, databaseName(target)+"-plain")
	execute(t, "postgres", "create database "+quote(databaseName(other)))
	defer func() {
		if err := m.CollectGarbage(context.Background(), other); err != nil {
			t.Error(err)
		}
	}()
	psql.Stdin = &plain
	if out, err := psql.CombinedOutput(); err != nil {
		t.Fatalf("%s, %v", out, err)
	}
	if digestOf(t, other) != digestOf(t, target) {
		t.Error("psql made something else of it")
	}
}

func TestItems(t *testing.T) {
	t.Parallel()
	_, content := restored(t, "items")
	parts := map[string]int{}
	err := New(Config{}).Items(t.Context(), bytes.NewReader(content), func(i state.Item) error {
		parts[i.Part]++
		return nil
	})
	if err != nil || parts["public.planet"] != 3 || parts["public.moon"] != 300 || parts[partSequences] != 1 || parts["public.extra_1"] != 1 || parts[partSchema] < 10 {
		t.Errorf("%v, %v", parts, err)
	}
	for _, bad := range [][]byte{content[:len(content)/2], content[:len(content)-3], []byte("x"), nil} {
		if err := New(Config{}).Items(t.Context(), bytes.NewReader(bad), func(state.Item) error { return nil }); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target, _ := restored(t, "keys")
	execute(t, databaseName(target), `create table "Odd,one" ("user" int, "a b" text, v text, primary key ("a b", "user") include (v));
		insert into "Odd,one" values (1, e'tab\there', 'x'), (2, 'y', null)`)
	content := snapshot(t, target)
	stored, err := m.Keys(t.Context(), bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	live, err := m.LiveKeys(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(live, stored); d != "" || len(stored) < 2 {
		t.Errorf("%v: (-live +stored)\n%s", stored, d)
	}
	var keys []string
	err = m.ItemsBy(t.Context(), stored, bytes.NewReader(content), func(i state.Item) error {
		if i.Part == `public."Odd,one"` {
			keys = append(keys, m.Name(i))
		}
		return nil
	})
	slices.Sort(keys)
	if want := []string{`tab\there, 1`, "y, 2"}; err != nil || !slices.Equal(keys, want) {
		t.Errorf("%q, %v", keys, err)
	}
	for _, bad := range [][]byte{content[:len(content)/2], []byte("x"), nil} {
		if _, err := m.Keys(t.Context(), bytes.NewReader(bad)); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
}

func TestRestorePart(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target, content := restored(t, "part")
	name, before := databaseName(target), digestOf(t, target)
	part := func(part string) error { return m.RestorePart(t.Context(), target, bytes.NewReader(content), part) }
	execute(t, name, `update planet set note = 'changed'; delete from moon where id > 50; insert into moon (id, planet, name) values (900, 1, 'new');
		alter table moon drop constraint moon_pkey; select setval('moon_id_seq', 5000)`)
	execute(t, name, "create function refuse() returns trigger language plpgsql as $$ begin raise 'no'; end $$; create trigger refuse before insert on moon for each row execute function refuse()")
	for _, one := range []string{"public.moon", "planet"} {
		if err := part(one); err != nil {
			t.Fatal(err)
		}
	}
	if after := digestOf(t, target); after != before {
		t.Errorf("%.400s\n%.400s", before, after)
	}
	got := query[string](t, name, `select (select last_value from moon_id_seq) || ' ' || (select string_agg(conname, ',' order by conname) from pg_constraint where conrelid = 'moon'::regclass)
		|| ' ' || (select tgenabled::text from pg_trigger where tgname = 'refuse')`)
	if got != "300 moon_pkey,moon_planet_fkey O" {
		t.Error(got)
	}
	execute(t, name, "drop table moon cascade")
	if err := part("public.moon"); err != nil {
		t.Fatal(err)
	}
	if n := query[int](t, name, "insert into moon (planet, name) values (1, 'next') returning id"); n != 301 {
		t.Errorf("the next number is %d", n)
	}
	if err := part("public.nothing"); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
}

func TestRestorePartRefused(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target, content := restored(t, "part-refused")
	name := databaseName(target)
	execute(t, name, "insert into planet values (8, 'Neptune'); insert into moon (planet, name) values (8, 'Triton'); select setval('moon_id_seq', 999)")
	before := digestOf(t, target)
	for want, try := range map[string]func() error{
		`foreign key constraint "moon_planet_fkey"`: func() error { return m.RestorePart(t.Context(), target, bytes.NewReader(content), "public.planet") },
		"ends before its end marker": func() error {
			return m.RestorePart(t.Context(), target, bytes.NewReader(content[:len(content)-1]), "public.moon")
		},
		"has other columns": func() error {
			execute(t, name, "alter table moon rename name to label")
			defer execute(t, name, "alter table moon rename label to name")
			return m.RestorePart(t.Context(), target, bytes.NewReader(content), "public.moon")
		},
	} {
		if err := try(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in: %v", want, err)
		}
		if digestOf(t, target) != before || query[int](t, name, "select last_value from moon_id_seq") != 999 {
			t.Errorf("%s: the state changed", want)
		}
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target, _ := restored(t, "migrate")
	name := databaseName(target)
	step := func(n int, text string) error {
		sum := sha256.Sum256([]byte(text))
		return m.Migrate(t.Context(), target, state.Migration{Number: n, Name: fmt.Sprintf("%04d-it's.sql", n), SHA256: hex.EncodeToString(sum[:])}, []byte(text))
	}
	const first = "create table star (id int); insert into star values (1); -- begin;\n"
	for range 2 {
		if err := step(1, first); err != nil {
			t.Fatal(err)
		}
	}
	if err := step(1, first+" "); !errors.Is(err, state.ErrBadProperty) {
		t.Error(err)
	}
	if err := step(2, "create table half (id int); select no_such_function();"); err == nil || !strings.Contains(err.Error(), "no_such_function") {
		t.Error(err)
	}
	if query[bool](t, name, "select to_regclass('half') is not null") {
		t.Error("half a migration")
	}
	if err := step(2, "create index concurrently star_id on star (id);"); err != nil {
		t.Error(err)
	}
	done, err := m.Migrated(t.Context(), target)
	if err != nil || len(done) != 2 || done[1].Number != 2 || done[0].Name != "0001-it's.sql" || done[0].Applied.IsZero() {
		t.Errorf("%+v, %v", done, err)
	}
	if !bytes.Contains(snapshot(t, target), []byte("orrery.migrations")) {
		t.Error("migrations are not a part of the state")
	}
	for text, want := range map[string]bool{
		"select 1;": true, "VACUUM;": false, "create unique index concurrently x on y(z);": false, "-- commit;\nselect 'commit;';": true, "begin; select 1; commit;": false,
		"select $$": true, "alter type x add value 'y';": true, "insert into begin_x values (1);": true,
	} {
		if inOneTransaction([]byte(text)) != want {
			t.Error(text)
		}
	}
}
