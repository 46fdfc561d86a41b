// Package sqldb keeps tables in an SQL database: SQLite in a file, or PostgreSQL. Tables and their columns are those of the schemas, so that people can look
// at them with the database's own tools; what differs between the two is in dialect.go.
//
// Every connection keeps the statements that it prepared. One connection writes; some others read.
package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"

	"orrery/matrix/table"
)

// readers is how many connections read at the same time.
const readers = 4

// DB is an open database.
type DB struct {
	pool    *sql.DB
	dialect *dialect
	writer  *table.Writer
	write   *session      // the writer's, nil if it is to be opened
	idle    chan *session // readers' that nobody uses; nil is one to be opened

	closing sync.RWMutex
	closed  bool
}

var _ table.DB = (*DB)(nil)

// Open opens a database: sqlite:PATH, or a URL of PostgreSQL (postgres://user@host/database?...). A file that does not exist is made; a database of
// PostgreSQL must exist. The password may be in the environment, as PGPASSWORD, or in a file of passwords.
func Open(ctx context.Context, url string) (*DB, error) {
	dialect, name, err := find(url)
	if err != nil {
		return nil, err
	}
	pool, err := sql.Open(dialect.driver, name)
	if err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", dialect.name, err)
	}
	pool.SetMaxOpenConns(readers + 1)
	pool.SetMaxIdleConns(0) // sessions keep theirs
	d := &DB{pool: pool, dialect: dialect, idle: make(chan *session, readers)}
	for range readers {
		d.idle <- nil
	}
	if d.write, err = d.connect(ctx); err == nil {
		err = dialect.check(ctx, d.write)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open %s: %w", dialect.name, err), pool.Close())
	}
	d.writer = table.NewWriter(d.begin)
	return d, nil
}

// session is a connection with the statements that were prepared on it.
type session struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
}

func (d *DB) connect(ctx context.Context) (*session, error) {
	conn, err := d.pool.Conn(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", table.ErrUnavailable, err)
	}
	return &session{conn, map[string]*sql.Stmt{}}, nil
}

// prepared is a statement, prepared the first time. Their texts are few.
func (s *session) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if found, ok := s.statements[text]; ok {
		return found, nil
	}
	made, err := s.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s.statements[text] = made
	return made, nil
}

func (s *session) exec(ctx context.Context, text string, args ...any) error {
	st, err := s.prepared(ctx, text) //nolint:sqlclosecheck // the session keeps it
	if err != nil {
		return err
	}
	_, err = st.ExecContext(ctx, args...)
	return err
}

func (s *session) close() {
	if s == nil {
		return
	}
	for _, st := range s.statements {
		_ = st.Close()
	}
	_ = s.conn.Close()
}

// View is that of table.DB.
func (d *DB) View(ctx context.Context, f func(table.Tx) error) error {
	d.closing.RLock()
	defer d.closing.RUnlock()
	if d.closed {
		return table.ErrClosed
	}
	var s *session
	select {
	case s = <-d.idle:
	case <-ctx.Done():
		return ctx.Err()
	}
	keep := s
	defer func() { d.idle <- keep }()
	if s == nil {
		var err error
		if s, err = d.connect(ctx); err != nil {
			return err
		}
	}
	t := &transaction{ctx: ctx, d: d, s: s}
	err := d.dialect.failure(s.exec(ctx, d.dialect.view))
	if err == nil {
		err = f(t)
		err = errors.Join(err, d.dialect.failure(s.exec(context.WithoutCancel(ctx), "COMMIT")))
	}
	if keep = s; err != nil && (t.broken || errors.Is(err, table.ErrUnavailable) || ctx.Err() != nil) { // a connection in an unknown state is not used again
		s.close()
		keep = nil
	}
	return err
}

// Update is that of table.DB.
func (d *DB) Update(ctx context.Context, f func(table.Tx) error) error {
	return d.writer.Update(ctx, f)
}

func (d *DB) begin(ctx context.Context) (table.Writing, error) {
	if d.write == nil {
		var err error
		if d.write, err = d.connect(ctx); err != nil {
			return nil, err
		}
	}
	if err := d.dialect.failure(d.write.exec(ctx, d.dialect.begin)); err != nil {
		d.drop()
		return nil, err
	}
	return &transaction{ctx: ctx, d: d, s: d.write, writes: true}, nil
}

// drop gives up the writer's connection; the next update opens another one.
func (d *DB) drop() {
	d.write.close()
	d.write = nil
}

// Prepare is that of table.DB.
func (d *DB) Prepare(ctx context.Context, schemas []*table.Schema) error {
	return d.Update(ctx, func(tx table.Tx) error {
		t, _ := tx.(*transaction)
		for _, s := range schemas {
			if err := t.prepare(s); err != nil {
				return fmt.Errorf("cannot prepare table %s: %w", s.Name, err)
			}
		}
		return nil
	})
}

func (t *transaction) prepare(s *table.Schema) error {
	var columns []string
	for _, c := range s.Columns {
		columns = append(columns, quote(c.Name)+" "+t.d.dialect.column(c.Kind))
	}
	text := fmt.Sprintf("CREATE TABLE IF NOT EXISTS %s (%s, PRIMARY KEY (%s))%s", quote(s.Name), strings.Join(columns, ", "), names(s, s.Key), t.d.dialect.options(s))
	if err := t.run(text); err != nil {
		return err
	}
	has, err := t.columns(s)
	if err != nil {
		return err
	}
	for i, c := range s.Columns {
		if !has[c.Name] {
			if err := t.run("ALTER TABLE " + quote(s.Name) + " ADD COLUMN " + columns[i]); err != nil {
				return err
			}
		}
	}
	for _, x := range s.Indexes {
		unique := ""
		if x.Unique {
			unique = "UNIQUE "
		}
		of := make([]string, len(x.Columns))
		for i, c := range x.Columns {
			of[i] = quote(c)
		}
		if err := t.run(fmt.Sprintf("CREATE %sINDEX IF NOT EXISTS %s ON %s (%s)", unique, quote(s.Name+"_"+x.Name), quote(s.Name), strings.Join(of, ", "))); err != nil {
			return err
		}
	}
	return nil
}

// run executes a statement that is not kept.
func (t *transaction) run(text string) error {
	_, err := t.s.conn.ExecContext(t.ctx, text)
	return t.failure(err)
}

func (t *transaction) columns(s *table.Schema) (map[string]bool, error) {
	rows, err := t.s.conn.QueryContext(t.ctx, "SELECT * FROM "+quote(s.Name)+" LIMIT 0")
	if err != nil {
		return nil, t.failure(err)
	}
	defer func() { _ = rows.Close() }()
	all, err := rows.Columns()
	if err != nil {
		return nil, err
	}
	has := map[string]bool{}
	for _, c := range all {
		has[c] = true
	}
	return has, rows.Err()
}

// Close is that of table.DB.
func (d *DB) Close() error {
	d.writer.Close()
	d.closing.Lock()
	defer d.closing.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	for range readers {
		(<-d.idle).close()
	}
	d.write.close()
	return d.pool.Close()
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// names are those of the first n columns, for a statement.
func names(s *table.Schema, n int) string {
	var all []string
	for _, c := range s.Columns[:n] {
		all = append(all, quote(c.Name))
	}
	return strings.Join(all, ", ")
}
