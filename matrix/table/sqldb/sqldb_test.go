package sqldb_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"orrery/internal/testenv"
	"orrery/matrix/table"
	"orrery/matrix/table/sqldb"
	"orrery/matrix/table/tabletest"
)

func open(t *testing.T, name string) *sqldb.DB {
	t.Helper()
	db, err := sqldb.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestSQLite(t *testing.T) {
	dir := t.TempDir()
	tabletest.Run(t, func(t *testing.T, name string) table.DB {
		t.Helper()
		return open(t, "sqlite:"+filepath.Join(dir, name+" ?#%.db"))
	})
}

func TestPostgreSQL(t *testing.T) {
	urls := map[string]string{}
	tabletest.Run(t, func(t *testing.T, name string) table.DB {
		t.Helper()
		if urls[name] == "" {
			urls[name] = testenv.PostgreSQL(t).NewDatabase(t, "")
		}
		return open(t, urls[name])
	})
}

func TestOpen(t *testing.T) {
	for name, why := range map[string]string{
		"":                                  "sqlite:PATH",
		"sqlite:":                           "sqlite:PATH",
		"mysql://x":                         "postgres://",
		"sqlite:/does/not/exist/x.db":       "SQLite",
		"postgres://u:secret@127.0.0.1:1/x": "PostgreSQL",
		testenv.PostgreSQL(t).NewDatabase(t, "ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"): "ENCODING 'UTF8'",
	} {
		_, err := sqldb.Open(t.Context(), name)
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type number struct {
	Name  string `col:"name,key"`
	Value int64  `col:"value"`
}

// TestCountsOfTwo: two programs count in one database, each of which thinks that it knows the number; no number is given twice.
func TestCountsOfTwo(t *testing.T) {
	numbers := table.Define[number]("numbers")
	for name, url := range map[string]string{"SQLite": "sqlite:" + filepath.Join(t.TempDir(), "db"), "PostgreSQL": testenv.PostgreSQL(t).NewDatabase(t, "")} {
		t.Run(name, func(t *testing.T) {
			both := []*sqldb.DB{open(t, url), open(t, url)}
			if err := both[0].Prepare(t.Context(), []*table.Schema{numbers.Schema()}); err != nil {
				t.Fatal(err)
			}
			count := func(db *sqldb.DB, n int64) (is int64) {
				if err := db.Update(t.Context(), func(tx table.Tx) (err error) {
					is, err = table.Count(tx, numbers.Schema(), []any{"x"}, n)
					return err
				}); err != nil {
					t.Error(err)
				}
				return is
			}
			want := int64(0)
			for i := range 20 { // in turns, so that each is wrong all the time
				want += int64(i)
				if is := count(both[i%2], int64(i)); is != want {
					t.Fatalf("%d, not %d", is, want)
				}
			}
			if err := both[0].Update(t.Context(), func(tx table.Tx) error { return numbers.Delete(tx, "x") }); err != nil {
				t.Fatal(err)
			}
			if is := count(both[1], 7); is != 7 {
				t.Errorf("of a number that is gone it is %d", is)
			}
			var mu sync.Mutex
			seen := map[int64]bool{}
			var group sync.WaitGroup
			for i := range 20 {
				group.Go(func() {
					is := count(both[i%2], 1)
					mu.Lock()
					defer mu.Unlock()
					if seen[is] {
						t.Errorf("%d was given twice", is)
					}
					seen[is] = true
				})
			}
			group.Wait()
			for _, db := range both {
				if err := db.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// TestReaders: views one after another need one connection, those at a time have one each.
func TestReaders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	db := open(t, "sqlite:"+path)
	defer db.Close()
	connections := func() (n int) {
		all, err := filepath.Glob("/proc/self/fd/*")
		if err != nil || len(all) == 0 {
			testenv.Missing(t, "/proc/self/fd", "mount /proc")
		}
		for _, fd := range all {
			if to, _ := os.Readlink(fd); to == path {
				n++
			}
		}
		return n
	}
	var view func(depth int) error
	view = func(depth int) error {
		return db.View(t.Context(), func(table.Tx) error {
			if depth == 0 {
				return nil
			}
			return view(depth - 1)
		})
	}
	for _, c := range []struct{ depth, want int }{{0, 2}, {0, 2}, {2, 4}, {0, 4}} { // the writer's, too
		if err := view(c.depth); err != nil {
			t.Fatal(err)
		}
		if n := connections(); n != c.want {
			t.Errorf("%d connections after %d views at a time, not %d", n, c.depth+1, c.want)
		}
	}
}

// TestPrepareFails: what cannot be made is said by its table and its statement, and nothing of what was to be made with it is there; then it can be made.
func TestPrepareFails(t *testing.T) {
	old := table.Define[number]("numbers")
	unique := table.Define[number]("numbers", table.Index{Name: "value", Columns: []string{"value"}, Unique: true})
	before, after := table.Define[number]("before"), table.Define[number]("after")
	for name, url := range map[string]string{"SQLite": "sqlite:" + filepath.Join(t.TempDir(), "db"), "PostgreSQL": testenv.PostgreSQL(t).NewDatabase(t, "")} {
		t.Run(name, func(t *testing.T) {
			db := open(t, url)
			if err := db.Prepare(t.Context(), []*table.Schema{old.Schema()}); err != nil {
				t.Fatal(err)
			}
			if err := db.Update(t.Context(), func(tx table.Tx) error {
				return errors.Join(old.Put(tx, number{"x", 1}), old.Put(tx, number{"y", 1}))
			}); err != nil {
				t.Fatal(err)
			}
			all := []*table.Schema{before.Schema(), unique.Schema(), after.Schema()}
			err := db.Prepare(t.Context(), all)
			for _, want := range []string{"cannot prepare the tables: ", "table numbers: ", "(in CREATE UNIQUE INDEX IF NOT EXISTS"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Fatalf("no %q in %v", want, err)
				}
			}
			for _, one := range []*table.Table[number]{before, after} {
				if err := db.View(t.Context(), func(tx table.Tx) error {
					_, err := one.Has(tx, "x")
					return err
				}); err == nil {
					t.Error("some of it is there")
				}
			}
			if err := db.Update(t.Context(), func(tx table.Tx) error { return old.Delete(tx, "y") }); err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time there is nothing to do
				if err := db.Prepare(t.Context(), all); err != nil {
					t.Fatal(err)
				}
			}
			if err := db.Update(t.Context(), func(tx table.Tx) error { return unique.Put(tx, number{"y", 1}) }); !errors.Is(err, table.ErrDuplicate) {
				t.Error(err)
			}
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
