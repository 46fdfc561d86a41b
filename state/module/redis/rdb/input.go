package rdb

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"hash/crc64"
	"io"
	"strconv"
)

const (
	maxString = 1 << 30 // twice what servers allow by default
	// maxExpansion is more than LZF makes of a byte: three bytes become 264 at most.
	maxExpansion = 100
)

var jones = crc64.MakeTable(0x95ac9329ac4bc9b5)

// input reads lengths and strings, and computes the checksum of what it read.
type input struct {
	r       *bufio.Reader
	crc     uint64
	scratch [16]byte
}

func (in *input) sum(p []byte) { in.crc = ^crc64.Update(^in.crc, jones, p) }

func (in *input) byte() (byte, error) {
	b, err := in.r.ReadByte()
	if err != nil {
		return 0, ended(err)
	}
	in.scratch[0] = b
	in.sum(in.scratch[:1])
	return b, nil
}

// bytes reads a few bytes, which are valid until the next call.
func (in *input) bytes(n int) ([]byte, error) {
	b := in.scratch[:n]
	if _, err := io.ReadFull(in.r, b); err != nil {
		return nil, ended(err)
	}
	in.sum(b)
	return b, nil
}

// blob reads n bytes. What it takes in memory grows with what is there, whatever n says.
func (in *input) blob(n uint64) ([]byte, error) {
	if n > maxString {
		return nil, malformed("a string is longer than a server can hold")
	}
	if n <= 64<<10 {
		b := make([]byte, n)
		if _, err := io.ReadFull(in.r, b); err != nil {
			return nil, ended(err)
		}
		in.sum(b)
		return b, nil
	}
	var b bytes.Buffer
	if _, err := io.CopyN(&b, in.r, int64(n)); err != nil { //nolint:gosec // at most maxString
		return nil, ended(err)
	}
	in.sum(b.Bytes())
	return b.Bytes(), nil
}

func (in *input) skip(n uint64) error {
	for n > 0 {
		piece := min(n, 4096)
		b, err := in.r.Peek(int(piece)) //nolint:gosec // at most 4096
		if err != nil {
			return ended(err)
		}
		in.sum(b)
		if _, err := in.r.Discard(len(b)); err != nil {
			return ended(err)
		}
		n -= piece
	}
	return nil
}

// encoded reads a length, or the number of a special encoding of a string.
func (in *input) encoded() (n uint64, special bool, err error) {
	first, err := in.byte()
	if err != nil {
		return 0, false, err
	}
	switch {
	case first>>6 == 0:
		return uint64(first & 63), false, nil
	case first>>6 == 1:
		second, err := in.byte()
		return uint64(first&63)<<8 | uint64(second), false, err
	case first == 0x80:
		b, err := in.bytes(4)
		if err != nil {
			return 0, false, err
		}
		return uint64(binary.BigEndian.Uint32(b)), false, nil
	case first == 0x81:
		b, err := in.bytes(8)
		if err != nil {
			return 0, false, err
		}
		return binary.BigEndian.Uint64(b), false, nil
	case first>>6 == 3:
		return uint64(first & 63), true, nil
	}
	return 0, false, malformed("a length of an unknown form")
}

func (in *input) length() (uint64, error) {
	n, special, err := in.encoded()
	if err == nil && special {
		err = malformed("a string where a length should be")
	}
	return n, err
}

// lengths skips n lengths.
func (in *input) lengths(n int) error {
	for range n {
		if _, err := in.length(); err != nil {
			return err
		}
	}
	return nil
}

// The special encodings of strings.
const (
	int8String  = 0
	int16String = 1
	int32String = 2
	lzfString   = 3
)

// string reads a string, which is the caller's.
func (in *input) string() ([]byte, error) {
	n, special, err := in.encoded()
	switch {
	case err != nil:
		return nil, err
	case !special:
		return in.blob(n)
	case n == lzfString:
		return in.compressed()
	case n > lzfString:
		return nil, malformed("a string of an unknown encoding")
	}
	b, err := in.bytes(1 << n)
	if err != nil {
		return nil, err
	}
	var value int64
	switch n {
	case int8String:
		value = int64(int8(b[0])) //nolint:gosec // meant
	case int16String:
		value = int64(int16(binary.LittleEndian.Uint16(b))) //nolint:gosec // meant
	case int32String:
		value = int64(int32(binary.LittleEndian.Uint32(b))) //nolint:gosec // meant
	}
	return strconv.AppendInt(nil, value, 10), nil
}

func (in *input) skipStrings(n int) error {
	for range n {
		n, special, err := in.encoded()
		switch {
		case err != nil:
			return err
		case special && n < lzfString:
			n = 1 << n
		case special && n == lzfString:
			if n, err = in.length(); err == nil {
				_, err = in.length()
			}
		case special:
			err = malformed("a string of an unknown encoding")
		}
		if err == nil {
			err = in.skip(n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (in *input) compressed() ([]byte, error) {
	from, err := in.length()
	if err != nil {
		return nil, err
	}
	to, err := in.length()
	if err != nil {
		return nil, err
	}
	if to > maxString || to > from*maxExpansion {
		return nil, malformed("a compressed string says that it is longer than it can be")
	}
	b, err := in.blob(from)
	if err != nil {
		return nil, err
	}
	return expand(b, int(to)) //nolint:gosec // at most maxString
}

// expand undoes LZF: runs of literal bytes, and references to what came up to 8 KiB before.
func expand(in []byte, length int) ([]byte, error) {
	out := make([]byte, 0, length)
	bad := malformed("a compressed string is damaged")
	for len(in) > 0 {
		control := int(in[0])
		in = in[1:]
		if control < 32 {
			n := control + 1
			if n > len(in) || len(out)+n > length {
				return nil, bad
			}
			out, in = append(out, in[:n]...), in[n:]
			continue
		}
		n := control >> 5
		if n == 7 {
			if len(in) == 0 {
				return nil, bad
			}
			n, in = n+int(in[0]), in[1:]
		}
		n += 2
		if len(in) == 0 {
			return nil, bad
		}
		from := len(out) - (control&31<<8 | int(in[0])) - 1
		in = in[1:]
		if from < 0 || len(out)+n > length {
			return nil, bad
		}
		for range n { // it may overlap with what it makes
			out = append(out, out[from])
			from++
		}
	}
	if len(out) != length {
		return nil, bad
	}
	return out, nil
}
