// Package wal reads SQLite's write-ahead log and the header of its index. It
// is pure: bytes in, values out.
//
// A Log is the verified beginning of a -wal file: every frame up to Frames
// carries the log's salts and a checksum that runs on from the log's header. It grows by
// Advance at a cost that depends on the new frames only. An Index is what
// the -shm file says at one moment: how many frames are committed, and how many of those the
// database file already holds.
//
// Formats: https://sqlite.org/fileformat2.html#the_write_ahead_log and
// https://sqlite.org/walformat.html.
package wal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// ErrFormat says that bytes are not a write-ahead log, or not the one they should be.
var ErrFormat = errors.New("not a valid write-ahead log")

const (
	headerSize      = 32
	frameHeaderSize = 24
	magicLittle     = 0x377f0682 // checksums over little-endian words
	magicBig        = 0x377f0683
	version         = 3007000
	scanBuffer      = 1 << 20
)

// Commit is the last frame of a transaction.
type Commit struct {
	Frame uint32 // its number, from 1
	Pages uint32 // the size of the database after it
}

// Log is the verified beginning of a -wal file. It is not safe for concurrent use.
type Log struct {
	file     io.ReaderAt
	pageSize int
	salt     [8]byte
	order    binary.ByteOrder
	sum      [2]uint32
	pages    []uint32 // of frame i+1
	latest   map[uint32]uint32
	commits  []Commit
}

// Open reads a log's header. The log then has no frames; see Advance.
func Open(file io.ReaderAt) (*Log, error) {
	var b [headerSize]byte
	if _, err := file.ReadAt(b[:], 0); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrFormat, err)
	}
	l := &Log{file: file, order: binary.LittleEndian, latest: map[uint32]uint32{}}
	switch magic := binary.BigEndian.Uint32(b[0:]); magic {
	case magicLittle:
	case magicBig:
		l.order = binary.BigEndian
	default:
		return nil, fmt.Errorf("%w: it begins with %08x", ErrFormat, magic)
	}
	if v := binary.BigEndian.Uint32(b[4:]); v != version {
		return nil, fmt.Errorf("%w: version %d, not %d", ErrFormat, v, version)
	}
	size := binary.BigEndian.Uint32(b[8:])
	if !validPageSize(size) {
		return nil, fmt.Errorf("%w: page size %d", ErrFormat, size)
	}
	l.pageSize = int(size)
	copy(l.salt[:], b[16:24])
	l.sum = checksum(l.order, [2]uint32{}, b[:24])
	if l.sum != [2]uint32{binary.BigEndian.Uint32(b[24:]), binary.BigEndian.Uint32(b[28:])} {
		return nil, fmt.Errorf("%w: checksum of the header", ErrFormat)
	}
	return l, nil
}

func validPageSize(size uint32) bool {
	return size >= 512 && size <= 65536 && size&(size-1) == 0
}

// PageSize is the size of a page in bytes.
func (l *Log) PageSize() int { return l.pageSize }

// Salt is what tells this log from the ones before and after it in the same file.
func (l *Log) Salt() [8]byte { return l.salt }

// Frames is the number of verified frames.
func (l *Log) Frames() uint32 { return uint32(len(l.pages)) }

// Sum is the running checksum after the last verified frame.
func (l *Log) Sum() [2]uint32 { return l.sum }

// Size is the number of bytes of the file that the verified frames take.
func (l *Log) Size() int64 { return l.offset(l.Frames() + 1) }

// Last returns the last verified commit; the zero Commit if there is none.
func (l *Log) Last() Commit {
	if len(l.commits) == 0 {
		return Commit{}
	}
	return l.commits[len(l.commits)-1]
}

func (l *Log) offset(frame uint32) int64 {
	return headerSize + (int64(frame)-1)*int64(frameHeaderSize+l.pageSize)
}

// Lookup returns where in the file the newest verified version of a page begins.
func (l *Log) Lookup(page uint32) (offset int64, ok bool) {
	frame, ok := l.latest[page]
	if !ok {
		return 0, false
	}
	return l.offset(frame) + frameHeaderSize, true
}

// Overlaid returns the pages that the log holds, sorted.
func (l *Log) Overlaid() []uint32 {
	pages := make([]uint32, 0, len(l.latest))
	for page := range l.latest {
		pages = append(pages, page)
	}
	slices.Sort(pages)
	return pages
}

// Since returns the pages that were written after the given frame, sorted, and the smallest size in pages
// that the database had at a commit after it (MaxUint32 if there was none).
func (l *Log) Since(frame uint32) (pages []uint32, smallest uint32) {
	pages = slices.Clone(l.pages[min(int(frame), len(l.pages)):])
	slices.Sort(pages)
	smallest = math.MaxUint32
	for i := len(l.commits) - 1; i >= 0 && l.commits[i].Frame > frame; i-- {
		smallest = min(smallest, l.commits[i].Pages)
	}
	return slices.Compact(pages), smallest
}

// Advance verifies the frames up to and including the given one. After an error the log is as it was.
func (l *Log) Advance(to uint32) error {
	if to <= l.Frames() {
		return nil
	}
	next := addition{sum: l.sum}
	size := frameHeaderSize + l.pageSize
	buffer := make([]byte, max(1, min(scanBuffer/size, int(to-l.Frames())))*size)
	for frame := l.Frames() + 1; frame <= to; {
		n := min(len(buffer)/size, int(to-frame)+1)
		part := buffer[:n*size]
		if _, err := l.file.ReadAt(part, l.offset(frame)); err != nil {
			return fmt.Errorf("%w: frame %d: %w", ErrFormat, frame, err)
		}
		for ; len(part) > 0; part = part[size:] {
			if err := next.add(l, frame, part[:size]); err != nil {
				return err
			}
			frame++
		}
	}
	for i, page := range next.pages {
		l.latest[page] = l.Frames() + uint32(i) + 1
	}
	l.pages = append(l.pages, next.pages...)
	l.commits = append(l.commits, next.commits...)
	l.sum = next.sum
	return nil
}

// addition collects verified frames until all that were asked for are there.
type addition struct {
	sum     [2]uint32
	pages   []uint32
	commits []Commit
}

func (a *addition) add(l *Log, number uint32, frame []byte) error {
	page, size := binary.BigEndian.Uint32(frame[0:]), binary.BigEndian.Uint32(frame[4:])
	if page == 0 {
		return fmt.Errorf("%w: frame %d is of page 0", ErrFormat, number)
	}
	if [8]byte(frame[8:16]) != l.salt {
		return fmt.Errorf("%w: frame %d is of another log", ErrFormat, number)
	}
	a.sum = checksum(l.order, checksum(l.order, a.sum, frame[:8]), frame[frameHeaderSize:])
	if a.sum != [2]uint32{binary.BigEndian.Uint32(frame[16:]), binary.BigEndian.Uint32(frame[20:])} {
		return fmt.Errorf("%w: checksum of frame %d", ErrFormat, number)
	}
	a.pages = append(a.pages, page)
	if size != 0 {
		a.commits = append(a.commits, Commit{number, size})
	}
	return nil
}

// checksum continues sum over b, whose length is a multiple of 8.
func checksum(order binary.ByteOrder, sum [2]uint32, b []byte) [2]uint32 {
	s0, s1 := sum[0], sum[1]
	if order == binary.LittleEndian { // direct calls: this loop reads every byte of the log
		for ; len(b) >= 8; b = b[8:] {
			s0 += binary.LittleEndian.Uint32(b) + s1
			s1 += binary.LittleEndian.Uint32(b[4:]) + s0
		}
		return [2]uint32{s0, s1}
	}
	for ; len(b) >= 8; b = b[8:] {
		s0 += binary.BigEndian.Uint32(b) + s1
		s1 += binary.BigEndian.Uint32(b[4:]) + s0
	}
	return [2]uint32{s0, s1}
}
