// Package sqldb keeps tables in an SQL database: SQLite in a file, or PostgreSQL. Tables and their columns are those of the schemas, so that people can look
// at them with the database's own tools; what differs between the two is in dialect.go.
//
// Every connection keeps the statements that it prepared. One connection writes; some others read.
package sqldb

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"

	"orrery/matrix/table"
)

// readers is how many connections read at the same time.
const readers = 4

// DB is an open database.
type DB struct {
	connect func(ctx context.Context) (session, error)
	end     func() error
	dialect *dialect
	writer  *table.Writer
	write   session          // the writer's, nil if it is to be opened
	idle    chan session     // readers' that nobody uses
	spare   chan struct{}    // for each reader's that is not open
	kept    sync.Map         // texts of statements, by their form
	counts  map[string]int64 // what the writer's last transactions counted
	texts   sync.Map         // schemas of indexes of texts, by name

	path string // of its file; "" if it is none
	file os.FileInfo

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
	path, err := file(url)
	if err != nil {
		return nil, err
	}
	d := &DB{dialect: dialect, path: path, counts: map[string]int64{}, idle: make(chan session, readers), spare: make(chan struct{}, readers)}
	if d.connect, d.end, err = dialect.pool(dialect.driver, name); err != nil {
		return nil, fmt.Errorf("cannot open %s: %w", dialect.name, err)
	}
	for range readers {
		d.spare <- struct{}{}
	}
	if d.write, err = d.connect(ctx); err == nil {
		err = d.locate()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open %s: %w", dialect.name, err), d.end())
	}
	d.writer = table.NewWriter(d.begin)
	return d, nil
}

// View is that of table.DB.
func (d *DB) View(ctx context.Context, f func(table.Tx) error) error {
	d.closing.RLock()
	defer d.closing.RUnlock()
	if d.closed {
		return table.ErrClosed
	}
	s, err := d.reader(ctx)
	if err != nil {
		return err
	}
	t := &transaction{ctx: ctx, d: d, s: s, pending: []statement{{text: d.dialect.view}}}
	defer t.leave() // also of a function that panics
	return f(t)
}

// reader is a session that nobody uses; another one is opened only if there is none, for each takes memory, here or at the server.
func (d *DB) reader(ctx context.Context) (session, error) {
	select {
	case s := <-d.idle:
		return s, nil
	default:
	}
	select {
	case s := <-d.idle:
		return s, nil
	case <-d.spare:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s, err := d.connectHere(ctx)
	if err != nil {
		d.spare <- struct{}{}
	}
	return s, err
}

// leave ends a view, and gives its session back: later, if it takes a round trip to a server that nobody needs to wait for.
func (t *transaction) leave() {
	begun := len(t.pending) == 0
	t.broken = t.broken || t.ctx.Err() != nil // now: soon whoever asked is gone
	end := func() {
		if begun && !t.broken {
			t.broken = t.s.exec(context.WithoutCancel(t.ctx), statement{text: "COMMIT"}) != nil
		}
		if t.broken { // a connection in an unknown state is not used again
			t.s.close()
			t.d.spare <- struct{}{}
			return
		}
		t.d.idle <- t.s
	}
	if t.d.dialect.remote {
		go end() // Close waits for it, as for all sessions
		return
	}
	end()
}

// Update is that of table.DB.
func (d *DB) Update(ctx context.Context, f func(table.Tx) error) error {
	return d.writer.Update(ctx, f)
}

func (d *DB) begin(ctx context.Context) (table.Writing, error) {
	if err := d.here(ctx); err != nil {
		return nil, err
	}
	if d.write == nil {
		var err error
		if d.write, err = d.connect(ctx); err != nil {
			return nil, err
		}
	}
	return &transaction{ctx: ctx, d: d, s: d.write, writes: true, pending: []statement{{text: d.dialect.begin}}}, nil
}

// drop gives up the writer's connection; the next update opens another one.
func (d *DB) drop() {
	d.write.close()
	d.write = nil
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
		select {
		case s := <-d.idle:
			s.close()
		case <-d.spare:
		}
	}
	var err error
	if d.write != nil {
		if d.Located() != nil {
			err = d.settle(context.Background()) //nolint:forbidigo // it is the last that is done: nobody reads any more
		}
		d.write.close()
	}
	return errors.Join(err, d.end())
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
