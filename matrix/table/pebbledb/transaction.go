package pebbledb

import (
	"bytes"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble/v2"

	"orrery/matrix/table"
)

// transaction reads from a snapshot, or from a batch over the database, which it writes, too.
type transaction struct {
	table.Writes

	d     *DB
	read  pebble.Reader
	batch *pebble.Batch // nil in a view
	ended bool

	reading bool // rows of a scan
}

var (
	_ table.Writing = (*transaction)(nil)

	errReadOnly = errors.New("a view does not write")
)

// Get is that of table.Tx.
func (t *transaction) Get(s *table.Schema, key []any) ([]any, error) {
	if t.reading {
		return nil, table.ErrReading
	}
	return t.find(s, key)
}

func (t *transaction) find(s *table.Schema, key []any) ([]any, error) {
	k := appendValues(t.d.key(s, ""), key)
	return t.get(s, key, k)
}

func (t *transaction) get(s *table.Schema, key []any, encoded []byte) ([]any, error) {
	value, closer, err := t.read.Get(encoded)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil //nolint:nilnil // it says that there is none
	}
	if err != nil {
		return nil, err
	}
	row, err := decodeRow(s, key, value)
	return row, errors.Join(err, closer.Close())
}

// Put is that of table.Tx.
func (t *transaction) Put(s *table.Schema, row []any) error {
	if err := t.writable(); err != nil {
		return err
	}
	t.Note(s, row)
	if len(s.Indexes) > 0 {
		if err := t.reindex(s, row); err != nil {
			return err
		}
	}
	return t.batch.Set(appendValues(t.d.key(s, ""), row[:s.Key]), encodeRow(s, row), nil)
}

func (t *transaction) writable() error {
	switch {
	case t.batch == nil:
		return errReadOnly
	case t.reading:
		return table.ErrReading
	}
	return nil
}

// reindex takes the old row's entries out of the indexes and puts the new one's in.
func (t *transaction) reindex(s *table.Schema, row []any) error {
	old, err := t.Get(s, row[:s.Key])
	if err != nil {
		return err
	}
	for _, x := range s.Indexes {
		entry, named := t.d.entry(s, x.Name, row)
		if old != nil {
			was, _ := t.d.entry(s, x.Name, old)
			if bytes.Equal(was, entry) {
				continue
			}
			if err := t.batch.Delete(was, nil); err != nil {
				return err
			}
		}
		if x.Unique {
			if err := t.free(s, x.Name, entry[:named]); err != nil {
				return err
			}
		}
		if err := t.batch.Set(entry, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// free sees to it that an index has no entry with a prefix.
func (t *transaction) free(s *table.Schema, index string, prefix []byte) error {
	all, err := t.read.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)})
	if err != nil {
		return err
	}
	taken := all.First()
	if err := errors.Join(all.Error(), all.Close()); err != nil || !taken {
		return err
	}
	return fmt.Errorf("%s of table %s is %w", index, s.Name, table.ErrDuplicate)
}

// Delete is that of table.Tx.
func (t *transaction) Delete(s *table.Schema, key []any) error {
	if err := t.writable(); err != nil {
		return err
	}
	t.Note(s, key)
	if len(s.Indexes) > 0 {
		old, err := t.Get(s, key)
		if err != nil || old == nil {
			return err
		}
		for _, x := range s.Indexes {
			entry, _ := t.d.entry(s, x.Name, old)
			if err := t.batch.Delete(entry, nil); err != nil {
				return err
			}
		}
	}
	return t.batch.Delete(appendValues(t.d.key(s, ""), key), nil)
}

// Scan is that of table.Tx.
func (t *transaction) Scan(s *table.Schema, r table.Range) iter.Seq2[[]any, error] {
	return func(yield func([]any, error) bool) {
		if t.reading {
			yield(nil, table.ErrReading)
			return
		}
		t.reading = true
		defer func() { t.reading = false }()
		prefix := appendValues(t.d.key(s, r.Index), r.Prefix)
		o := &pebble.IterOptions{LowerBound: prefix, UpperBound: after(prefix)}
		if r.From != nil {
			o.LowerBound = appendValue(bytes.Clone(prefix), r.From)
		}
		if r.Before != nil {
			o.UpperBound = appendValue(bytes.Clone(prefix), r.Before)
		}
		all, err := t.read.NewIter(o)
		if err != nil {
			yield(nil, err)
			return
		}
		first, next := all.First, all.Next
		if r.Descending {
			first, next = all.Last, all.Prev
		}
		n := 0
		for ok := first(); ok && (r.Limit == 0 || n < r.Limit); ok = next() {
			row, err := t.row(s, r.Index, all)
			if err != nil {
				_ = all.Close()
				yield(nil, err)
				return
			}
			if n++; !yield(row, nil) {
				_ = all.Close()
				return
			}
		}
		if err := errors.Join(all.Error(), all.Close()); err != nil {
			yield(nil, err)
		}
	}
}

// row is that at an iterator, of the table itself or by an index.
func (t *transaction) row(s *table.Schema, index string, at *pebble.Iterator) ([]any, error) {
	order, _ := s.Order(index)
	values, err := decodeKey(s, order, at.Key()[2:])
	if err != nil {
		return nil, err
	}
	key := make([]any, s.Key)
	for i, column := range order {
		if column < s.Key {
			key[column] = values[i]
		}
	}
	if index == "" {
		return decodeRow(s, key, at.Value())
	}
	row, err := t.find(s, key)
	if err == nil && row == nil {
		err = fmt.Errorf("index %s of table %s is damaged: it names a row that is not there", index, s.Name)
	}
	return row, err
}

// fill makes the entries of a new index.
func (t *transaction) fill(s *table.Schema, index string, number space) error {
	unique := false
	for _, x := range s.Indexes {
		unique = unique || x.Name == index && x.Unique
	}
	for row, err := range t.Scan(s, table.Range{}) {
		if err != nil {
			return err
		}
		entry, named := t.d.entry(s, index, row)
		copy(entry, number[:])
		if unique {
			if err := t.free(s, index, entry[:named]); err != nil {
				return err
			}
		}
		if err := t.batch.Set(entry, nil, nil); err != nil {
			return err
		}
	}
	return nil
}

// Commit is that of table.Writing.
func (t *transaction) Commit() error {
	t.ended = true
	b := t.batch
	err := t.d.fuse.Guard(func() error { return errors.Join(b.Commit(pebble.Sync), b.Close()) })
	if err != nil {
		return fmt.Errorf("%w: %w", table.ErrUnavailable, err)
	}
	t.d.renew()
	return t.d.Located() // then it was there when this was committed
}

// Rollback is that of table.Writing.
func (t *transaction) Rollback() {
	if !t.ended {
		t.ended = true
		_ = t.batch.Close()
	}
}

// key is the beginning of the keys of a table or an index.
func (d *DB) key(s *table.Schema, index string) []byte {
	number := d.space(s, index)
	if number == (space{}) && index == "" {
		panic("table " + s.Name + " was not prepared")
	}
	return append(make([]byte, 0, 64), number[:]...)
}

// entry is a row's key in an index, and how long the part of it is that the index's own columns make.
func (d *DB) entry(s *table.Schema, index string, row []any) ([]byte, int) {
	order, n := s.Order(index)
	k := d.key(s, index)
	named := 0
	for i, column := range order {
		k = appendValue(k, row[column])
		if i == n-1 {
			named = len(k)
		}
	}
	return k, named
}
