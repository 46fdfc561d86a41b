package redis

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// The limits of a sorter's memory: what it holds before it writes a run, and how many runs it reads at a time.
const (
	runBytes = 32 << 20
	maxRuns  = 256
	runRead  = 64 << 10
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

// sorter brings records into order, in files of a folder where they are many.
type sorter struct {
	folder string
	limit  int // bytes in memory
	arena  []byte
	all    []span
	runs   []*os.File
}

// span is where a record is in the arena.
type span struct{ start, key, place, value int }

func newSorter(folder string) *sorter { return &sorter{folder: folder, limit: runBytes} }

// add copies a record.
func (s *sorter) add(r record) error {
	size := len(r.key) + len(r.place) + len(r.value)
	if len(s.all) > 0 && len(s.arena)+size+len(s.all)*32 > s.limit {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.all = append(s.all, span{len(s.arena), len(r.key), len(r.place), len(r.value)})
	s.arena = append(append(append(s.arena, r.key...), r.place...), r.value...)
	return nil
}

func (s *sorter) at(i span) record {
	b := s.arena[i.start:]
	return record{b[:i.key], b[i.key : i.key+i.place], b[i.key+i.place : i.key+i.place+i.value]}
}

func (s *sorter) sort() {
	slices.SortFunc(s.all, func(a, b span) int { return s.at(a).compare(s.at(b)) })
}

// spill writes what is in memory as a run.
func (s *sorter) spill() error {
	if len(s.runs) == maxRuns {
		if err := s.join(); err != nil {
			return err
		}
	}
	s.sort()
	err := s.write(func(put func(record) error) error {
		for _, i := range s.all {
			if err := put(s.at(i)); err != nil {
				return err
			}
		}
		return nil
	})
	s.all = s.all[:0]
	if s.arena = s.arena[:0]; cap(s.arena) > 2*s.limit {
		s.arena = nil // after one element that was large
	}
	return err
}

// join makes one run of all.
func (s *sorter) join() error {
	old := s.runs
	s.runs = nil
	err := s.write(func(put func(record) error) error { return merge(old, put) })
	return errors.Join(err, closeAll(old))
}

func closeAll(files []*os.File) error {
	var all []error
	for _, f := range files {
		all = append(all, f.Close())
	}
	return errors.Join(all...)
}

func (s *sorter) write(fill func(put func(record) error) error) error {
	f, err := nameless(s.folder)
	if err != nil {
		return err
	}
	s.runs = append(s.runs, f)
	out := bufio.NewWriterSize(f, runRead)
	var head []byte
	err = fill(func(r record) error {
		head = head[:0]
		for _, part := range [][]byte{r.key, r.place, r.value} {
			head = binary.AppendUvarint(head, uint64(len(part)))
		}
		for _, part := range [][]byte{head, r.key, r.place, r.value} {
			if _, err := out.Write(part); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		err = out.Flush()
	}
	return err
}

// nameless makes a file that vanishes with this process.
func nameless(folder string) (*os.File, error) {
	f, err := os.CreateTemp(folder, "spool-*")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// each visits all records in order, equal ones once. Slices are valid during the call.
func (s *sorter) each(visit func(record) error) error {
	once := distinct(visit)
	if len(s.runs) == 0 {
		s.sort()
		for _, i := range s.all {
			if err := once(s.at(i)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := s.spill(); err != nil {
		return err
	}
	s.arena, s.all = nil, nil
	return merge(s.runs, once)
}

func distinct(visit func(record) error) func(record) error {
	var last record
	begun := false
	return func(r record) error {
		if begun && r.compare(last) == 0 {
			return nil
		}
		begun = true
		last = record{append(last.key[:0], r.key...), append(last.place[:0], r.place...), append(last.value[:0], r.value...)}
		return visit(r)
	}
}

func (s *sorter) close() error {
	err := closeAll(s.runs)
	*s = sorter{}
	return err
}

// run is a position in a run.
type run struct {
	in *bufio.Reader
	record
}

// next reads the next record; false after the last.
func (r *run) next() (bool, error) {
	var sizes [3]uint64
	for i := range sizes {
		n, err := binary.ReadUvarint(r.in)
		if i == 0 && errors.Is(err, io.EOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("cannot read a temporary file: %w", err)
		}
		sizes[i] = n
	}
	for i, part := range []*[]byte{&r.key, &r.place, &r.value} {
		*part = slices.Grow((*part)[:0], int(sizes[i]))[:sizes[i]] //nolint:gosec // as written
		if _, err := io.ReadFull(r.in, *part); err != nil {
			return false, fmt.Errorf("cannot read a temporary file: %w", err)
		}
	}
	return true, nil
}

// runs is a heap by the next record.
type runs []*run

func (h runs) Len() int           { return len(h) }
func (h runs) Less(i, j int) bool { return h[i].compare(h[j].record) < 0 }
func (h runs) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *runs) Push(any)          { panic("the number of runs does not grow") }

func (h *runs) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

func merge(files []*os.File, visit func(record) error) error {
	var h runs
	for _, f := range files {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		r := &run{in: bufio.NewReaderSize(f, runRead)}
		more, err := r.next()
		if err != nil {
			return err
		}
		if more {
			h = append(h, r)
		}
	}
	heap.Init(&h)
	for len(h) > 0 {
		if err := visit(h[0].record); err != nil {
			return err
		}
		more, err := h[0].next()
		switch {
		case err != nil:
			return err
		case more:
			heap.Fix(&h, 0)
		default:
			heap.Pop(&h)
		}
	}
	return nil
}
