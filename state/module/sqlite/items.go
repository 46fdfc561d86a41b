package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"orrery/state"
)

// partSchema is what the definitions of tables, indexes, views and triggers belong to in a list of items.
const partSchema = "sqlite_schema"

// Items reads a snapshot's definitions, and the rows of its tables. The snapshot is a database, so it is written to a
// temporary file first.
func (m *Module) Items(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) (err error) {
	folder, err := os.MkdirTemp("", "orrery-sqlite-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	file := filepath.Join(folder, "snapshot.db")
	if err := receive(ctx, file, snapshot); err != nil {
		return err
	}
	name := (&url.URL{Scheme: "file", Path: file, RawQuery: "mode=ro&immutable=1"}).String()
	pool, err := sql.Open("sqlite", name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	pool.SetMaxOpenConns(2)
	if err := visitSchema(ctx, pool, visit); err != nil {
		return err
	}
	tables, err := names(ctx, pool, `SELECT name FROM pragma_table_list
		WHERE schema='main' AND type IN ('table', 'shadow') AND name NOT LIKE 'sqlite\_%' ESCAPE '\' ORDER BY name`)
	if err != nil {
		return err
	}
	for _, table := range tables {
		if err := visitRows(ctx, pool, table, visit); err != nil {
			return fmt.Errorf("table %q: %w", table, err)
		}
	}
	return nil
}

func names(ctx context.Context, pool *sql.DB, query string) (all []string, err error) {
	rows, err := pool.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what went wrong
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		all = append(all, name)
	}
	return all, rows.Err()
}

func visitSchema(ctx context.Context, pool *sql.DB, visit func(state.Item) error) error {
	rows, err := pool.QueryContext(ctx, "SELECT type || ' ' || name, coalesce(sql, '') FROM sqlite_schema ORDER BY 1")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what went wrong
	for rows.Next() {
		var key, definition []byte
		if err := rows.Scan(&key, &definition); err != nil {
			return err
		}
		if err := visit(state.Item{Part: partSchema, Key: key, Content: definition}); err != nil {
			return err
		}
	}
	return rows.Err()
}

func visitRows(ctx context.Context, pool *sql.DB, table string, visit func(state.Item) error) error {
	primary, err := primaryKey(ctx, pool, table)
	if err != nil {
		return err
	}
	rows, err := pool.QueryContext(ctx, "SELECT * FROM "+identifier(table))
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what went wrong
	columns, err := rows.Columns()
	if err != nil {
		return err
	}
	key := positions(columns, primary)
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	var content []byte
	found := false
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		content = content[:0]
		for _, v := range values {
			content = appendValue(content, v)
		}
		found = true
		item := state.Item{Part: table, Content: content}
		if key != nil {
			item.Key, item.Within = literals(nil, values, key), true
		}
		if err := visit(item); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil || found {
		return err
	}
	return visit(state.Item{Part: table})
}

// appendValue writes a value so that different ones are different bytes: its type, its length, itself.
func appendValue(b []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(b, 'n')
	case int64:
		return binary.BigEndian.AppendUint64(append(b, 'i'), uint64(v))
	case bool:
		if v {
			return binary.BigEndian.AppendUint64(append(b, 'i'), 1)
		}
		return binary.BigEndian.AppendUint64(append(b, 'i'), 0)
	case float64:
		return binary.BigEndian.AppendUint64(append(b, 'f'), math.Float64bits(v))
	case string:
		return append(binary.AppendUvarint(append(b, 't'), uint64(len(v))), v...)
	case []byte:
		return append(binary.AppendUvarint(append(b, 'b'), uint64(len(v))), v...)
	case time.Time: // what the driver makes of a column that is declared so
		text := v.Format(time.RFC3339Nano)
		return append(binary.AppendUvarint(append(b, 'd'), uint64(len(text))), text...)
	}
	text := fmt.Sprint(value)
	return append(binary.AppendUvarint(append(b, '?'), uint64(len(text))), text...)
}
