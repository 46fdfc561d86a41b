package sqldb

import (
	"fmt"
	"strings"

	"orrery/matrix/table"
)

// does is what a statement is for.
type does byte

const (
	reading does = iota
	putting
	puttingOne
	deleting
	counting
)

// form is what the text of a statement depends on. There are few, so that their texts are made once.
type form struct {
	schema *table.Schema
	does   does

	index                             string // of reading: the range without its values
	prefix                            int
	from, before, descending, limited bool
}

// text is that of a form, made the first time.
func (d *DB) text(f form, made func() string) string {
	if text, ok := d.kept.Load(f); ok {
		return text.(string) //nolint:forcetypeassert // nothing else is kept
	}
	text := made()
	d.kept.Store(f, text)
	return text
}

func makeQuery(s *table.Schema, r table.Range) string {
	order, _ := s.Order(r.Index)
	var where, by []string
	n := 0
	compare := func(column int, with string) {
		n++
		where = append(where, fmt.Sprintf("%s %s $%d", quote(s.Columns[column].Name), with, n))
	}
	for i := range r.Prefix {
		compare(order[i], "=")
	}
	if r.From != nil {
		compare(order[len(r.Prefix)], ">=")
	}
	if r.Before != nil {
		compare(order[len(r.Prefix)], "<")
	}
	direction := ""
	if r.Descending {
		direction = " DESC"
	}
	for _, column := range order[min(len(r.Prefix), len(order)-1):] {
		by = append(by, quote(s.Columns[column].Name)+direction)
	}
	text := "SELECT " + names(s, len(s.Columns)) + " FROM " + quote(s.Name)
	if len(where) > 0 {
		text += " WHERE " + strings.Join(where, " AND ")
	}
	text += " ORDER BY " + strings.Join(by, ", ")
	if r.Limit > 0 {
		text += fmt.Sprintf(" LIMIT $%d", n+1)
	}
	return text
}

// targets are what the columns of rows are read into, one row after another.
type targets struct {
	to     []any
	ints   []int64
	texts  []string
	pieces [][]byte
}

func newTargets(s *table.Schema) *targets {
	n := len(s.Columns)
	t := &targets{to: make([]any, n), ints: make([]int64, n), texts: make([]string, n), pieces: make([][]byte, n)}
	for i, c := range s.Columns {
		switch c.Kind {
		case table.Int:
			t.to[i] = &t.ints[i]
		case table.Text:
			t.to[i] = &t.texts[i]
		case table.Bytes:
			t.to[i] = &t.pieces[i]
		}
	}
	return t
}

// row reads a row, which belongs to the caller.
func (t *targets) row(d *dialect, scan func(...any) error) ([]any, error) {
	clear(t.pieces)
	if err := scan(t.to...); err != nil {
		return nil, err
	}
	row := make([]any, len(t.to))
	for i := range t.to {
		switch t.to[i].(type) {
		case *int64:
			row[i] = t.ints[i]
		case *string:
			row[i] = d.in(t.texts[i])
		case *[]byte:
			row[i] = t.pieces[i]
		}
	}
	return row, nil
}
