package sqldb_test

import (
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
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

var serial atomic.Int64

// postgres makes an empty database on the tests' server, and is its URL.
func postgres(t *testing.T, options string) string {
	t.Helper()
	server := testenv.PostgreSQL(t)
	u := url.URL{Scheme: "postgres", User: url.UserPassword(server.User, server.Password), Host: fmt.Sprintf("127.0.0.1:%d", server.Port), Path: "postgres"}
	admin, err := sql.Open("pgx", u.String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close() }()
	name := fmt.Sprintf("tables%d", serial.Add(1))
	if _, err := admin.ExecContext(t.Context(), "CREATE DATABASE "+name+options); err != nil {
		t.Fatal(err)
	}
	u.Path = name
	return u.String()
}

func TestPostgreSQL(t *testing.T) {
	urls := map[string]string{}
	tabletest.Run(t, func(t *testing.T, name string) table.DB {
		t.Helper()
		if urls[name] == "" {
			urls[name] = postgres(t, "")
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
		postgres(t, " ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0"): "ENCODING 'UTF8'",
	} {
		_, err := sqldb.Open(t.Context(), name)
		if err == nil || !strings.Contains(err.Error(), why) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
