package mysql

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	driver "github.com/go-sql-driver/mysql"

	"orrery/internal/testenv"
	"orrery/state"
	"orrery/state/module/moduletest"
)

const schema = `
create table planet (id int primary key auto_increment, name text not null, note text, pic blob, twice int as (length(name)) stored);
create table moon (id int primary key auto_increment, planet int, name text, constraint orbit foreign key (planet) references planet (id));
create table log (n int);
create sequence ticket;
create view b_named as select p.name as planet, m.name as moon from planet p join moon m on m.planet = p.id;
create view a_first as select planet from b_named; -- refers to one that comes later
delimiter ;;
create trigger named before insert on moon for each row begin -- don't stop; here
  set new.name = concat(new.name, ';'';'); end;;
create function greet(t text charset utf8mb4) returns text charset utf8mb4 deterministic begin return concat('hello; ', t); end;;
create procedure nothing() begin /* it's; nothing */ select 1; end;;
create event tidy on schedule every 1 year starts '2020-02-02 02:02:02' do begin delete from log where n > 1000; end;;
delimiter ;
insert into planet (name, note, pic) values ('Mercury', null, null), ('Venus', 'tab	and "quotes"', x'00ff27'), ('Earth', 'nasty\nlines; -- '' \\', '');
`

var containers struct {
	sync.Mutex
	n int
}

func newTarget(t *testing.T, name string) state.Target {
	t.Helper()
	return newTargetOn(t, testenv.SharedMariaDB(t), name, schema)
}

func newTargetOn(t *testing.T, s *testenv.MariaDB, name, schema string) state.Target {
	t.Helper()
	dir := t.TempDir()
	password, ddl := filepath.Join(dir, "password"), filepath.Join(dir, "schema.sql")
	if err := errors.Join(os.WriteFile(password, []byte(s.Password+"\n"), 0o600), os.WriteFile(ddl, []byte(schema), 0o600)); err != nil {
		t.Fatal(err)
	}
	containers.Lock()
	containers.n++
	database := fmt.Sprintf("%s-%d", name, containers.n)
	containers.Unlock()
	target := state.Target{
		Component: state.Component{
			Name: name, Module: "mysql-database", Container: "db",
			Properties: state.Properties{"schema": ddl, "database": database},
		},
		Container: state.Container{Name: "db", Module: "mysql-database", Directory: dir, Properties: state.Properties{
			"port": s.Port, "user": s.User, "passwordFile": password,
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
func client(t *testing.T, database string) *sql.DB {
	t.Helper()
	return clientOf(t, testenv.SharedMariaDB(t), database)
}

func clientOf(t *testing.T, s *testenv.MariaDB, database string) *sql.DB {
	t.Helper()
	c := driver.NewConfig()
	c.User, c.Passwd, c.Net, c.Addr, c.DBName, c.MultiStatements = s.User, s.Password, "unix", s.Socket, database, true
	c.Logger, c.Params = &driver.NopLogger{}, map[string]string{"group_concat_max_len": "100000000"}
	connector, err := driver.NewConnector(c)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func execute(t *testing.T, database, text string) {
	t.Helper()
	db := client(t, database)
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func query(t *testing.T, database, text string, args ...any) string {
	t.Helper()
	db := client(t, database)
	defer db.Close()
	var v sql.NullString
	if err := db.QueryRowContext(t.Context(), text, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v.String
}

func change(t *testing.T, target state.Target, n int) {
	t.Helper()
	execute(t, databaseName(target), fmt.Sprintf(`insert into moon (planet, name) select 1 + seq %% 3, concat('moon ', %d, '.', seq) from seq_1_to_300;
		update planet set note = concat(coalesce(note, ''), %d) where id = 2; create table if not exists extra_%d (x int)`, n, n, n))
}

const digestQuery = `select concat_ws('#',
		(select md5(group_concat(concat_ws('|', id, name, ifnull(note, 'N'), ifnull(hex(pic), 'N'), twice) order by id)) from planet),
		(select concat(count(*), md5(group_concat(concat_ws('|', id, planet, name) order by id))) from moon), (select count(*) from a_first), greet('x'),
		(select group_concat(table_name order by table_name) from information_schema.tables where table_schema = database()),
		(select group_concat(trigger_name) from information_schema.triggers where trigger_schema = database()),
		(select group_concat(routine_name order by 1) from information_schema.routines where routine_schema = database()),
		(select group_concat(event_name) from information_schema.events where event_schema = database()))`

func digestOf(t *testing.T, target state.Target) string {
	t.Helper()
	db := databaseName(target)
	return query(t, db, digestQuery)
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
	if n := query(t, "", "select count(*) from information_schema.schemata where schema_name like ?", sidePrefix+digest(databaseName(target))+"%"); n != "0" {
		t.Errorf("%s side databases are left", n)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	moduletest.Run(t, moduletest.Harness{
		Module:    New(Config{}),
		NewTarget: newTarget,
		Bad: []state.Properties{
			{"database": "mysql"},
			{"database": "SYS"},
			{"database": strings.Repeat("n", 65)},
			{"database": "zero\x00byte"},
			{"database": " "},
			{"database": "it's"},
			{"database": `back\slash`},
			{"schema": "relative.sql"},
			{"database": sidePrefix + "x"},
		},
		Change: change,
		Digest: digestOf,
	})
}

// TestNames uses names that mean something elsewhere, and finds nothing left behind.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"-hyphens, `ticks`; and -- more", "a.b/../c", "ünï CODE%s*/#"} {
		target := named(newTarget(t, "names"), name)
		activate(t, target)
		change(t, target, 1)
		before, content := digestOf(t, target), snapshot(t, target)
		change(t, target, 2)
		if err := New(Config{}).Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if digestOf(t, target) != before {
			t.Errorf("%s: not restored", name)
		}
		noSides(t, target)
		if err := New(Config{}).CollectGarbage(t.Context(), target); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSnapshotIsCanonical finds the same bytes under another name, by an export, and by the server's own client.
func TestSnapshotIsCanonical(t *testing.T) {
	t.Parallel()
	a, b := newTarget(t, "canonical"), newTarget(t, "canonical-twin")
	activate(t, a)
	execute(t, databaseName(a), "insert into log select seq from seq_1_to_40000")
	content := snapshot(t, a)
	if err := New(Config{}).Restore(t.Context(), b, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if again := snapshot(t, b); !bytes.Equal(content, again) {
		t.Errorf("differs: %s", firstDifference(content, again))
	}
	if bytes.Contains(content, []byte("10.1")) || bytes.Contains(content, []byte(databaseName(a))) {
		t.Error("the snapshot names its server or database")
	}
	var exported, imported bytes.Buffer
	if err := New(Config{}).Export(t.Context(), bytes.NewReader(content), &exported); err != nil {
		t.Fatal(err)
	}
	if err := New(Config{}).Import(t.Context(), bytes.NewReader(exported.Bytes()), &imported); err != nil || !bytes.Equal(imported.Bytes(), content) {
		t.Errorf("an export does not come back: %v", err)
	}
	clientLoads(t, exported.Bytes(), content)
}

func firstDifference(a, b []byte) string {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	cut := func(s []byte) []byte { return s[max(0, i-100):min(len(s), i+100)] }
	return fmt.Sprintf("%q, %q", cut(a), cut(b))
}

// clientLoads has the server's own client load an export.
func clientLoads(t *testing.T, exported, content []byte) {
	t.Helper()
	other := newTarget(t, "client-loads")
	other.Component.Properties["schema"] = ""
	activate(t, other)
	c, err := New(Config{}).Shell(t.Context(), other, "")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), c.Path, c.Args...)
	cmd.Env, cmd.Stdin = append(os.Environ(), c.Env...), bytes.NewReader(exported)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if again := snapshot(t, other); !bytes.Equal(again, content) {
		t.Errorf("differs after the client loaded it: %s", firstDifference(content, again))
	}
}

// TestClients takes snapshots and restores under clients that write all the time; pairs are written in one transaction.
func TestClients(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "clients")
	activate(t, target)
	execute(t, databaseName(target), "create table one (x int primary key auto_increment); create table two (x int primary key auto_increment)")
	content := snapshot(t, target)
	ctx, cancel := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 3 {
		db := client(t, databaseName(target))
		writers.Go(func() {
			for ctx.Err() == nil {
				_, _ = db.ExecContext(ctx, "start transaction; insert into one values (); insert into two values (); commit")
			}
		})
	}
	defer writers.Wait()
	defer cancel()
	check := newTarget(t, "clients-check")
	for range 3 {
		if err := m.Restore(t.Context(), check, bytes.NewReader(snapshot(t, target))); err != nil {
			t.Fatal(err)
		}
		if difference := query(t, databaseName(check), "select (select count(*) from one) - (select count(*) from two)"); difference != "0" {
			t.Errorf("the snapshot is not of one point in time: %s", difference)
		}
		if err := m.Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
			t.Fatal(err)
		}
	}
	testenv.Eventually(t, "writes after the last restore", func() bool {
		return query(t, databaseName(target), "select count(*) > 10 from one") == "1"
	})
}

// TestIdleTransaction restores under a client that holds a table and does nothing.
func TestIdleTransaction(t *testing.T) {
	t.Parallel()
	target := newTarget(t, "idle")
	activate(t, target)
	content := snapshot(t, target)
	conn, err := client(t, databaseName(target)).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.ExecContext(t.Context(), "start transaction; insert into planet (name) values ('held')"); err != nil {
		t.Fatal(err)
	}
	if err := New(Config{}).Restore(t.Context(), target, bytes.NewReader(content)); err != nil {
		t.Fatal(err)
	}
	if err := conn.PingContext(t.Context()); err == nil {
		t.Error("the session that held the table is still there")
	}
	if !bytes.Equal(snapshot(t, target), content) {
		t.Error("not restored")
	}
}

func TestServerTroubles(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	good := newTarget(t, "troubles")
	with := func(name string, value any) state.Target {
		target := good
		target.Container.Properties = state.Properties{}
		for k, v := range good.Container.Properties {
			if name != "passwordEnv" || k != "passwordFile" {
				target.Container.Properties[k] = v
			}
		}
		target.Container.Properties[name] = value
		return target
	}
	wrong := filepath.Join(t.TempDir(), "wrong")
	if err := os.WriteFile(wrong, []byte("guess"), 0o600); err != nil {
		t.Fatal(err)
	}
	port := testenv.FreePort(t)
	for want, target := range map[string]state.Target{
		"Access denied":                         with("passwordFile", wrong),
		"cannot read the password":              with("passwordFile", wrong+".missing"),
		"ORRERY_NO_SUCH_VARIABLE":               with("passwordEnv", "ORRERY_NO_SUCH_VARIABLE"),
		fmt.Sprintf("127.0.0.1:%d", port):       with("port", port),
		"/nowhere/s":                            with("socket", "/nowhere/s"),
		"mariadb-client":                        with("tools", t.TempDir()),
		"port 0 is not":                         with("port", 0),
		`unknown field "colour"`:                with("colour", "blue"),
		`refuses user "nobody-at-all"`:          with("user", "nobody-at-all"),
		"cannot activate database db/troubles:": with("host", "127.0.0.1.invalid"),
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
	if err := m.Activate(t.Context(), with("port", port)); !errors.Is(err, state.ErrUnreachable) {
		t.Errorf("%v", err)
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
	if query(t, "", "select count(*) from information_schema.schemata where schema_name = ?", databaseName(target)) != "0" {
		t.Error("the database exists")
	}
	noSides(t, target)
}

// TestOtherEngines refuses a table that no transaction protects.
func TestOtherEngines(t *testing.T) {
	t.Parallel()
	target := newTarget(t, "engines")
	activate(t, target)
	execute(t, databaseName(target), "create table odd (x int) engine=MyISAM")
	if err := New(Config{}).Snapshot(t.Context(), target, io.Discard); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "odd (MyISAM)") {
		t.Errorf("%v", err)
	}
}

// TestHostileSnapshots restores dumps that try to reach something else.
func TestHostileSnapshots(t *testing.T) {
	t.Parallel()
	target := newTarget(t, "hostile")
	activate(t, target)
	before := digestOf(t, target)
	proof := filepath.Join(t.TempDir(), "proof")
	for _, attack := range []string{
		"\\! touch " + proof + "\n;", "use mysql;", "drop database mysql;", "drop view if exists `mysql`.`user`;", "create view mysql.v as select 1;", "create trigger mysql.tr before insert on x for each row set @a = 1;", "insert into `mysql`.`user` values (1);", "create table mysql.x (x int);",
		"grant all on *.* to x;", "set sql_mode = (select 1);", "create user x;", "source " + proof + ";", "call x();", "select 1 into outfile '" + proof + "';",
	} {
		bad := magic + "create table `planet` (id int);\n" + attack + "\n" + endMarker + "\n"
		if err := New(Config{}).Restore(t.Context(), target, strings.NewReader(bad)); !errors.Is(err, state.ErrCorrupt) {
			t.Errorf("%q: %v", attack, err)
		}
	}
	if digestOf(t, target) != before {
		t.Error("the state changed")
	}
	noSides(t, target)
}

// TestCancelledInTheMiddle ends the context of a restore that is under way.
func TestCancelledInTheMiddle(t *testing.T) {
	t.Parallel()
	target := newTarget(t, "cancelled-middle")
	activate(t, target)
	content := snapshot(t, target)
	change(t, target, 2)
	before := digestOf(t, target)
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- New(Config{}).Restore(ctx, target, r) }()
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

func TestMigrate(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "migrate")
	activate(t, target)
	if all, err := m.Migrated(t.Context(), target); err != nil || len(all) != 0 {
		t.Fatal(all, err)
	}
	step := state.Migration{Number: 1, Name: "0001-mass.sql", SHA256: strings.Repeat("ab", 32), Applied: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	if err := m.Migrate(t.Context(), target, step, []byte("alter table planet add mass double; update planet set mass = 1;")); err != nil {
		t.Fatal(err)
	}
	bad := state.Migration{Number: 2, Name: "0002-bad.sql", SHA256: "x"}
	if err := m.Migrate(t.Context(), target, bad, []byte("alter table nowhere add x int")); err == nil || !strings.Contains(err.Error(), "0002-bad.sql") {
		t.Errorf("%v", err)
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(snapshot(t, target))); err != nil {
		t.Fatal(err)
	}
	all, err := m.Migrated(t.Context(), target)
	if err != nil || len(all) != 1 || all[0] != step {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestRestorePart(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "part")
	activate(t, target)
	execute(t, databaseName(target), "insert into log values (1), (2)")
	content := snapshot(t, target)
	restore := func(part string) error { return m.RestorePart(t.Context(), target, bytes.NewReader(content), part) }
	count := func(table string) string { return query(t, databaseName(target), "select count(*) from "+table) }
	execute(t, databaseName(target), "delete from log; insert into moon (planet, name) values (1, 'kept'); delete from planet where id = 3")
	if err := errors.Join(restore("log"), restore("planet")); err != nil || count("log")+count("moon")+count("planet") != "213" {
		t.Errorf("%v: %s, %s, %s", err, count("log"), count("moon"), count("planet"))
	}
	execute(t, databaseName(target), "alter table log add y int")
	if err := restore("log"); err != nil || count("log") != "2" {
		t.Error(err)
	}
	execute(t, databaseName(target), "drop table log")
	if err := restore("log"); err != nil || count("log") != "2" {
		t.Error(err)
	}
	if err := restore("moon"); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "trigger") {
		t.Errorf("a table with a trigger: %v", err)
	}
	if err := restore("comet"); !errors.Is(err, state.ErrNotFound) {
		t.Error(err)
	}
	execute(t, databaseName(target), "alter table planet add y int")
	if err := restore("planet"); !errors.Is(err, state.ErrNotAble) || !strings.Contains(err.Error(), "moon") {
		t.Errorf("a table that another refers to: %v", err)
	}
	noSides(t, target)
}

func TestAbilities(t *testing.T) {
	t.Parallel()
	m := New(Config{})
	target := newTarget(t, "abilities")
	activate(t, target)
	counts := map[string]int{}
	err := m.Items(t.Context(), bytes.NewReader(snapshot(t, target)), func(i state.Item) error {
		if i.Content != nil {
			counts[i.Part]++
		} else {
			counts[i.Part] += 0
		}
		return nil
	})
	if err != nil || counts["planet"] != 3 || counts[partDefinitions] < 3 {
		t.Errorf("%v, %v", counts, err)
	}
	if version, err := m.Version(t.Context(), target); err != nil || !strings.HasPrefix(version, "MariaDB 10.") {
		t.Error(version, err)
	}
	conn, err := client(t, databaseName(target)).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := m.Clients(t.Context(), target); err != nil || n != 1 {
		t.Errorf("%d clients, %v", n, err)
	}
	if err := m.Integrity(t.Context(), target); err != nil {
		t.Error(err)
	}
	c, err := m.Shell(t.Context(), target, "select name from planet where id = 1")
	if err != nil || strings.Contains(fmt.Sprint(c.Path, c.Args), "sesame") {
		t.Fatal(c, err)
	}
	cmd := exec.CommandContext(t.Context(), c.Path, c.Args...)
	cmd.Env = append(os.Environ(), c.Env...)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "Mercury") {
		t.Errorf("%s, %v", out, err)
	}
	beside := m.Beside(target.Component, "twin")
	if beside.Name != "twin" || beside.Properties["database"] != nil || databaseName(target) == "" {
		t.Errorf("%+v", beside)
	}
}

// FuzzReader feeds anything as a snapshot: what passes comes out as it would come out again.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"", "CREATE TABLE `a` (x int);\nINSERT INTO `a` VALUES\n(1,'(;''\\''),'),\n(2,0xff);\n", "SET sql_mode = 'A';\nDELIMITER ;;\nCREATE TRIGGER x -- '\n;;\nDELIMITER ;\n",
		"DELIMITER \n", "INSERT INTO `a` (`VALUES`) VALUES (1),", "/*!50001 CREATE VIEW `v` */;", "CREATE", "DROP", "delimiter ;;;\n x ;;;",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r, err := openSnapshot(strings.NewReader(magic + text + endMarker + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		var once, twice bytes.Buffer
		if canonicalise(r, &once) != nil {
			return
		}
		if r, err = openSnapshot(bytes.NewReader(once.Bytes())); err != nil {
			t.Fatal(err)
		}
		_ = canonicalise(r, &twice)
	})
}
