package sqldb_test

import (
	"path/filepath"
	"strings"
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
