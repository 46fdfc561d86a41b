package redis

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"

	"orrery/internal/extsort"
)

// record is a piece of a key: what it is, or an element.
type record struct {
	key   []byte
	place []byte // orders a key's pieces; see pieces.go
	value []byte
}

func (r record) compare(other record) int {
	return cmp.Or(bytes.Compare(r.key, other.key), bytes.Compare(r.place, other.place), bytes.Compare(r.value, other.value))
}

// parse reads a record as sorter.add lays it down.
func parse(b []byte) (r record) {
	for _, part := range []*[]byte{&r.key, &r.place} {
		size, n := binary.Uvarint(b)
		*part = b[n:][:size]
		b = b[n+int(size):] //nolint:gosec // the length of a slice
	}
	r.value = b
	return r
}

// sorter brings records into order, outside of memory where they are many.
type sorter struct {
	*extsort.Sorter
	head []byte
}

func newSorter(folder string, memory int) *sorter {
	return &sorter{Sorter: extsort.New(memory, extsort.File(folder), func(a, b []byte) int { return parse(a).compare(parse(b)) })}
}

// add copies a record.
func (s *sorter) add(r record) error {
	s.head = binary.AppendUvarint(s.head[:0], uint64(len(r.key)))
	s.head = binary.AppendUvarint(append(s.head, r.key...), uint64(len(r.place)))
	return s.Add(s.head, r.place, r.value)
}

// each visits all records in order, equal ones once. Slices are valid during the call.
func (s *sorter) each(ctx context.Context, visit func(record) error) error {
	var last []byte
	return s.Each(ctx, func(b []byte) error {
		if last != nil && bytes.Equal(b, last) {
			return nil
		}
		last = append(last[:0], b...)
		return visit(parse(b))
	})
}
