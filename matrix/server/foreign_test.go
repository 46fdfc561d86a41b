package server_test

import (
	"database/sql"
	"errors"
	"path/filepath"
	"testing"

	"orrery/matrix/server"
	"orrery/matrix/store"
)

// TestForeign: a database of another program that has a table of the same name stays as it is.
func TestForeign(t *testing.T) {
	s := configured(t, "sqlite:homeserver.db")
	db, err := sql.Open("sqlite", filepath.Join(s.dir, "homeserver.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), "CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT)"); err != nil {
		t.Fatal(err)
	}
	if opened, err := server.Open(t.Context(), s.config, nil); !errors.Is(err, store.ErrForeign) {
		t.Error(err)
		if err == nil {
			_ = opened.Close()
		}
	}
	columns, tables := 0, 0
	row := db.QueryRowContext(t.Context(), "SELECT (SELECT count(*) FROM pragma_table_info('users')), (SELECT count(*) FROM sqlite_schema)")
	if err := row.Scan(&columns, &tables); err != nil || columns != 2 || tables != 1 {
		t.Error(columns, tables, err)
	}
}
