package postgresql

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

const schema = `
create table planet (id int primary key, name text not null, note text);
create table moon (id serial primary key, planet int references planet, name text);
create view named as select p.name as planet, m.name as moon from planet p join moon m on m.planet = p.id;
create function greet(text) returns text language sql as $$ select 'hello
\restrict
' || $1 $$;
insert into planet values (1, 'Mercury', null), (2, 'Venus', 'tab	and "quotes"'), (3, 'Earth', E'\\restrict\rnasty\nlines \\. end');
`

var containers struct {
	sync.Mutex
	n int
}

// newTarget returns a component whose database has a name of its own on the test's server.
func newTarget(t *testing.T, name string) state.Target {
	t.Helper()
	p := testenv.PostgreSQL(t)
	dir := t.TempDir()
	password, ddl := filepath.Join(dir, "password"), filepath.Join(dir, "schema.sql")
	if err := os.WriteFile(password, []byte(p.Password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ddl, []byte(schema), 0o600); err != nil {
		t.Fatal(err)
	}
	containers.Lock()
	containers.n++
	database := fmt.Sprintf("%s-%d", name, containers.n)
	containers.Unlock()
	target := state.Target{
		Component: state.Component{
			Name: name, Module: "postgresql-database", Container: "pg",
			Properties: state.Properties{"schema": ddl, "database": database},
		},
		Container: state.Container{Name: "pg", Module: "postgresql-database", Directory: dir, Properties: state.Properties{
			"port": p.Port, "user": p.User, "passwordFile": password,
		}},
		Directory: dir,
	}
	t.Cleanup(func() {
		if err := New(Config{}).CollectGarbage(context.Background(), target); err != nil {
			t.Error(err)
		}
	})
	return target
}

func named(target state.Target, database string) state.Target {
	properties := state.Properties{}
	maps.Copy(properties, target.Component.Properties)
	properties["database"] = database
	target.Component.Properties = properties
	return target
}

func databaseName(target state.Target) string {
	name, _ := target.Component.Properties["database"].(string)
	return name
}

// client connects as a program that uses the database does.
func client(t *testing.T, database string) *pgx.Conn {
	t.Helper()
	conn, err := dial(t, database)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func dial(t *testing.T, database string) (*pgx.Conn, error) {
	t.Helper()
	p := testenv.PostgreSQL(t)
	config, err := pgx.ParseConfig("")
	if err != nil {
		t.Fatal(err)
	}
	config.Host, config.Port, config.User, config.Password, config.Database = p.Host, uint16(p.Port), p.User, p.Password, database
	config.TLSConfig, config.Fallbacks = nil, nil
	conn, err := pgx.ConnectConfig(t.Context(), config)
	if err == nil {
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
	}
	return conn, err
}

func execute(t *testing.T, database, sql string, args ...any) {
	t.Helper()
	conn := client(t, database)
	defer conn.Close(context.Background())
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// executeAtEnd carries out a statement when the test's context has ended.
func executeAtEnd(t *testing.T, sql string) {
	t.Helper()
	p := testenv.PostgreSQL(t)
	u := url.URL{Scheme: "postgres", User: url.UserPassword(p.User, p.Password), Host: fmt.Sprintf("%s:%d", p.Host, p.Port), Path: "postgres"}
	conn, err := pgx.Connect(context.Background(), u.String())
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), sql); err != nil {
		t.Errorf("%s: %v", sql, err)
	}
}

func query[T any](t *testing.T, database, sql string, args ...any) T {
	t.Helper()
	conn := client(t, database)
	defer conn.Close(context.Background())
	var v T
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

const digestQuery = `select
	coalesce((select string_agg(p::text, '|' order by id) from planet p), '') || '#' ||
	coalesce((select string_agg(m::text, '|' order by id) from moon m), '') || '#' || greet('x') || '#' ||
	(select string_agg(relname, ',' order by relname) from pg_class where relnamespace = 'public'::regnamespace)`

func change(t *testing.T, target state.Target, n int) {
	t.Helper()
	execute(t, databaseName(target), "insert into moon (planet, name) select 1 + i % 3, 'moon ' || $1::text || '.' || i from generate_series(1, 300) i", fmt.Sprint(n))
	execute(t, databaseName(target), "update planet set note = coalesce(note, '') || $1 where id = 2", fmt.Sprint(n))
	execute(t, databaseName(target), fmt.Sprintf("create table if not exists extra_%d ()", n))
}

func digestOf(t *testing.T, target state.Target) string {
	t.Helper()
	return query[string](t, databaseName(target), digestQuery)
}

func activate(t *testing.T, target state.Target) {
	t.Helper()
	if err := New(Config{}).Activate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
}

func snapshot(t *testing.T, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := New(Config{}).Snapshot(t.Context(), target, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// noSides finds side databases that an operation forgot.
func noSides(t *testing.T, target state.Target) {
	t.Helper()
	next, previous := sideNames(databaseName(target))
	if n := query[int](t, "postgres", "select count(*) from pg_database where datname in ($1, $2)", next, previous); n != 0 {
		t.Errorf("%d side databases are left", n)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	moduletest.Run(t, moduletest.Harness{
		Module:    New(Config{}),
		NewTarget: newTarget,
		Bad: []state.Properties{
			{"database": "postgres"},
			{"database": "template1"},
			{"database": strings.Repeat("n", 64)},
			{"database": "zero\x00byte"},
			{"schema": "relative.sql"},
			{"privileges": "perhaps"},
			{"database": sidePrefix + "x"},
		},
		Change: change,
		Digest: digestOf,
		Replicas: &moduletest.Replicas{
			Beside: func(t *testing.T, source state.Target, name string) state.Target {
				t.Helper()
				return newReplica(t, source, name, testenv.Reachable(t))
			},
			Digest: func(t *testing.T, target state.Target) string { t.Helper(); return thinDigest(t, target, digestQuery) },
			Change: func(t *testing.T, target state.Target, n int) {
				t.Helper()
				thinDigest(t, target, fmt.Sprintf("with x as (insert into moon (planet, name) values (1, 'moon %d') returning 1) select count(*)::text from x", n))
			},
		},
	})
}

func TestNames(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	for _, name := range []string{`-hyphens and "quotes" and 'quotes'`, "dbname=postgres", `postgres://ünï\CODE`} {
		target := named(newTarget(t, "names"), name)
		activate(t, target)
		change(t, target, 1)
		before, content := digestOf(t, target), snapshot(t, target)
		change(t, target, 2)
		if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if digestOf(t, target) != before {
			t.Errorf("%s: not restored", name)
		}
		noSides(t, target)
		if err := m.CollectGarbage(t.Context(), target); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	long := strings.Repeat("n", 63)
	if a, b := shorten(long+"@blue"), shorten(long+"@green"); a == b || len(a) != maxName {
		t.Errorf("%q, %q", a, b)
	}
}

func TestBadSchemaCreatesNothing(t *testing.T) {
	t.Parallel()
	target := newTarget(t, "bad-schema")
	path, _ := target.Component.Properties["schema"].(string)
	if err := os.WriteFile(path, []byte(schema+"create table broken (x no_such_type);"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := New(Config{}).Activate(t.Context(), target)
	if err == nil || !strings.Contains(err.Error(), "no_such_type") || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
	if query[bool](t, "postgres", "select exists (select from pg_database where datname = $1)", databaseName(target)) {
		t.Error("the database exists")
	}
	noSides(t, target)
	target.Component.Properties["schema"] = path + ".missing"
	if err := New(Config{}).Activate(t.Context(), target); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("%v", err)
	}
}

// TestClients takes snapshots and restores under clients that write and reconnect all the time.
func TestClients(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "clients")
	activate(t, target)
	content := snapshot(t, target)
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	var written [4]int
	for i := range written {
		writers.Go(func() {
			for ctx.Err() == nil {
				conn, err := dial(t, databaseName(target))
				if err != nil {
					continue
				}
				for ctx.Err() == nil {
					// Both in one transaction: a snapshot has as many of the one as of the other.
					_, err := conn.Exec(ctx, "insert into moon (planet, name) values (1, 'pair'); insert into planet select coalesce(max(id), 0) + 1 + (random() * 1e9)::int, 'pair' from moon")
					if err != nil {
						break
					}
					written[i]++
				}
			}
		})
	}
	defer writers.Wait()
	defer cancel()
	for range 3 {
		checkPairs(t, m, target, snapshot(t, target))
		if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, "writes after the last restore", func() bool {
		return query[int](t, databaseName(target), "select count(*) from moon where name = 'pair'") > 10
	})
}

// checkPairs restores a snapshot elsewhere and counts.
func checkPairs(t *testing.T, m *Module, target state.Target, content []byte) {
	t.Helper()
	other := named(target, "clients-check")
	defer func() {
		if err := m.CollectGarbage(t.Context(), other); err != nil {
			t.Error(err)
		}
	}()
	if err := m.Restore(t.Context(), other, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	const pairs = "select (select count(*) from moon where name = 'pair') - (select count(*) from planet where name = 'pair')"
	if difference := query[int](t, databaseName(other), pairs); difference != 0 {
		t.Errorf("the snapshot is not of one point in time: %d", difference)
	}
}

func TestInactiveIsReadOnly(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "fence")
	activate(t, target)
	conn := client(t, databaseName(target))
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "insert into planet values (9, 'Vulcan')"); err == nil {
		t.Error("a connected client wrote after deactivation")
	}
	if _, err := client(t, databaseName(target)).Exec(t.Context(), "insert into planet values (9, 'Vulcan')"); err == nil {
		t.Error("a new client wrote after deactivation")
	}
	if err := m.Health(t.Context(), target); !errors.Is(err, state.ErrInactive) {
		t.Errorf("health: %v", err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(snapshot(t, target))); err != nil {
		t.Fatal(err)
	}
	if err := m.Health(t.Context(), target); !errors.Is(err, state.ErrInactive) {
		t.Errorf("health after a restore of the inactive component: %v", err)
	}
	activate(t, target)
	execute(t, databaseName(target), "insert into planet values (9, 'Vulcan')")
}

func TestServerTroubles(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	good := newTarget(t, "troubles")
	with := func(name string, value any) state.Target {
		target := good
		target.Container.Properties = state.Properties{name: value}
		for k, v := range good.Container.Properties {
			if k != name && (name != "passwordEnv" || k != "passwordFile") {
				target.Container.Properties[k] = v
			}
		}
		return target
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("guess"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := testenv.FreePort(t)
	for want, target := range map[string]state.Target{
		"password authentication failed":         with("passwordFile", wrong),
		"cannot read the password":               with("passwordFile", wrong+".missing"),
		"ORRERY_NO_SUCH_VARIABLE":                with("passwordEnv", "ORRERY_NO_SUCH_VARIABLE"),
		fmt.Sprintf("127.0.0.1:%d", port):        with("port", port),
		"/nowhere/.s.PGSQL":                      with("host", "/nowhere"),
		"postgresql-client-":                     with("tools", t.TempDir()),
		"no-such-database":                       with("database", "no-such-database"),
		"port 0 is not":                          with("port", 0),
		`sslmode "maybe"`:                        with("sslmode", "maybe"),
		`unknown field "colour"`:                 with("colour", "blue"),
		"cannot activate database pg/troubles: ": with("user", "nobody-at-all"),
	} {
		err := m.Activate(t.Context(), target)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q in: %v", want, err)
		}
		if err != nil && (strings.Contains(err.Error(), "sesame") || strings.Contains(err.Error(), "guess")) {
			t.Errorf("the password is in: %v", err)
		}
	}
	if err := m.Snapshot(t.Context(), good, io.Discard); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("snapshot of a database that does not exist: %v", err)
	}
}

func TestSocketAndPasswordByEnvironment(t *testing.T) {
	p := testenv.PostgreSQL(t)
	t.Setenv("ORRERY_TEST_PASSWORD", p.Password)
	target := newTarget(t, "socket")
	target.Container.Properties = state.Properties{"host": p.SocketDir, "port": p.Port, "user": p.User, "passwordEnv": "ORRERY_TEST_PASSWORD"}
	activate(t, target)
	content := snapshot(t, target)
	if err := New(Config{}).Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	values, err := New(Config{}).Exports(target)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(values["url"])
	if err != nil || strings.Contains(values["url"], "sesame") {
		t.Fatal(values, err)
	}
	u.User = url.UserPassword(p.User, p.Password)
	conn, err := pgx.Connect(t.Context(), u.String())
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPsqlKilled kills the psql of a restore in the middle.
func TestPsqlKilled(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "killed")
	activate(t, target)
	change(t, target, 1)
	content := snapshot(t, target)
	change(t, target, 2)
	before := digestOf(t, target)
	half := len(content) / 2
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() {
		err := m.Restore(t.Context(), target, r)
		r.CloseWithError(io.ErrClosedPipe)
		done <- err
	}()
	if _, err := w.Write(content[:half]); err != nil {
		t.Fatal(err)
	}
	next, _ := sideNames(databaseName(target))
	killed := killTool(t, "PGDATABASE="+next)
	_, _ = w.Write(content[half:])
	_ = w.Close()
	if err := <-done; err == nil {
		t.Errorf("a restore whose psql %d was killed succeeded", killed)
	}
	if digestOf(t, target) != before {
		t.Error("the state changed")
	}
	testenv.Eventually(t, "no side database", func() bool {
		return query[int](t, "postgres", "select count(*) from pg_database where datname = $1", next) == 0
	})
}

// killTool kills the process that has a variable in its environment.
func killTool(t *testing.T, variable string) int {
	t.Helper()
	var pid int
	testenv.Eventually(t, "a psql", func() bool {
		matches, err := filepath.Glob("/proc/[0-9]*/environ")
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range matches {
			env, err := os.ReadFile(path)
			if err == nil && bytes.Contains(env, []byte(variable+"\x00")) {
				_, _ = fmt.Sscanf(path, "/proc/%d/environ", &pid)
				return true
			}
		}
		return false
	})
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	return pid
}

// TestCancelledInTheMiddle ends the context of a restore that is under way.
func TestCancelledInTheMiddle(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "cancelled-middle")
	activate(t, target)
	content := snapshot(t, target)
	change(t, target, 2)
	before := digestOf(t, target)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- m.Restore(ctx, target, r) }()
	if _, err := w.Write(content[:len(content)/2]); err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = w.CloseWithError(context.Canceled)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if digestOf(t, target) != before {
		t.Error("the state changed")
	}
	noSides(t, target)
}

// TestHostileSnapshots restores dumps that try to run programs here or to leave their database.
func TestHostileSnapshots(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "hostile")
	activate(t, target)
	before := digestOf(t, target)
	proof := filepath.Join(t.TempDir(), "proof")
	for _, attack := range []string{
		`\! touch ` + proof, "select 1 \\g | touch " + proof, `\o ` + proof, `\copy planet to ` + proof,
		`\connect postgres`, "\\unrestrict guess\n\\! touch " + proof, `\set x ` + "`touch " + proof + "`", "select 1 \\; select 2 \\! touch " + proof,
	} {
		bad := magic + "create table planet(id int);\n" + attack + "\n" + endMarker
		if err := m.Restore(t.Context(), target, strings.NewReader(bad)); err == nil {
			t.Errorf("%q was restored", attack)
		}
		if _, err := os.Stat(proof); err == nil {
			t.Fatalf("%q ran a program", attack)
		}
	}
	if digestOf(t, target) != before {
		t.Error("the state changed")
	}
	noSides(t, target)
}

// TestTraitsSurvive looks at what is in no dump: owner, grants and settings of the database itself, and the grants in it.
func TestTraitsSurvive(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "traits")
	activate(t, target)
	name := databaseName(target)
	q := pgx.Identifier{name}.Sanitize()
	for _, sql := range []string{
		`create role "app-user" login`, `create role reader`,
		`alter database ` + q + ` owner to "app-user"`, `revoke all on database ` + q + ` from public`,
		`grant connect on database ` + q + ` to reader with grant option`,
		`alter database ` + q + ` set search_path to "$user", public, "odd, ""name"`,
		`alter database ` + q + ` set work_mem = '12MB'`, `alter role reader in database ` + q + ` set statement_timeout = 4711`,
		`alter database ` + q + ` set my.app = E'it''s \\ odd'`, `alter database ` + q + ` connection limit 77`, `comment on database ` + q + ` is 'it''s ours'`,
	} {
		execute(t, "postgres", sql)
	}
	execute(t, name, "grant select on planet to reader")
	defer func() {
		if err := m.CollectGarbage(t.Context(), target); err != nil {
			t.Error(err)
		}
		execute(t, "postgres", `drop role "app-user"; drop role reader`)
	}()
	const traits = `select pg_get_userbyid(datdba) || datacl::text || datconnlimit || shobj_description(oid, 'pg_database') || datcollate || datctype || encoding ||
		(select string_agg(setconfig::text || setrole, '|' order by setrole) from pg_db_role_setting where setdatabase = d.oid) from pg_database d where datname = $1`
	before := query[string](t, "postgres", traits, name)
	content := snapshot(t, target)
	if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if after := query[string](t, "postgres", traits, name); after != before {
		t.Errorf("before %s\nafter  %s", before, after)
	}
	if !query[bool](t, name, "select has_table_privilege('reader', 'planet', 'select')") {
		t.Error("a grant is lost")
	}
	if owner := query[string](t, name, "select tableowner from pg_tables where tablename = 'planet'"); owner != "app-user" {
		t.Errorf("tables belong to %s", owner)
	}
	again := snapshot(t, target)
	if !bytes.Equal(content, again) {
		t.Error("the snapshot changed")
	}
	target.Component.Properties["privileges"] = false
	if bytes.Contains(snapshot(t, target), []byte("GRANT")) {
		t.Error("privileges false, but there are grants")
	}
}

// TestForkInUse forks a database while a client is connected, and an idle one.
func TestForkInUse(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	source := newTarget(t, "fork-in-use")
	activate(t, source)
	change(t, source, 1)
	conn := client(t, databaseName(source))
	if _, err := conn.Exec(t.Context(), "begin; insert into planet values (7, 'uncommitted')"); err != nil {
		t.Fatal(err)
	}
	into := named(source, databaseName(source)+"@blue")
	defer func() {
		if err := m.CollectGarbage(context.Background(), into); err != nil {
			t.Error(err)
		}
	}()
	if _, err := m.Fork(t.Context(), source, into); err != nil {
		t.Fatal(err)
	}
	if query[bool](t, databaseName(into), "select exists (select from planet where id = 7)") {
		t.Error("the fork has what was not committed")
	}
	if _, err := conn.Exec(t.Context(), "commit"); err != nil {
		t.Errorf("the source's client was disturbed: %v", err)
	}
	if _, err := m.Fork(t.Context(), source, into); !errors.Is(err, state.ErrInUse) {
		t.Errorf("a second fork over the first: %v", err)
	}
	noSides(t, into)
}

// TestForkKeepsOwner forks an idle database of another role, once with its files and once for another owner.
func TestForkKeepsOwner(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	execute(t, "postgres", `create role "fork owner"; create role "fork heir"`)
	t.Cleanup(func() { executeAtEnd(t, `drop role "fork owner"; drop role "fork heir"`) })
	source := newTarget(t, "fork-owner")
	source.Component.Properties["owner"] = "fork owner"
	activate(t, source)
	for want, owner := range map[string]string{"fork owner": "", "fork heir": "fork heir"} {
		into := named(source, databaseName(source)+"@"+want)
		into.Component.Properties["owner"] = owner
		if _, err := m.Fork(t.Context(), source, into); err != nil {
			t.Fatal(err)
		}
		of := query[string](t, databaseName(into), `select pg_get_userbyid(datdba) || ', ' || (select tableowner from pg_tables where tablename = 'planet')
			from pg_database where datname = current_database()`)
		if of != want+", "+want {
			t.Errorf("database and tables of the fork belong to %s, want %s", of, want)
		}
		if err := m.CollectGarbage(t.Context(), into); err != nil {
			t.Error(err)
		}
	}
}

// TestLeftovers activates beside side databases of an operation that was killed.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "leftovers")
	activate(t, target)
	before := digestOf(t, target)
	next, previous := sideNames(databaseName(target))
	for range 2 {
		execute(t, "postgres", "create database "+quote(next))
		execute(t, "postgres", "create database "+quote(previous))
		if err := m.Restore(t.Context(), target, bytes.NewReader(snapshot(t, target))); err != nil {
			t.Fatal(err)
		}
		noSides(t, target)
		execute(t, "postgres", "create database "+quote(next))
		activate(t, target)
		noSides(t, target)
	}
	if digestOf(t, target) != before {
		t.Error("the state changed")
	}
}

// TestLargeDump streams a dump of several megabytes through both ways.
func TestLargeDump(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "large")
	activate(t, target)
	execute(t, databaseName(target), "insert into moon (planet, name) select 1, md5(i::text) || repeat('x', 50) from generate_series(1, 60000) i")
	var sum [2][32]byte
	for i := range sum {
		h := sha256.New()
		if err := m.Snapshot(t.Context(), target, h); err != nil {
			t.Fatal(err)
		}
		h.Sum(sum[i][:0])
		if i == 0 {
			began := time.Now()
			if err := m.Restore(t.Context(), target, bytes.NewReader(snapshot(t, target))); err != nil {
				t.Fatal(err)
			}
			t.Logf("restore in %v", time.Since(began))
		}
	}
	if sum[0] != sum[1] {
		t.Error("the restored database has another snapshot")
	}
}
