package store

import (
	"encoding/binary"
	"errors"
	"io"

	"lukechampine.com/blake3"
)

// How a stream is cut: behind 48 bytes whose rolling hash has zeroes where cutMask has ones, but not before minCut
// and not after maxSegment bytes. The numbers decide which segments are shared, not whether they can be read.
const (
	minCut    = 512 << 10
	cutMask   = (1<<19 - 1) << 40
	cutWindow = 64
)

// gear are the values of bytes in the rolling hash.
var gear = gearTable()

func gearTable() (t [256]uint64) {
	x := uint64(0x6f72726572790001)
	for i := range t { // splitmix64
		x += 0x9E3779B97F4A7C15
		z := x
		z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
		z = (z ^ z>>27) * 0x94D049BB133111EB
		t[i] = z ^ z>>31
	}
	return t
}

// cut returns the length of the segment that b begins with, 0 if b goes on.
func cut(b []byte, scanned int) int {
	limit := min(len(b), maxSegment)
	var h uint64
	for i := max(minCut, scanned) - cutWindow; i < limit; i++ {
		h = h<<1 + gear[b[i]]
		if h&cutMask == 0 && i >= minCut && i >= scanned {
			return i + 1
		}
	}
	if limit == maxSegment {
		return limit
	}
	return 0
}

// streamer is the writer that a stream is stored through.
type streamer struct {
	*saver
	hash    *blake3.Hasher
	buffer  []byte
	scanned int // bytes of the buffer in which there is no cut
	next    int // the parent's segment behind the one that was last a base
	byKey   map[uint64]int
	key     uint64
	err     error
	closed  bool
	packer  *packer
}

// stream stores what write writes.
func (w *saver) stream(write func(io.Writer) error) error {
	w.m.Layout = layoutContent
	s := &streamer{saver: w, hash: blake3.New(32, nil), byKey: map[uint64]int{}}
	if w.parent != nil && w.parent.Layout == layoutContent {
		for i, key := range w.parent.keys {
			if _, ok := s.byKey[key]; !ok {
				s.byKey[key] = i
			}
		}
	}
	s.packer = w.startPacker()
	err := write(s)
	s.closed = true
	if err = errors.Join(s.err, err); err == nil && len(s.buffer) > 0 {
		err = s.segment(s.buffer)
	}
	if packed := s.packer.wait(); packed != nil && (err == nil || errors.Is(err, errPacker)) {
		err = packed
	}
	if err != nil {
		return err
	}
	s.hash.Sum(w.m.ID[:0])
	return nil
}

// packer stores segments while the stream is read on: whoever reads cuts and hashes, and one goroutine finds deltas and
// compresses. Only that goroutine uses the saver's catalog, codec and pack until wait returns.
type packer struct {
	jobs  chan packing
	spare chan []byte // buffers to use again; as many as there are jobs under way
	ended chan error
	// broken is closed with the first error, so that the stream ends early.
	broken chan struct{}
}

// packing is one segment to store.
type packing struct {
	data  []byte
	name  digest
	bases []digest
}

// packerDepth is how many segments may wait.
const packerDepth = 2

func (w *saver) startPacker() *packer {
	p := &packer{
		jobs: make(chan packing, packerDepth), spare: make(chan []byte, packerDepth+1),
		ended: make(chan error, 1), broken: make(chan struct{}),
	}
	for range cap(p.spare) {
		p.spare <- nil
	}
	go func() {
		var failed error
		for job := range p.jobs {
			if failed == nil {
				if failed = w.put(job.data, job.name, free, job.bases); failed != nil {
					close(p.broken)
				}
			}
			p.spare <- job.data
		}
		p.ended <- failed
	}()
	return p
}

// add hands a segment over; its bytes are copied.
func (p *packer) add(b []byte, name digest, bases []digest) error {
	select {
	case <-p.broken:
		return errPacker
	case spare := <-p.spare:
		p.jobs <- packing{append(spare[:0], b...), name, bases}
		return nil
	}
}

// errPacker ends a stream whose segments cannot be stored; wait says why.
var errPacker = errors.New("segments cannot be stored")

// wait returns when all is stored, or why it is not.
func (p *packer) wait() error {
	close(p.jobs)
	return <-p.ended
}

func (s *streamer) Write(b []byte) (n int, err error) {
	if s.closed {
		return 0, errors.New("write to a snapshot that has ended")
	}
	for len(b) > 0 && s.err == nil {
		part := b[:min(len(b), maxSegment-len(s.buffer))]
		s.buffer = append(s.buffer, part...)
		b, n = b[len(part):], n+len(part)
		s.err = s.drain()
	}
	return n, s.err
}

// drain stores the segments that are complete.
func (s *streamer) drain() error {
	at := 0
	for len(s.buffer)-at > minCut {
		length := cut(s.buffer[at:], s.scanned)
		if length == 0 {
			s.scanned = len(s.buffer) - at
			break
		}
		if err := s.segment(s.buffer[at : at+length]); err != nil {
			return err
		}
		at, s.scanned = at+length, 0
	}
	s.buffer = s.buffer[:copy(s.buffer, s.buffer[at:])]
	return nil
}

// segment stores one segment.
func (s *streamer) segment(b []byte) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	m := s.m
	_, _ = s.hash.Write(b) // never fails; as much at once as can be, for it works on many blocks at a time
	name := sum(b, free)
	m.Segments, m.keys = append(m.Segments, name), append(m.keys, s.key)
	m.Size += int64(len(b))
	m.ends = append(m.ends, m.Size)
	if err := s.packer.add(b, name, s.likely(int64(len(b)))); err != nil {
		return err
	}
	tail := b[max(0, len(b)-cutWindow):]
	s.key = binary.LittleEndian.Uint64(toKey(tail))
	return nil
}

func toKey(tail []byte) []byte {
	d := sum(tail, free)
	return d[:8]
}

// likely returns the parent's segments that a segment of the given length probably comes from: the one with the
// same bytes in front of it, else the one behind the last base; and its successor if that one is too short.
func (s *streamer) likely(length int64) []digest {
	p := s.parent
	if p == nil || len(p.Segments) == 0 {
		return nil
	}
	if p.Layout == layoutAligned {
		return p.covering(s.m.Size-length, s.m.Size)
	}
	first, ok := s.byKey[s.key]
	if !ok {
		first = min(s.next, len(p.Segments)-1)
	}
	start, end := p.span(first)
	last := first + 1
	if last < len(p.Segments) && length > end-start+(64<<10) {
		last++
	}
	s.next = last
	if !ok && first > 0 { // a boundary has gone: it may begin in the segment before
		first--
	}
	return p.Segments[first:last:last]
}
