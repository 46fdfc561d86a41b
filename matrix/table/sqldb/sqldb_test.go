package sqldb_test

import (
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
