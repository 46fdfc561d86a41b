package sqlite

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"orrery/internal/testenv"
	"orrery/state"
)

func TestIntegrity(t *testing.T) {
	m := New(nil)
	target := activate(t, m, "CREATE TABLE a(x); CREATE INDEX i ON a(x); INSERT INTO a VALUES(1),(2);")
	if err := m.Integrity(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	version, err := m.Version(t.Context(), target)
	if err != nil || !strings.HasPrefix(version, "SQLite 3.") {
		t.Errorf("%q, %v", version, err)
	}
	query(t, path(target), "CREATE TABLE p(id PRIMARY KEY)", "CREATE TABLE c(p REFERENCES p)", "INSERT INTO c VALUES(1)", "SELECT 1")
	if err := m.Integrity(t.Context(), target); !errors.Is(err, state.ErrCorrupt) || !strings.Contains(err.Error(), "1 rows refer") {
		t.Error(err)
	}
	if err := m.Deactivate(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(path(target))
	if err != nil {
		t.Fatal(err)
	}
	for i := len(content) - 4096*4; i < len(content); i++ {
		content[i] = 0xa5
	}
	if err := os.WriteFile(path(target), content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := m.Integrity(t.Context(), target); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
}

func TestShell(t *testing.T) {
	m := New(nil)
	target := activate(t, m, "CREATE TABLE a(x); INSERT INTO a VALUES(1),(2);")
	t.Setenv("PATH", "/nonexistent")
	if _, err := m.Shell(t.Context(), target, ""); !errors.Is(err, state.ErrNotFound) || !strings.Contains(err.Error(), "install") {
		t.Error(err)
	}
	t.Setenv("PATH", "/usr/bin:/bin")
	if _, err := exec.LookPath("sqlite3"); err != nil {
		testenv.Missing(t, "sqlite3", "apt-get install sqlite3")
	}
	c, err := m.Shell(t.Context(), target, "-- how many\nSELECT count(*) FROM a")
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), c.Path, c.Args...).CombinedOutput()
	if err != nil || string(out) != "2\n" {
		t.Errorf("%q, %v", out, err)
	}
	if n, err := m.Clients(t.Context(), target); err != nil || n != 0 {
		t.Errorf("%d clients, %v", n, err)
	}
	// Another process that has it open is a client.
	client := exec.CommandContext(t.Context(), c.Path, path(target))
	in, err := client.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	lines, err := client.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "SELECT 'open' FROM a LIMIT 1;\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(lines, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	if n, err := m.Clients(t.Context(), target); err != nil || n != 1 {
		t.Errorf("%d clients, %v", n, err)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := client.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestMigrate(t *testing.T) {
	m := New(nil)
	target := activate(t, m, "CREATE TABLE a(x)")
	if all, err := m.Migrated(t.Context(), target); err != nil || len(all) != 0 {
		t.Fatalf("%v, %v", all, err)
	}
	one := state.Migration{Number: 1, Name: "0001-it's.sql", SHA256: "aa"}
	if err := m.Migrate(t.Context(), target, one, []byte("ALTER TABLE a ADD y; -- a comment; with a semicolon\nUPDATE a SET y=';';")); err != nil {
		t.Fatal(err)
	}
	all, err := m.Migrated(t.Context(), target)
	if err != nil || len(all) != 1 || all[0].Name != one.Name || all[0].SHA256 != "aa" || all[0].Applied.IsZero() {
		t.Fatalf("%v, %v", all, err)
	}
	for _, bad := range []string{"CREATE TABLE b(x); INSERT INTO nowhere VALUES(1)", "CREATE TABLE c(x); COMMIT", "SELECT"} {
		if err := m.Migrate(t.Context(), target, state.Migration{Number: 2, Name: "0002.sql"}, []byte(bad)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
	if n := query(t, path(target), "SELECT count(*) FROM sqlite_schema WHERE name='b'"); n != "0" {
		t.Error("a failed migration left a table")
	}
}

func snapshotOf(t *testing.T, m *Module, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.Snapshot(t.Context(), target, &b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

const odd = `CREATE TABLE "odd ""name; drop"(id INTEGER PRIMARY KEY AUTOINCREMENT, x, y AS (x+1));
	CREATE INDEX "an index" ON "odd ""name; drop"(x);
	CREATE TRIGGER boom BEFORE DELETE ON "odd ""name; drop" BEGIN SELECT RAISE(ABORT, 'never'); END;
	INSERT INTO "odd ""name; drop"(id, x) VALUES(7, 1), (9, NULL);
	CREATE TABLE plain(x); INSERT INTO plain(rowid, x) VALUES(5, x'00ff'), (6, 'text'), (7, 1.5);
	CREATE TABLE none(k TEXT PRIMARY KEY, v) WITHOUT ROWID; CREATE VIEW v AS SELECT * FROM plain;`

const oddName = `odd "name; drop`

func TestItems(t *testing.T) {
	m := New(nil)
	target := activate(t, m, odd)
	count := map[string]int{}
	err := m.Items(t.Context(), bytes.NewReader(snapshotOf(t, m, target)), func(i state.Item) error {
		if i.Content != nil {
			count[i.Part]++
		} else if i.Part != "none" {
			t.Errorf("%q has no content", i.Part)
		}
		return nil
	})
	if err != nil || count[oddName] != 2 || count["plain"] != 3 || count[partSchema] < 7 {
		t.Errorf("%v, %v", count, err)
	}
	stop := errors.New("stop")
	if err := m.Items(t.Context(), bytes.NewReader(snapshotOf(t, m, target)), func(state.Item) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
	if err := m.Items(t.Context(), strings.NewReader("no database"), nil); !errors.Is(err, state.ErrCorrupt) {
		t.Error(err)
	}
}

func TestRestorePart(t *testing.T) {
	m := New(nil)
	target := activate(t, m, odd)
	before := snapshotOf(t, m, target)
	restore := func(part string) error { return m.RestorePart(t.Context(), target, bytes.NewReader(before), part) }
	query(t, path(target), "DROP TRIGGER boom", `DELETE FROM "odd ""name; drop"`, `INSERT INTO "odd ""name; drop"(x) VALUES(33)`,
		"DELETE FROM plain WHERE rowid<7", "INSERT INTO none VALUES('k', 'v')", "SELECT 1")
	for range 2 {
		if err := restore(oddName); err != nil {
			t.Fatal(err)
		}
	}
	const all = `SELECT group_concat(id||':'||coalesce(x,'')||':'||coalesce(y,'')) FROM "odd ""name; drop"`
	if got := query(t, path(target), all); got != "7:1:2,9::" {
		t.Error(got)
	}
	if got := query(t, path(target), "SELECT count(*) FROM sqlite_schema WHERE name IN ('an index', 'boom')"); got != "2" {
		t.Error("index or trigger are missing")
	}
	if got := query(t, path(target), `INSERT INTO "odd ""name; drop"(x) VALUES(1) RETURNING id`); got != "10" {
		t.Errorf("the next number is %s", got)
	}
	if got := query(t, path(target), "SELECT group_concat(rowid) FROM plain"); got != "7" {
		t.Errorf("another table was touched: %s", got)
	}
	if err := restore("plain"); err != nil {
		t.Fatal(err)
	}
	if got := query(t, path(target), "SELECT group_concat(rowid) FROM v, plain USING (x)"); got != "5,6,7" {
		t.Errorf("numbers of rows: %s", got)
	}
	if err := restore("none"); err != nil {
		t.Fatal(err)
	}
	if got := query(t, path(target), "SELECT count(*) FROM none"); got != "0" {
		t.Error(got)
	}
	for _, missing := range []string{"nothing", "v", "sqlite_schema"} {
		if err := restore(missing); err == nil {
			t.Errorf("%s was restored", missing)
		}
	}
	if err := m.Integrity(t.Context(), target); err != nil {
		t.Error(err)
	}
}

// A table whose rows others refer to is not restored to one without those rows.
func TestRestorePartKeepsReferences(t *testing.T) {
	m := New(nil)
	target := activate(t, m, "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(p REFERENCES p ON DELETE CASCADE); INSERT INTO p VALUES(1)")
	before := snapshotOf(t, m, target)
	query(t, path(target), "INSERT INTO p VALUES(2)", "INSERT INTO c VALUES(2), (1)", "SELECT 1")
	err := m.RestorePart(t.Context(), target, bytes.NewReader(before), "p")
	if err == nil || !strings.Contains(err.Error(), "would refer to rows that do not exist") {
		t.Error(err)
	}
	if got := query(t, path(target), "SELECT (SELECT count(*) FROM p) || (SELECT count(*) FROM c)"); got != "22" {
		t.Errorf("a refused restore changed the state: %s", got)
	}
}
