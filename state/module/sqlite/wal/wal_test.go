package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
)

// frame is a frame to encode; a size ends a transaction.
type frame struct{ page, size uint32 }

// encode writes a log as SQLite would. The first byte of a frame's page is the frame's number.
func encode(order binary.ByteOrder, pageSize int, frames ...frame) []byte {
	magic := uint32(magicLittle)
	if order == binary.BigEndian {
		magic = magicBig
	}
	b := binary.BigEndian.AppendUint32(nil, magic)
	b = binary.BigEndian.AppendUint32(b, version)
	b = binary.BigEndian.AppendUint32(b, uint32(pageSize))
	b = append(b, 0, 0, 0, 1, 's', 'a', 'l', 't', 'S', 'A', 'L', 'T')
	sum := checksum(order, [2]uint32{}, b)
	b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, sum[0]), sum[1])
	for i, f := range frames {
		head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, f.page), f.size)
		page := make([]byte, pageSize)
		page[0] = byte(i + 1)
		sum = checksum(order, checksum(order, sum, head), page)
		b = append(append(b, head...), "saltSALT"...)
		b = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, sum[0]), sum[1])
		b = append(b, page...)
	}
	return b
}

var twoCommits = []frame{{1, 0}, {2, 2}, {3, 0}, {2, 0}, {1, 3}}

func TestLog(t *testing.T) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		for _, pageSize := range []int{512, 4096, 65536} {
			content := encode(order, pageSize, twoCommits...)
			l, err := Open(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			for _, to := range []uint32{2, 2, 5} {
				if err := l.Advance(to); err != nil {
					t.Fatal(err)
				}
			}
			if l.Frames() != 5 || l.Last() != (Commit{5, 3}) || l.PageSize() != pageSize || l.Size() != int64(len(content)) {
				t.Errorf("%d frames to %v of %d bytes in %d", l.Frames(), l.Last(), l.PageSize(), l.Size())
			}
			for page, number := range map[uint32]byte{1: 5, 2: 4, 3: 3} {
				if at, ok := l.Lookup(page); !ok || content[at] != number {
					t.Errorf("page %d is not that of frame %d", page, number)
				}
			}
			if _, ok := l.Lookup(4); ok {
				t.Error("page 4 was never written")
			}
			if pages, smallest := l.Since(2); !slices.Equal(pages, []uint32{1, 2, 3}) || smallest != 3 {
				t.Errorf("since frame 2: %v, %d", pages, smallest)
			}
			if pages, smallest := l.Since(5); len(pages) != 0 || smallest != math.MaxUint32 {
				t.Errorf("since frame 5: %v, %d", pages, smallest)
			}
			if err := l.Advance(6); !errors.Is(err, ErrFormat) || l.Frames() != 5 {
				t.Errorf("a frame that is not there: %v", err)
			}
		}
	}
}

// Whatever byte is changed, or wherever the file ends, the frames that are not intact are refused.
func TestDamagedLog(t *testing.T) {
	content := encode(binary.LittleEndian, 512, twoCommits...)
	for at := range content {
		damaged := slices.Clone(content)
		damaged[at] ^= 1
		l, err := Open(bytes.NewReader(damaged))
		if err == nil {
			err = l.Advance(5)
		}
		if !errors.Is(err, ErrFormat) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
	}
	for size := range len(content) {
		l, err := Open(bytes.NewReader(content[:size]))
		if err == nil {
			err = l.Advance(5)
		}
		if !errors.Is(err, ErrFormat) {
			t.Fatalf("%d bytes: %v", size, err)
		}
	}
}

func FuzzLog(f *testing.F) {
	f.Add(encode(binary.LittleEndian, 512, twoCommits...), uint32(5))
	f.Add(encode(binary.BigEndian, 1024, twoCommits...), uint32(3))
	f.Add([]byte{}, uint32(1))
	f.Fuzz(func(t *testing.T, content []byte, to uint32) {
		l, err := Open(bytes.NewReader(content))
		if err != nil {
			return
		}
		if err := l.Advance(to); err != nil && l.Frames() != 0 {
			t.Fatal("frames after an error")
		}
		for _, page := range l.Overlaid() {
			if at, ok := l.Lookup(page); !ok || at+int64(l.PageSize()) > int64(len(content)) {
				t.Fatalf("page %d at %d of %d", page, at, len(content))
			}
		}
	})
}

func index() []byte {
	order := binary.NativeEndian
	b := make([]byte, IndexSize)
	order.PutUint32(b[0:], indexVersion)
	b[12] = 1
	order.PutUint16(b[14:], 4096)
	order.PutUint32(b[16:], 7)
	order.PutUint32(b[20:], 3)
	copy(b[32:], "saltSALT")
	sum := nativeSum(b[:40])
	order.PutUint32(b[40:], sum[0])
	order.PutUint32(b[44:], sum[1])
	copy(b[48:], b[:48])
	order.PutUint32(b[96:], 5)
	return b
}

func TestIndex(t *testing.T) {
	i, err := ParseIndex(index())
	if err != nil || i.PageSize != 4096 || i.Frames != 7 || i.Pages != 3 || i.Backfilled != 5 || string(i.Salt[:]) != "saltSALT" {
		t.Fatalf("%+v, %v", i, err)
	}
	for at := range 96 {
		b := index()
		b[at] ^= 1
		if _, err := ParseIndex(b); !errors.Is(err, ErrFormat) {
			t.Errorf("byte %d changed: %v", at, err)
		}
	}
}

func FuzzIndex(f *testing.F) {
	f.Add(index())
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		i, err := ParseIndex(b)
		if err == nil && i.Frames > 0 && (!validPageSize(uint32(i.PageSize)) || i.Backfilled > i.Frames) {
			t.Fatalf("%+v", i)
		}
	})
}
