package rdb

import (
	"encoding/binary"
	"strconv"
)

// pack is a listpack: small elements, one after the other in one string.
type pack struct{ rest []byte }

const packHeader = 6 // its size in bytes and the number of its elements, or 65535 for many

func newPack(b []byte) (*pack, error) {
	if len(b) < packHeader+1 || uint64(binary.LittleEndian.Uint32(b)) != uint64(len(b)) || b[len(b)-1] != 0xff {
		return nil, malformed("a listpack is not of the size that it says")
	}
	return &pack{rest: b[packHeader:]}, nil
}

// next returns the next element, integers in decimal, and false after the last.
func (p *pack) next() (value []byte, more bool, err error) {
	bad := malformed("a listpack is damaged")
	if len(p.rest) == 0 {
		return nil, false, bad
	}
	if p.rest[0] == 0xff {
		if len(p.rest) != 1 {
			return nil, false, bad
		}
		return nil, false, nil
	}
	head, length, number := packed(p.rest)
	if head == 0 {
		return nil, false, bad
	}
	size := head + length
	total := size + backLength(size)
	if total >= len(p.rest) {
		return nil, false, bad
	}
	if value = p.rest[head:size:size]; length == 0 && number != nil {
		value = strconv.AppendInt(nil, *number, 10)
	}
	p.rest = p.rest[total:]
	return value, true, nil
}

// packed says how many bytes come before an element's string and how long that is, or which number it is. A head of 0 is
// no element.
func packed(b []byte) (head, length int, number *int64) {
	first := b[0]
	switch {
	case first < 0x80:
		n := int64(first)
		return 1, 0, &n
	case first < 0xc0:
		return 1, int(first & 63), nil
	case first < 0xe0:
		if len(b) < 2 {
			return 0, 0, nil
		}
		n := int64(first&31)<<8 | int64(b[1])
		n = n << 51 >> 51 // 13 bits with a sign
		return 2, 0, &n
	case first < 0xf0:
		if len(b) < 2 {
			return 0, 0, nil
		}
		return 2, int(first&15)<<8 | int(b[1]), nil
	case first == 0xf0:
		if len(b) < 5 {
			return 0, 0, nil
		}
		n := binary.LittleEndian.Uint32(b[1:])
		if uint64(n) > uint64(len(b)) {
			return 0, 0, nil
		}
		return 5, int(n), nil
	}
	return packedInteger(b)
}

func packedInteger(b []byte) (head, length int, number *int64) {
	sizes := map[byte]int{0xf1: 2, 0xf2: 3, 0xf3: 4, 0xf4: 8}
	size, ok := sizes[b[0]]
	if !ok || len(b) < 1+size {
		return 0, 0, nil
	}
	n := littleEndian(b[1 : 1+size])
	return 1 + size, 0, &n
}

// littleEndian is the number in up to 8 bytes, with its sign.
func littleEndian(b []byte) int64 {
	var n uint64
	for i, one := range b {
		n |= uint64(one) << (8 * i)
	}
	shift := 64 - 8*len(b)
	return int64(n<<shift) >> shift //nolint:gosec // meant
}

// backLength is how many bytes after an element say its size, for reading backwards.
func backLength(size int) int {
	switch {
	case size <= 127:
		return 1
	case size < 16383:
		return 2
	case size < 2097151:
		return 3
	case size < 268435455:
		return 4
	}
	return 5
}

// must returns the next element, which has to be there.
func (p *pack) must() ([]byte, error) {
	value, more, err := p.next()
	if err == nil && !more {
		err = malformed("a listpack ends in the middle of an entry")
	}
	return value, err
}

// integer returns the next element, which has to be a number.
func (p *pack) integer() (int64, error) {
	value, err := p.must()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0, malformed("a listpack has a string where a number should be")
	}
	return n, nil
}

// each visits the elements of a listpack in groups of so many.
func each(b []byte, group int, visit func(values [][]byte) error) error {
	p, err := newPack(b)
	if err != nil {
		return err
	}
	values := make([][]byte, group)
	for {
		first, more, err := p.next()
		if err != nil || !more {
			return err
		}
		values[0] = first
		for i := 1; i < group; i++ {
			if values[i], err = p.must(); err != nil {
				return err
			}
		}
		if err := visit(values); err != nil {
			return err
		}
	}
}
