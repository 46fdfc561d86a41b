package wal

import (
	"encoding/binary"
	"fmt"
)

// IndexSize is the number of bytes at the beginning of a -shm file that ParseIndex reads.
const IndexSize = 136

const (
	indexHeaderSize = 48
	indexVersion    = 3007000
)

// Index is what a -shm file says at one moment. Two equal Heads mean that nothing was committed in between.
type Index struct {
	Head       [indexHeaderSize]byte
	PageSize   int
	Frames     uint32    // committed frames of the log; 0: the log is empty
	Pages      uint32    // the size of the database after them
	Sum        [2]uint32 // the log's running checksum after them
	Salt       [8]byte   // of the log
	Backfilled uint32    // the frames that the database file already holds
}

// ParseIndex reads the first IndexSize bytes of a -shm file. A writer may have been in the middle
// of changing them: the error is then ErrFormat, and reading them again helps.
func ParseIndex(b []byte) (Index, error) {
	if len(b) < IndexSize {
		return Index{}, fmt.Errorf("%w: the index has %d bytes", ErrFormat, len(b))
	}
	i := Index{Head: [indexHeaderSize]byte(b)}
	if i.Head != [indexHeaderSize]byte(b[indexHeaderSize:]) {
		return Index{}, fmt.Errorf("%w: the index is being changed", ErrFormat)
	}
	// The index is shared memory, so it is in the machine's byte order.
	order := binary.NativeEndian
	if v := order.Uint32(b[0:]); v != indexVersion || b[12] == 0 {
		return Index{}, fmt.Errorf("%w: index version %d, initialized %d", ErrFormat, v, b[12])
	}
	if nativeSum(b[:40]) != [2]uint32{order.Uint32(b[40:]), order.Uint32(b[44:])} {
		return Index{}, fmt.Errorf("%w: checksum of the index", ErrFormat)
	}
	size := uint32(order.Uint16(b[14:]))
	i.PageSize = int(size&0xfe00 | size&1<<16)
	i.Frames, i.Pages = order.Uint32(b[16:]), order.Uint32(b[20:])
	i.Sum = [2]uint32{order.Uint32(b[24:]), order.Uint32(b[28:])}
	i.Salt = [8]byte(b[32:])
	i.Backfilled = order.Uint32(b[96:])
	if i.Frames > 0 && !validPageSize(uint32(i.PageSize)) {
		return Index{}, fmt.Errorf("%w: page size %d in the index", ErrFormat, i.PageSize)
	}
	if i.Backfilled > i.Frames {
		return Index{}, fmt.Errorf("%w: %d of %d frames are in the database", ErrFormat, i.Backfilled, i.Frames)
	}
	return i, nil
}

func nativeSum(b []byte) [2]uint32 {
	var s0, s1 uint32
	for ; len(b) >= 8; b = b[8:] {
		s0 += binary.NativeEndian.Uint32(b) + s1
		s1 += binary.NativeEndian.Uint32(b[4:]) + s0
	}
	return [2]uint32{s0, s1}
}
