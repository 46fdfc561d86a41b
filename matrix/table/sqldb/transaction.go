package sqldb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"orrery/matrix/table"
)

// transaction is a transaction on a session. Rows that are put wait, so that those of one table go in one statement, and statements wait for the next that
// has an answer: until something is read, or the commit.
type transaction struct {
	table.Writes

	ctx     context.Context //nolint:containedctx // of the View, which it does not outlive
	d       *DB
	s       session
	writes  bool
	ended   bool
	broken  bool
	reading bool // rows of a scan
	waiting []*pile
	counted map[string]*counted
	pending []statement // what goes before the next query: the transaction's beginning, writes
}

// pile is rows of a table that wait.
type pile struct {
	schema *table.Schema
	upsert string // the statement, "" for that of the schema
	rows   [][]any
	at     map[string]int // by key
}

var (
	_ table.Writing = (*transaction)(nil)

	errReadOnly = errors.New("a view does not write")
)

func (t *transaction) failure(err error) error {
	t.broken = t.broken || err != nil
	return t.d.dialect.failure(err)
}

func (t *transaction) writable() error {
	switch {
	case !t.writes:
		return errReadOnly
	case t.reading:
		return table.ErrReading
	}
	return nil
}

// Put is that of table.Tx.
func (t *transaction) Put(s *table.Schema, row []any) error { return t.put(s, row, "") }

// put is Put by a statement of its own.
func (t *transaction) put(s *table.Schema, row []any, upsert string) error {
	if err := t.writable(); err != nil {
		return err
	}
	t.Note(s, row)
	var p *pile
	for _, other := range t.waiting {
		if other.schema == s {
			p = other
		}
	}
	if p == nil {
		p = &pile{schema: s, upsert: upsert, at: map[string]int{}}
		t.waiting = append(t.waiting, p)
	}
	key := keyOf(s, row)
	if i, ok := p.at[key]; ok {
		p.rows[i] = row
		return nil
	}
	p.at[key] = len(p.rows)
	p.rows = append(p.rows, row)
	return nil
}

// keyOf is a row's key; no two keys look the same.
func keyOf(s *table.Schema, row []any) string {
	var key []byte
	for _, v := range row[:s.Key] {
		switch v := v.(type) {
		case int64:
			key = binary.AppendVarint(key, v)
		case string:
			key = append(binary.AppendUvarint(key, uint64(len(v))), v...)
		case []byte:
			key = append(binary.AppendUvarint(key, uint64(len(v))), v...)
		}
	}
	return string(key)
}

// flush turns the rows that wait into statements.
func (t *transaction) flush() {
	t.count() // first: whether that is right decides whether the rest is
	for _, p := range t.waiting {
		many := t.d.dialect.unnest && (len(p.rows) > 1 || p.upsert != "")
		text := p.upsert
		if text == "" {
			text = t.upsert(p.schema, many)
		}
		if many {
			t.pending = append(t.pending, statement{text, t.lists(p), p.schema.Name})
			continue
		}
		for _, row := range p.rows {
			args := make([]any, len(row))
			for i, v := range row {
				args[i] = t.d.dialect.out(v)
			}
			t.pending = append(t.pending, statement{text, args, p.schema.Name})
		}
	}
	t.waiting = nil
}

// send carries out what is pending.
func (t *transaction) send(more ...statement) error {
	t.flush()
	all := append(t.pending, more...)
	t.pending = nil
	if len(all) == 0 {
		return nil
	}
	return t.failure(t.s.exec(t.ctx, all...))
}

// lists is a list of values for each column.
func (t *transaction) lists(p *pile) []any {
	args := make([]any, len(p.schema.Columns))
	for i, c := range p.schema.Columns {
		switch c.Kind {
		case table.Int:
			args[i] = list[int64](t, p, i)
		case table.Text:
			args[i] = list[string](t, p, i)
		case table.Bytes:
			args[i] = list[[]byte](t, p, i)
		}
	}
	return args
}

func list[T any](t *transaction, p *pile, column int) []T {
	all := make([]T, len(p.rows))
	for i, row := range p.rows {
		all[i], _ = t.d.dialect.out(row[column]).(T)
	}
	return all
}

// upsert is the statement that writes one row, or many of which it gets a list for each column.
func (t *transaction) upsert(s *table.Schema, many bool) string {
	f := form{schema: s, does: puttingOne}
	if many {
		f.does = putting
	}
	return t.d.text(f, func() string { return makeUpsert(s, many) })
}

func makeUpsert(s *table.Schema, many bool) string {
	n := len(s.Columns)
	values := "VALUES (" + marks(n) + ")"
	if many {
		var of []string
		for i, c := range s.Columns {
			of = append(of, fmt.Sprintf("$%d::%s[]", i+1, map[table.Kind]string{table.Int: "bigint", table.Text: "text", table.Bytes: "bytea"}[c.Kind]))
		}
		values = "SELECT * FROM unnest(" + strings.Join(of, ", ") + ")"
	}
	then := "NOTHING"
	if s.Key < n {
		var set []string
		for _, c := range s.Columns[s.Key:] {
			set = append(set, quote(c.Name)+" = excluded."+quote(c.Name))
		}
		then = "UPDATE SET " + strings.Join(set, ", ")
	}
	return fmt.Sprintf("INSERT INTO %s (%s) %s ON CONFLICT (%s) DO %s", quote(s.Name), names(s, n), values, names(s, s.Key), then)
}

// marks are the places of values in a statement.
func marks(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = "$" + strconv.Itoa(i+1)
	}
	return strings.Join(all, ", ")
}

// Delete is that of table.Tx.
func (t *transaction) Delete(s *table.Schema, key []any) error {
	if err := t.writable(); err != nil {
		return err
	}
	t.Note(s, key)
	t.flush()
	args := make([]any, len(key))
	for i, v := range key {
		args[i] = t.d.dialect.out(v)
	}
	text := t.d.text(form{schema: s, does: deleting}, func() string {
		where := make([]string, s.Key)
		for i, c := range s.Columns[:s.Key] {
			where[i] = fmt.Sprintf("%s = $%d", quote(c.Name), i+1)
		}
		return "DELETE FROM " + quote(s.Name) + " WHERE " + strings.Join(where, " AND ")
	})
	t.pending = append(t.pending, statement{text, args, s.Name})
	return nil
}

// Get is that of table.Tx.
func (t *transaction) Get(s *table.Schema, key []any) ([]any, error) {
	for row, err := range t.Scan(s, table.Range{Prefix: key, Limit: 1}) {
		return row, err
	}
	return nil, nil //nolint:nilnil // it says that there is none
}

// Scan is that of table.Tx.
func (t *transaction) Scan(s *table.Schema, r table.Range) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		text, args := t.query(s, r)
		rows, end, err := t.rows(statement{text, args, ""})
		if err != nil {
			yield(nil, err)
			return
		}
		defer end()
		into := newTargets(s)
		for rows.Next() {
			row, err := into.row(t.d.dialect, rows.Scan)
			if err != nil {
				yield(nil, t.failure(err))
				return
			}
			if !yield(row, nil) {
				return
			}
		}
		if err := rows.Err(); err != nil {
			yield(nil, t.failure(err))
		}
	}
}

// rows are those of a question, after what is pending; the function must be called when they were read.
func (t *transaction) rows(of statement) (rows, func(), error) {
	if t.reading {
		return nil, nil, table.ErrReading
	}
	t.flush()
	before := t.pending
	t.pending = nil
	found, err := t.s.query(t.ctx, before, of)
	if err != nil {
		return nil, nil, t.failure(err)
	}
	t.reading = true
	return found, func() {
		t.reading = false
		_ = found.Close()
	}, nil
}

func (t *transaction) query(s *table.Schema, r table.Range) (string, []any) {
	args := make([]any, 0, len(r.Prefix)+3)
	for _, v := range r.Prefix {
		args = append(args, t.d.dialect.out(v))
	}
	for _, v := range []any{r.From, r.Before} {
		if v != nil {
			args = append(args, t.d.dialect.out(v))
		}
	}
	if r.Limit > 0 {
		args = append(args, r.Limit)
	}
	f := form{s, reading, r.Index, len(r.Prefix), r.From != nil, r.Before != nil, r.Descending, r.Limit > 0}
	return t.d.text(f, func() string { return makeQuery(s, r) }), args
}

// Commit is that of table.Writing.
func (t *transaction) Commit() error {
	if t.broken && t.d.dialect.remote { // PostgreSQL takes COMMIT for ROLLBACK then, and says nothing
		return fmt.Errorf("%w: a statement failed before the commit", table.ErrUnavailable)
	}
	err := t.send(statement{text: "COMMIT"})
	t.keep(err == nil)
	if err != nil {
		return err
	}
	t.ended = true
	return t.d.here(t.ctx) // then it was there when this was committed
}

// Rollback is that of table.Writing.
func (t *transaction) Rollback() {
	if t.ended {
		return
	}
	t.ended = true
	t.keep(false)
	if len(t.pending) > 0 && t.pending[0].text == t.d.dialect.begin { // it was not begun
		return
	}
	if err := t.s.exec(t.ctx, statement{text: "ROLLBACK"}); err != nil {
		t.d.drop()
	}
}
