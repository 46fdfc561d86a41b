package sqldb

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"orrery/matrix/table"
)

// A number that updates count up is known from the last one, so that most transactions need not ask for it: a query, and a round trip where the database is a
// process of its own. That nobody else has counted is made sure of in the commit: the row is changed only from what it was thought to be, and if it was something else the
// statement fails.

// counted is a number in a transaction: what it was when it was last written or read, and what it is to be.
type counted struct {
	schema  *table.Schema
	key     []any
	was, is int64
}

var _ table.Counter = (*transaction)(nil)

// Count is that of table.Counter.
func (t *transaction) Count(s *table.Schema, key []any, n int64) (int64, error) {
	if err := t.writable(); err != nil {
		return 0, err
	}
	name := s.Name + " " + keyOf(s, key)
	c := t.counted[name]
	if c == nil {
		known, ok := t.d.counts[name]
		if !ok {
			row, err := t.Get(s, key)
			if err != nil {
				return 0, err
			}
			if row == nil {
				return n, t.Put(s, append(slices.Clone(key), n))
			}
			known, _ = row[s.Key].(int64)
		}
		c = &counted{s, key, known, known}
		if t.counted == nil {
			t.counted = map[string]*counted{}
		}
		t.counted[name] = c
	}
	c.is += n
	t.Note(s, append(slices.Clone(key), c.is))
	return c.is, nil
}

// count turns numbers that were counted into statements.
func (t *transaction) count() {
	for _, name := range slices.Sorted(maps.Keys(t.counted)) { // always in the same order: no two transactions wait for each other
		c := t.counted[name]
		if c.is == c.was {
			continue
		}
		args := make([]any, 0, len(c.key)+2)
		for _, v := range c.key {
			args = append(args, t.d.dialect.out(v))
		}
		text := t.d.text(form{schema: c.schema, does: counting}, func() string { return t.d.dialect.count(c.schema) })
		t.pending = append(t.pending, statement{text, append(args, c.was, c.is), c.schema.Name})
		c.was = c.is
	}
}

// countDividing divides by 0 if the number is not what it was thought to be.
func countDividing(s *table.Schema) string {
	var where []string
	for i, c := range s.Columns[:s.Key+1] {
		where = append(where, fmt.Sprintf("%s = $%d", quote(c.Name), i+1))
	}
	return fmt.Sprintf("WITH changed AS (UPDATE %s SET %s = $%d WHERE %s RETURNING 1) SELECT 1 / count(*) FROM changed",
		quote(s.Name), quote(s.Columns[s.Key].Name), s.Key+2, strings.Join(where, " AND "))
}

// countNull makes a number NULL, which it cannot be, if it is not what it was thought to be, or is not there.
func countNull(s *table.Schema) string {
	var where []string
	for i, c := range s.Columns[:s.Key] {
		where = append(where, fmt.Sprintf("%s = $%d", quote(c.Name), i+1))
	}
	number := quote(s.Columns[s.Key].Name)
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s, (SELECT CASE %s WHEN $%d THEN $%d END FROM %s WHERE %s)) ON CONFLICT (%s) DO UPDATE SET %s = excluded.%s",
		quote(s.Name), names(s, s.Key+1), marks(s.Key), number, s.Key+1, s.Key+2, quote(s.Name), strings.Join(where, " AND "), names(s, s.Key), number, number)
}

// keep remembers what was counted, after the commit; otherwise nothing is known any more.
func (t *transaction) keep(committed bool) {
	if !committed {
		t.d.counts = map[string]int64{}
		return
	}
	for name, c := range t.counted {
		t.d.counts[name] = c.is
	}
}
