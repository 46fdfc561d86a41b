package sqldb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"orrery/matrix/table"
)

// dialect is what differs between the databases.
type dialect struct {
	name, driver     string
	begin, view      string // statements that begin a transaction
	catalog          string // a question: names of tables and indexes, and of the tables' columns
	int, text, bytes string // types of columns
	empty            string // how no bytes are written
	unnest           bool   // a statement takes a list for each column, and writes many rows
	escape           bool   // a text cannot have a character 0
	options          func(s *table.Schema) string
	texts            *textDialect
	count            func(s *table.Schema) string // the statement that changes a number from what it was thought to be; ErrAgain if it was not
	remote           bool                         // it is a process of its own: round trips cost
	pool             func(driver, name string) (connect func(context.Context) (session, error), end func() error, err error)
	kind             func(err error) error // ErrDuplicate, ErrUnavailable or ErrReplaced, if an error of the driver is one; nil otherwise
}

var sqliteDialect = &dialect{
	name: "SQLite", driver: "sqlite", begin: "BEGIN IMMEDIATE", view: "BEGIN", int: "INTEGER", text: "TEXT", bytes: "BLOB", empty: "X''",
	options: func(s *table.Schema) string {
		if s.Key == 1 && s.Columns[0].Kind == table.Int {
			return " STRICT" // the key is the row's number
		}
		return " STRICT, WITHOUT ROWID"
	},
	texts:   fts5,
	catalog: "SELECT m.name, coalesce(c.name, '') FROM sqlite_schema AS m LEFT JOIN pragma_table_info(m.name) AS c ON m.type = 'table' WHERE m.type IN ('table', 'index')",
	count:   countNull,
	pool:    sqlPool,
	kind: func(err error) error {
		var e *sqlite.Error
		if !errors.As(err, &e) {
			return nil
		}
		switch e.Code() {
		case sqlite3.SQLITE_CONSTRAINT_UNIQUE:
			return table.ErrDuplicate
		case sqlite3.SQLITE_CONSTRAINT_NOTNULL: // see count.go
			return table.ErrAgain
		}
		if e.Code() == sqlite3.SQLITE_ERROR && strings.Contains(e.Error(), "no such table") { // it was there
			return table.ErrReplaced
		}
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY:
			return table.ErrUnavailable
		}
		return nil
	},
}

var postgresDialect = &dialect{
	name: "PostgreSQL", begin: "BEGIN", view: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", int: "BIGINT", text: `TEXT COLLATE "C"`, bytes: "BYTEA", empty: "''",
	unnest: true, escape: true,
	options: func(*table.Schema) string { return "" },
	texts:   tsvector,
	catalog: `SELECT r.relname, coalesce(a.attname, '') FROM pg_class r LEFT JOIN pg_attribute a ON r.relkind = 'r' AND a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
		WHERE r.relnamespace = current_schema()::regnamespace AND r.relkind IN ('r', 'i')`,
	count:  countDividing,
	remote: true,
	pool:   pgPool,
	kind: func(err error) error {
		var e *pgconn.PgError
		var n net.Error
		var c *pgconn.ConnectError
		switch {
		case errors.As(err, &e) && e.Code == "23505": // unique_violation
			return table.ErrDuplicate
		case errors.As(err, &e) && e.Code == "22012": // division_by_zero: see count.go
			return table.ErrAgain
		case errors.As(err, &e) && e.Code == "42P01": // undefined_table, which was there
			return table.ErrReplaced
		case errors.As(err, &e) && (strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "53") || strings.HasPrefix(e.Code, "57P") || e.Code == "25006"): // connection, resources, shutdown, read only
			return table.ErrUnavailable
		case errors.As(err, &c), errors.As(err, &n), errors.Is(err, driver.ErrBadConn), errors.Is(err, sql.ErrConnDone), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF), pgconn.SafeToRetry(err), err.Error() == "conn closed":
			return table.ErrUnavailable
		}
		return nil
	},
}

// find is the dialect and the driver's name of a database.
func find(name string) (*dialect, string, error) {
	path, err := file(name)
	if err != nil {
		return nil, "", err
	}
	if path != "" {
		query := url.Values{"_pragma": {"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "secure_delete(FAST)", "cache_size(-4096)", "temp_store(MEMORY)"}}
		return sqliteDialect, (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String(), nil
	}
	if strings.HasPrefix(name, "postgres://") || strings.HasPrefix(name, "postgresql://") {
		return postgresDialect, name, nil
	}
	return nil, "", errors.New("a database is sqlite:PATH or postgres://user@host/database")
}

// file is the path of a database's file, "" if it is not in one.
func file(name string) (string, error) {
	if path, ok := strings.CutPrefix(name, "sqlite:"); ok && path != "" {
		return filepath.Abs(path)
	}
	return "", nil
}

func (d *dialect) column(k table.Kind) string {
	switch k {
	case table.Int:
		return d.int + " NOT NULL DEFAULT 0"
	case table.Text:
		return d.text + " NOT NULL DEFAULT ''"
	case table.Bytes:
		return d.bytes + " NOT NULL DEFAULT " + d.empty
	}
	return ""
}

// failure is an error of the driver with what it is for table's callers.
func (d *dialect) failure(err error) error {
	if err == nil {
		return nil
	}
	if kind := d.kind(err); kind != nil {
		return fmt.Errorf("%w: %w", kind, err)
	}
	return err
}

// A text of PostgreSQL has no character 0: it is 1 1 there, and 1 is 1 2, which sorts the same.
var (
	escape   = strings.NewReplacer("\x00", "\x01\x01", "\x01", "\x01\x02")
	unescape = strings.NewReplacer("\x01\x01", "\x00", "\x01\x02", "\x01")
)

// out is a value as the database has it, in is one as it was given.
func (d *dialect) out(v any) any {
	switch v := v.(type) {
	case string:
		if d.escape && strings.ContainsAny(v, "\x00\x01") {
			return escape.Replace(v)
		}
	case []byte:
		if v == nil {
			return []byte{}
		}
	}
	return v
}

func (d *dialect) in(v string) string {
	if d.escape && strings.Contains(v, "\x01") {
		return unescape.Replace(v)
	}
	return v
}
