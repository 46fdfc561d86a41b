package admin

import (
	"iter"
	"slices"

	"orrery/matrix/table"
)

// maxWanted is how many rows of a list can be wanted, and skipped, at once.
const maxWanted = 1 << 30

// batch is how many rows are read before what belongs to them is.
const batch = 500

// selection takes rows one after another, and keeps those of a part of a list: of rows that come in the order of the list only these, of others twice as many as
// there are up to the end of the part.
type selection[T any] struct {
	compare     func(x, y T) int // nil: they come in order
	from, limit int
	kept        []T
	total       int
}

func newSelection[T any](from, limit int, compare func(x, y T) int) *selection[T] {
	return &selection[T]{compare: compare, from: min(max(from, 0), maxWanted), limit: min(max(limit, 0), maxWanted)}
}

// add takes a row.
func (s *selection[T]) add(v T) {
	s.total++
	if s.compare == nil {
		if s.total > s.from && len(s.kept) < s.limit {
			s.kept = append(s.kept, v)
		}
		return
	}
	s.kept = append(s.kept, v)
	if end := s.from + s.limit; len(s.kept) >= 2*end+batch {
		s.sort()
		clear(s.kept[end:])
		s.kept = s.kept[:end]
	}
}

func (s *selection[T]) sort() { slices.SortStableFunc(s.kept, s.compare) }

// part is the part of the list.
func (s *selection[T]) part() []T {
	if s.compare == nil {
		return s.kept
	}
	s.sort()
	rest := s.kept[min(s.from, len(s.kept)):]
	return slices.Clip(rest[:min(s.limit, len(rest))])
}

// part is a part of a list.
func part[T any](all []T, from, limit int) []T {
	all = all[min(max(from, 0), len(all)):]
	return all[:min(max(limit, 0), len(all))]
}

// batches yields all rows of a table in the order of its key, some at a time, so that something else can be read between. next is the value of the key's first column
// from which those after a row come or, descending, before which.
func batches[T any](tx table.Tx, of *table.Table[T], descending bool, next func(last T) any) iter.Seq2[[]T, error] {
	return func(yield func([]T, error) bool) {
		r := table.Range{Descending: descending, Limit: batch}
		for {
			rows, err := of.All(tx, r)
			if err != nil {
				yield(nil, err)
				return
			}
			if len(rows) == 0 || !yield(rows, nil) || len(rows) < batch {
				return
			}
			if n := next(rows[len(rows)-1]); descending {
				r.Before = n
			} else {
				r.From = n
			}
		}
	}
}
