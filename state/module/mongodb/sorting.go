package mongodb

import (
	"bufio"
	"bytes"
	"container/heap"
	"context"
	"encoding/binary"
	"io"
	"os"
	"slices"

	"go.mongodb.org/mongo-driver/v2/bson"
)

// What sorting takes at most, beside one document more: documents in memory, and runs that are merged at once.
const (
	runBytes = 32 << 20
	fanIn    = 64
)

// run is a range of a file that holds sorted documents.
type run struct{ from, to int64 }

// sorter sorts documents by _id in a file.
type sorter struct {
	f     *os.File
	end   int64
	runs  []run
	all   []bson.Raw
	bytes int
	limit int // of bytes in memory
}

// sortDocuments visits documents in the order of a snapshot. They have passed check. The file is empty.
func sortDocuments(ctx context.Context, f *os.File, each func(visit func(doc []byte) error) error, visit func(doc []byte) error) error {
	return sortWithin(ctx, f, runBytes, each, visit)
}

func sortWithin(ctx context.Context, f *os.File, limit int, each func(visit func(doc []byte) error) error, visit func(doc []byte) error) error {
	s := &sorter{f: f, limit: limit}
	if err := each(s.add); err != nil {
		return err
	}
	if err := s.flush(); err != nil {
		return err
	}
	for len(s.runs) > fanIn {
		if err := s.join(ctx); err != nil {
			return err
		}
	}
	return s.merge(ctx, s.runs, visit)
}

func (s *sorter) add(doc []byte) error {
	if _, err := identity(doc); err != nil {
		return err
	}
	s.all = append(s.all, bytes.Clone(doc))
	if s.bytes += len(doc); s.bytes < s.limit {
		return nil
	}
	return s.flush()
}

func before(a, b bson.Raw) int {
	x, _ := identity(a)
	y, _ := identity(b)
	return compare(x, y)
}

// flush writes what is in memory as a run.
func (s *sorter) flush() error {
	if len(s.all) == 0 {
		return nil
	}
	slices.SortStableFunc(s.all, before)
	out := s.append()
	for _, doc := range s.all {
		if err := out.write(doc); err != nil {
			return err
		}
	}
	s.all, s.bytes = s.all[:0], 0
	clear(s.all[:cap(s.all)])
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

func (a *appending) write(doc []byte) error {
	n, err := a.out.Write(doc)
	a.s.end += int64(n)
	return err
}

func (a *appending) finish() error {
	a.s.runs = append(a.s.runs, run{a.from, a.s.end})
	return a.out.Flush()
}

// join makes one run of the first ones.
func (s *sorter) join(ctx context.Context) error {
	first := s.runs[:fanIn]
	s.runs = slices.Clone(s.runs[fanIn:])
	out := s.append()
	if err := s.merge(ctx, first, out.write); err != nil {
		return err
	}
	return out.finish()
}

func (s *sorter) merge(ctx context.Context, runs []run, visit func(doc []byte) error) error {
	var h heads
	for _, r := range runs {
		next := &head{in: bufio.NewReaderSize(io.NewSectionReader(s.f, r.from, r.to-r.from), 64<<10)}
		if err := next.read(); err != nil {
			return err
		}
		h = append(h, next)
	}
	heap.Init(&h)
	for len(h) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := visit(h[0].doc); err != nil {
			return err
		}
		switch err := h[0].read(); err {
		case nil:
			heap.Fix(&h, 0)
		case io.EOF: //nolint:errorlint // read returns it as it is
			heap.Pop(&h)
		default:
			return err
		}
	}
	return nil
}

// head is the first document of a run that has not been visited.
type head struct {
	in  *bufio.Reader
	doc bson.Raw
}

// read goes to the next document, or returns io.EOF.
func (h *head) read() error {
	size, err := h.in.Peek(4)
	if err != nil {
		return err
	}
	h.doc = slices.Grow(h.doc[:0], int(binary.LittleEndian.Uint32(size)))[:binary.LittleEndian.Uint32(size)]
	_, err = io.ReadFull(h.in, h.doc)
	return err
}

type heads []*head

func (h heads) Len() int           { return len(h) }
func (h heads) Less(i, j int) bool { return before(h[i].doc, h[j].doc) < 0 }
func (h heads) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *heads) Push(x any)        { *h = append(*h, x.(*head)) }
func (h *heads) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}
