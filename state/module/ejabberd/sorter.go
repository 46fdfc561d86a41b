package ejabberd

import (
	"bufio"
	"bytes"
	"container/heap"
	"context"
	"errors"
	"io"
	"os"
	"slices"
)

const (
	runBytes = 32 << 20 // lines in memory, beside one more
	fanIn    = 64       // runs that are merged at once
	maxLine  = 256 << 20
)

// sorter sorts lines in a file without a name. All lines end with a newline.
type sorter struct {
	f     *os.File
	end   int64
	runs  []run
	lines [][]byte
	bytes int
	limit int
}

// run is a range of the file with sorted lines.
type run struct{ from, to int64 }

func newSorter(folder string, limit int) (*sorter, error) {
	f, err := os.CreateTemp(folder, "spool-*")
	if err != nil {
		return nil, err
	}
	return &sorter{f: f, limit: limit}, os.Remove(f.Name())
}

func (s *sorter) close() error { return s.f.Close() }

func (s *sorter) add(line []byte) error {
	s.lines = append(s.lines, line)
	if s.bytes += len(line); s.bytes < s.limit {
		return nil
	}
	return s.flush()
}

// flush writes what is in memory as a run.
func (s *sorter) flush() error {
	slices.SortFunc(s.lines, bytes.Compare)
	out := s.append()
	for _, line := range s.lines {
		if err := out.write(line); err != nil {
			return err
		}
	}
	clear(s.lines)
	s.lines, s.bytes = s.lines[:0], 0
	return out.finish()
}

// appending writes a run to the file's end.
type appending struct {
	s    *sorter
	from int64
	out  *bufio.Writer
}

func (s *sorter) append() *appending {
	return &appending{s: s, from: s.end, out: bufio.NewWriterSize(io.NewOffsetWriter(s.f, s.end), 64<<10)}
}

func (a *appending) write(line []byte) error {
	n, err := a.out.Write(line)
	a.s.end += int64(n)
	return err
}

func (a *appending) finish() error {
	a.s.runs = append(a.s.runs, run{a.from, a.s.end})
	return a.out.Flush()
}

// sort ends the adding: what is read from then on is in order.
func (s *sorter) sort(ctx context.Context) error {
	if len(s.runs) == 0 || len(s.lines) > 0 {
		if err := s.flush(); err != nil {
			return err
		}
	}
	for len(s.runs) > fanIn {
		first := s.runs[:fanIn]
		s.runs = slices.Clone(s.runs[fanIn:])
		out := s.append()
		m, err := s.merge(first)
		if err != nil {
			return err
		}
		if err := m.each(ctx, out.write); err != nil {
			return err
		}
		if err := out.finish(); err != nil {
			return err
		}
	}
	return nil
}

// read begins to read the lines in order.
func (s *sorter) read() (*merging, error) { return s.merge(s.runs) }

// merging yields the lines of several runs in order.
type merging struct{ h heads }

func (s *sorter) merge(runs []run) (*merging, error) {
	m := &merging{}
	for _, r := range runs {
		next := &head{in: bufio.NewReaderSize(io.NewSectionReader(s.f, r.from, r.to-r.from), 64<<10)}
		switch err := next.read(); {
		case err == nil:
			m.h = append(m.h, next)
		case !errors.Is(err, io.EOF):
			return nil, err
		}
	}
	heap.Init(&m.h)
	return m, nil
}

// line is the next line, nil at the end. It is valid until next.
func (m *merging) line() []byte {
	if len(m.h) == 0 {
		return nil
	}
	return m.h[0].line
}

func (m *merging) next() error {
	err := m.h[0].read()
	switch {
	case err == nil:
		heap.Fix(&m.h, 0)
	case errors.Is(err, io.EOF):
		heap.Pop(&m.h)
		err = nil
	}
	return err
}

func (m *merging) each(ctx context.Context, visit func(line []byte) error) error {
	for m.line() != nil {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := visit(m.line()); err != nil {
			return err
		}
		if err := m.next(); err != nil {
			return err
		}
	}
	return nil
}

// head is the first line of a run that has not been read.
type head struct {
	in   *bufio.Reader
	line []byte
}

// read goes to the next line, or returns io.EOF.
func (h *head) read() error {
	h.line = h.line[:0]
	for {
		part, err := h.in.ReadSlice('\n')
		h.line = append(h.line, part...)
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
}

type heads []*head

func (h heads) Len() int           { return len(h) }
func (h heads) Less(i, j int) bool { return bytes.Compare(h[i].line, h[j].line) < 0 }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)        { *h = append(*h, x.(*head)) }
func (h *heads) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
