// Package extsort sorts records of any number within a bounded memory.
//
// What a Sorter holds is sorted and written to a scratch file as a run when its memory is full; the runs are merged when the records are
// read. Records that compare as equal keep the order in which they came.
package extsort

import (
	"bufio"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"orrery/internal/spool"
)

// Memory is what a Sorter holds unless it is told otherwise, in bytes.
const Memory = 32 << 20

// What reading takes: a buffer for each run, smaller ones where runs are many, and a limit of the runs that are merged at once.
const (
	maxBuffer   = 64 << 10
	minBuffer   = 4 << 10
	mergeMemory = 8 << 20
	fanIn       = 512
	checkEvery  = 1024 // records between two looks at the context
	startSize   = 8    // bytes that a record takes beside itself
)

// Scratch is room for what does not fit into memory. What was written to its end is read at random.
type Scratch interface {
	io.Writer
	io.ReaderAt
	io.Closer
}

// File opens a file without a name in a folder (empty: the system's for temporary files), which is gone with this process.
func File(folder string) func() (Scratch, error) {
	return func() (Scratch, error) { return spool.Open(folder) }
}

// Sorter sorts records. It is filled by Add, then sorted, then read, by one goroutine at a time.
type Sorter struct {
	compare func(a, b []byte) int
	open    func() (Scratch, error)
	memory  int
	scratch Scratch
	out     *bufio.Writer
	size    int64 // of the scratch
	runs    []run
	arena   []byte
	starts  []int // of the records in the arena
}

// run is sorted records in the scratch.
type run struct{ offset, length int64 }

// New returns an empty Sorter. The scratch is opened when memory, in bytes, is full: at the first record that does not fit beside others.
func New(memory int, open func() (Scratch, error), compare func(a, b []byte) int) *Sorter {
	return &Sorter{compare: compare, open: open, memory: memory}
}

// Add copies a record, which is its parts one after the other.
func (s *Sorter) Add(parts ...[]byte) error {
	size := 0
	for _, part := range parts {
		size += len(part)
	}
	if len(s.starts) > 0 && len(s.arena)+size+(len(s.starts)+1)*startSize > s.memory {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.starts = append(s.starts, len(s.arena))
	s.arena = binary.AppendUvarint(s.arena, uint64(size)) //nolint:gosec // a sum of lengths
	for _, part := range parts {
		s.arena = append(s.arena, part...)
	}
	return nil
}

// at returns the record that begins in the arena, and where it ends.
func (s *Sorter) at(start int) (record []byte, end int) {
	size, n := binary.Uvarint(s.arena[start:])
	end = start + n + int(size) //nolint:gosec // as Add wrote it
	return s.arena[start+n : end], end
}

func (s *Sorter) sort() {
	slices.SortFunc(s.starts, func(a, b int) int {
		x, _ := s.at(a)
		y, _ := s.at(b)
		if order := s.compare(x, y); order != 0 {
			return order
		}
		return a - b
	})
}

// spill writes what is held as a run.
func (s *Sorter) spill() error {
	if s.scratch == nil {
		var err error
		if s.scratch, err = s.open(); err != nil {
			return fmt.Errorf("no room to sort in: %w", err)
		}
		s.out = bufio.NewWriterSize(s.scratch, maxBuffer)
	}
	s.sort()
	offset := s.size
	for _, start := range s.starts {
		_, end := s.at(start)
		if err := s.write(s.arena[start:end]); err != nil {
			return err
		}
	}
	s.starts = s.starts[:0]
	if s.arena = s.arena[:0]; cap(s.arena) > 2*s.memory {
		s.arena = nil // after one record that was large
	}
	return s.end(offset)
}

func (s *Sorter) write(framed []byte) error {
	n, err := s.out.Write(framed)
	s.size += int64(n)
	if err != nil {
		return fmt.Errorf("no room to sort in: %w", err)
	}
	return nil
}

// end makes a run of what was written since an offset.
func (s *Sorter) end(offset int64) error {
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("no room to sort in: %w", err)
	}
	s.runs = append(s.runs, run{offset, s.size - offset})
	return nil
}

// Sort ends the adding. Reading does it where nobody did.
func (s *Sorter) Sort(ctx context.Context) error {
	if len(s.runs) == 0 {
		s.sort()
		return nil
	}
	if len(s.starts) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.arena, s.starts = nil, nil // room for what follows
	for len(s.runs) > fanIn {
		if err := s.join(ctx); err != nil {
			return err
		}
	}
	return nil
}

// join makes one run of the first ones.
func (s *Sorter) join(ctx context.Context) error {
	c, err := s.merge(s.runs[:fanIn])
	if err != nil {
		return err
	}
	offset := s.size
	var head []byte
	if err := c.each(ctx, func(record []byte) error {
		head = binary.AppendUvarint(head[:0], uint64(len(record)))
		return errors.Join(s.write(head), s.write(record))
	}); err != nil {
		return err
	}
	if err := s.end(offset); err != nil {
		return err
	}
	last := len(s.runs) - 1
	s.runs = append([]run{s.runs[last]}, s.runs[fanIn:last]...)
	return nil
}

// Each visits all records in order. A record is valid during the call only.
func (s *Sorter) Each(ctx context.Context, visit func(record []byte) error) error {
	c, err := s.Read(ctx)
	if err != nil {
		return err
	}
	return c.each(ctx, visit)
}

// Read begins to read the records in order. Any number of cursors may be in use.
func (s *Sorter) Read(ctx context.Context) (*Cursor, error) {
	if err := s.Sort(ctx); err != nil {
		return nil, err
	}
	if len(s.runs) > 0 {
		return s.merge(s.runs)
	}
	c := &Cursor{sorter: s}
	return c, c.Next()
}

// Close gives back what the sorter holds.
func (s *Sorter) Close() error {
	s.arena, s.starts, s.runs = nil, nil, nil
	if s.scratch == nil {
		return nil
	}
	err := s.scratch.Close()
	s.scratch = nil
	return err
}

// Cursor is a place among sorted records.
type Cursor struct {
	sorter *Sorter // whose memory is read; nil where runs are
	next   int
	runs   heads
	record []byte
}

// Record is the record at the cursor, nil after the last. It is valid until Next.
func (c *Cursor) Record() []byte { return c.record }

// Next goes to the next record.
func (c *Cursor) Next() error {
	c.record = nil
	switch {
	case c.sorter != nil && c.next < len(c.sorter.starts):
		c.record, _ = c.sorter.at(c.sorter.starts[c.next])
		c.next++
	case len(c.runs.all) > 0:
		more, err := c.runs.all[0].read()
		switch {
		case err != nil:
			return err
		case more:
			heap.Fix(&c.runs, 0)
		default:
			heap.Pop(&c.runs)
		}
		if len(c.runs.all) > 0 {
			c.record = c.runs.all[0].record
		}
	}
	return nil
}

func (c *Cursor) each(ctx context.Context, visit func(record []byte) error) error {
	for n := 0; c.record != nil; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := visit(c.record); err != nil {
			return err
		}
		if err := c.Next(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Sorter) merge(runs []run) (*Cursor, error) {
	buffer := min(maxBuffer, max(minBuffer, mergeMemory/len(runs)))
	c := &Cursor{runs: heads{compare: s.compare}}
	for i, r := range runs {
		h := &head{run: i, in: bufio.NewReaderSize(io.NewSectionReader(s.scratch, r.offset, r.length), buffer)}
		if more, err := h.read(); err != nil {
			return nil, err
		} else if more {
			c.runs.all = append(c.runs.all, h)
		}
	}
	heap.Init(&c.runs)
	if len(c.runs.all) > 0 {
		c.record = c.runs.all[0].record
	}
	return c, nil
}

// head is the first record of a run that has not been read.
type head struct {
	run    int
	in     *bufio.Reader
	record []byte
}

// read goes to the next record; false after the last.
func (h *head) read() (bool, error) {
	size, err := binary.ReadUvarint(h.in)
	if errors.Is(err, io.EOF) {
		return false, nil
	}
	if err == nil {
		h.record = slices.Grow(h.record[:0], int(size))[:size] //nolint:gosec // as Add wrote it
		_, err = io.ReadFull(h.in, h.record)
	}
	if err != nil {
		return false, fmt.Errorf("cannot read what was sorted: %w", err)
	}
	return true, nil
}

// heads is a heap of runs by their next records.
type heads struct {
	compare func(a, b []byte) int
	all     []*head
}

func (h *heads) Len() int { return len(h.all) }

func (h *heads) Less(i, j int) bool {
	if order := h.compare(h.all[i].record, h.all[j].record); order != 0 {
		return order < 0
	}
	return h.all[i].run < h.all[j].run
}

func (h *heads) Swap(i, j int) { h.all[i], h.all[j] = h.all[j], h.all[i] }

// Push implements heap.Interface.
func (h *heads) Push(any) { panic("the number of runs does not grow") }

// Pop implements heap.Interface.
func (h *heads) Pop() any {
	last := h.all[len(h.all)-1]
	h.all = h.all[:len(h.all)-1]
	return last
}
