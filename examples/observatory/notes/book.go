package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	_ "modernc.org/sqlite" // the database/sql driver
)

var (
	errNotFound = errors.New("there is no such note")
	errOtherKey = errors.New("that key was used for another note")
)

// note is what a visitor wrote.
type note struct {
	ID      int64     `json:"id"`
	Body    string    `json:"body"`
	Author  string    `json:"author"`
	Text    string    `json:"text"`
	Created time.Time `json:"created"`
	Key     string    `json:"key,omitempty"`
}

// book is the database of notes.
type book struct{ db *sql.DB }

// open opens a database that exists. A write is durable when it is
// acknowledged: WAL and synchronous=FULL, so each commit is synced.
func open(path string) (*book, error) {
	db, err := sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+
		"?mode=rw&_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(full)")
	if err != nil {
		return nil, fmt.Errorf("cannot open the database %s: %w", path, err)
	}
	db.SetMaxOpenConns(8)
	return &book{db}, nil
}

func (b *book) close() error { return b.db.Close() }

// add writes a note and returns it with its id; fresh is false if its key was used for it before.
func (b *book) add(ctx context.Context, n note) (written note, fresh bool, err error) {
	var key any
	if n.Key != "" {
		key = n.Key
	}
	n.Created = n.Created.UTC().Truncate(time.Millisecond)
	err = b.db.QueryRowContext(ctx,
		`INSERT INTO notes (body, author, text, created, key) VALUES (?, ?, ?, ?, ?)
		 ON CONFLICT (key) DO NOTHING RETURNING id`,
		n.Body, n.Author, n.Text, n.Created.Format(time.RFC3339Nano), key).Scan(&n.ID)
	if err == nil {
		return n, true, nil
	}
	if !errors.Is(err, sql.ErrNoRows) {
		return note{}, false, fmt.Errorf("cannot write the note: %w", err)
	}
	before, err := b.one(ctx, "key = ?", n.Key)
	if err != nil {
		return note{}, false, err
	}
	if before.Body != n.Body || before.Author != n.Author || before.Text != n.Text {
		return note{}, false, errOtherKey
	}
	return before, false, nil
}

const columns = "id, body, author, text, created, coalesce(key, '')"

func scan(row interface{ Scan(into ...any) error }) (note, error) {
	var n note
	var created string
	if err := row.Scan(&n.ID, &n.Body, &n.Author, &n.Text, &created, &n.Key); err != nil {
		return note{}, err
	}
	var err error
	n.Created, err = time.Parse(time.RFC3339Nano, created)
	return n, err
}

func (b *book) one(ctx context.Context, where string, arg any) (note, error) {
	n, err := scan(b.db.QueryRowContext(ctx, "SELECT "+columns+" FROM notes WHERE "+where, arg))
	if errors.Is(err, sql.ErrNoRows) {
		return note{}, errNotFound
	}
	return n, err
}

// selection says which notes to list.
type selection struct {
	body   string // "": of all bodies
	after  int64  // only greater ids
	limit  int
	newest bool // newest first
}

func (b *book) list(ctx context.Context, s selection) ([]note, error) {
	statement, args := "SELECT "+columns+" FROM notes WHERE id > ?", []any{s.after}
	if s.body != "" {
		statement, args = statement+" AND body = ?", append(args, s.body)
	}
	order := " ORDER BY id"
	if s.newest {
		order += " DESC"
	}
	rows, err := b.db.QueryContext(ctx, statement+order+" LIMIT ?", append(args, s.limit)...)
	if err != nil {
		return nil, fmt.Errorf("cannot read the notes: %w", err)
	}
	defer func() { _ = rows.Close() }()
	notes := []note{}
	for rows.Next() {
		n, err := scan(rows)
		if err != nil {
			return nil, fmt.Errorf("cannot read a note: %w", err)
		}
		notes = append(notes, n)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("cannot read the notes: %w", err)
	}
	return notes, nil
}

func (b *book) remove(ctx context.Context, id int64) error {
	result, err := b.db.ExecContext(ctx, "DELETE FROM notes WHERE id = ?", id)
	if err != nil {
		return fmt.Errorf("cannot delete note %d: %w", id, err)
	}
	if n, err := result.RowsAffected(); err == nil && n == 0 {
		return errNotFound
	}
	return nil
}

func (b *book) count(ctx context.Context) (n int64, err error) {
	err = b.db.QueryRowContext(ctx, "SELECT count(*) FROM notes").Scan(&n)
	return n, err
}
