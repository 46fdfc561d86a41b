package difference

import (
	"bufio"
	"bytes"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
)

// Scratch is room for what does not fit into memory, as a file is. What was written is read at random.
type Scratch interface {
	io.Writer
	io.ReaderAt
	io.Closer
}

// sorter sorts records of any number within a bounded memory: what it holds is sorted and written to the scratch as a run
// when it is full, and the runs are merged. Of each record its first keyLength bytes are compared.
type sorter struct {
	open    func() (Scratch, error)
	memory  int // bytes of records that are held
	scratch Scratch
	out     *bufio.Writer
	size    int64 // of the scratch
	runs    []run
	arena   []byte
	starts  []uint32 // of the records in the arena
}

// run is sorted records in the scratch.
type run struct{ offset, length int64 }

// mergeBuffer is what is read at once of a run, at least minBuffer.
const (
	mergeBuffer = 64 << 10
	minBuffer   = 4 << 10
	mergeMemory = 8 << 20 // of all runs, unless there are very many
)

// add copies a record, which is at least keyLength and at most maxRecord bytes long.
func (s *sorter) add(record []byte) error {
	if len(s.arena)+len(record)+lengthSize > s.memory && len(s.starts) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
	}
	s.starts = append(s.starts, uint32(len(s.arena))) //nolint:gosec // at most memory
	s.arena = binary.BigEndian.AppendUint16(s.arena, uint16(len(record)))
	s.arena = append(s.arena, record...)
	return nil
}

const lengthSize = 2

func (s *sorter) at(start uint32) []byte {
	length := binary.BigEndian.Uint16(s.arena[start:])
	return s.arena[start+lengthSize:][:length]
}

func (s *sorter) sort() {
	slices.SortFunc(s.starts, func(a, b uint32) int { return compare(s.at(a), s.at(b)) })
}

func compare(a, b []byte) int { return bytes.Compare(a[:keyLength], b[:keyLength]) }

// spill writes what is held as a run.
func (s *sorter) spill() error {
	if s.scratch == nil {
		var err error
		if s.scratch, err = s.open(); err != nil {
			return fmt.Errorf("no room to compare in: %w", err)
		}
		s.out = bufio.NewWriterSize(s.scratch, mergeBuffer)
	}
	s.sort()
	for _, start := range s.starts {
		record := s.arena[start:][:lengthSize+len(s.at(start))]
		if _, err := s.out.Write(record); err != nil {
			return fmt.Errorf("no room to compare in: %w", err)
		}
	}
	if err := s.out.Flush(); err != nil {
		return fmt.Errorf("no room to compare in: %w", err)
	}
	s.runs = append(s.runs, run{s.size, int64(len(s.arena))})
	s.size += int64(len(s.arena))
	s.arena, s.starts = s.arena[:0], s.starts[:0]
	return nil
}

// each visits all records in order, once. A record is valid during the call only.
func (s *sorter) each(ctx context.Context, visit func(record []byte) error) error {
	if len(s.runs) > 0 {
		if err := s.spill(); err != nil {
			return err
		}
		s.arena, s.starts = nil, nil // room for what follows
		return s.merge(ctx, visit)
	}
	s.sort()
	for n, start := range s.starts {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := visit(s.at(start)); err != nil {
			return err
		}
	}
	return nil
}

// checkEvery is after how many records it is seen whether the operation was called off.
const checkEvery = 4096

func (s *sorter) merge(ctx context.Context, visit func(record []byte) error) error {
	buffer := min(mergeBuffer, max(minBuffer, mergeMemory/len(s.runs)))
	var all merging
	for _, r := range s.runs {
		m := &merged{in: bufio.NewReaderSize(io.NewSectionReader(s.scratch, r.offset, r.length), buffer)}
		ok, err := m.next()
		if err != nil {
			return err
		}
		if ok {
			all = append(all, m)
		}
	}
	heap.Init(&all)
	for n := 0; len(all) > 0; n++ {
		if n%checkEvery == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		if err := visit(all[0].record); err != nil {
			return err
		}
		ok, err := all[0].next()
		switch {
		case err != nil:
			return err
		case ok:
			heap.Fix(&all, 0)
		default:
			heap.Pop(&all)
		}
	}
	return nil
}

func (s *sorter) close() error {
	if s.scratch == nil {
		return nil
	}
	err := s.scratch.Close()
	s.scratch = nil
	return err
}

// merged is a run that is being read.
type merged struct {
	in     *bufio.Reader
	record []byte
}

func (m *merged) next() (bool, error) {
	var length [lengthSize]byte
	if _, err := io.ReadFull(m.in, length[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return false, nil
		}
		return false, fmt.Errorf("cannot read what is compared: %w", err)
	}
	m.record = slices.Grow(m.record[:0], int(binary.BigEndian.Uint16(length[:])))[:binary.BigEndian.Uint16(length[:])]
	if _, err := io.ReadFull(m.in, m.record); err != nil {
		return false, fmt.Errorf("cannot read what is compared: %w", err)
	}
	return true, nil
}

// merging is a heap of runs by their next records.
type merging []*merged

func (m merging) Len() int           { return len(m) }
func (m merging) Less(i, j int) bool { return compare(m[i].record, m[j].record) < 0 }
func (m merging) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }

// Push implements heap.Interface.
func (m *merging) Push(x any) { *m = append(*m, x.(*merged)) } //nolint:forcetypeassert // nothing else is pushed

// Pop implements heap.Interface.
func (m *merging) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}
