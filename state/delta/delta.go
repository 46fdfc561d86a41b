// Package delta codes one byte string as copies from another one and
// insertions.
//
// An Encoder makes a delta, Apply undoes it. The coder first follows the base at the
// same alignment, which costs no more than a comparison where bytes were replaced in place, and builds an
// index of the base's blocks only where content has moved. The package
// does no I/O; a delta is not checked against anything but its own form, so
// whoever stores one keeps a hash of the result.
package delta

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrMalformed says that bytes are not a delta for the given base.
var ErrMalformed = errors.New("malformed delta")

const (
	block    = 32      // bytes of an indexed block, and what a match found by index has at least
	resync   = 16      // equal bytes that may end an insertion at the same alignment
	certain  = 256     // equal bytes that do
	probable = 64      // equal bytes that do if the last ones that did were certain
	patience = 2       // probable ones in a row, after which only certain ones do
	lookFor  = 1 << 12 // how far an insertion is followed before the index is asked
	hashBits = 17
	prime    = 0x9E3779B97F4A7C15
)

// Encoder makes deltas and keeps its memory between them. It is not safe for concurrent use.
type Encoder struct {
	table    []uint32 // block positions in the base plus one, by hash
	ops      []byte
	literals []byte
	base     []byte
	target   []byte
	indexed  bool
	unsure   int // probable matches since the last certain one
	expected int // where in the base the next copy would go on
	inserted int // start of the pending insertion in the target
}

// Encode appends to dst a delta that makes target from base. The slices are only read and not kept.
func (e *Encoder) Encode(dst, base, target []byte) []byte {
	e.ops, e.literals, e.base, e.target = e.ops[:0], e.literals[:0], base, target
	e.indexed, e.unsure, e.expected, e.inserted = false, 0, 0, 0
	at, from := 0, 0
	for at < len(target) {
		n := equal(base[min(from, len(base)):], target[at:])
		if n >= resync || (n > 0 && at+n == len(target)) {
			e.copied(at, from, n)
			at, from = at+n, from+n
			continue
		}
		at, from = e.next(at, from)
	}
	if e.inserted < len(target) {
		e.copied(len(target), e.expected, 0)
	}
	e.base, e.target = nil, nil
	dst = binary.AppendUvarint(dst, uint64(len(target)))
	dst = binary.AppendUvarint(dst, uint64(len(e.ops)))
	dst = append(dst, e.ops...)
	return append(dst, e.literals...)
}

// copied writes down the pending insertion, which ends at at, and a copy of n bytes.
func (e *Encoder) copied(at, from, n int) {
	pending := e.target[e.inserted:at]
	e.ops = binary.AppendUvarint(e.ops, uint64(len(pending)))
	e.ops = binary.AppendUvarint(e.ops, uint64(n))
	e.ops = binary.AppendVarint(e.ops, int64(from-e.expected))
	e.literals = append(e.literals, pending...)
	e.expected, e.inserted = from+n, at+n
}

// next finds where copying can go on: close by at the same alignment where that is certain, else wherever the
// index says, if that is longer. Rows resemble each other: behind one that was deleted there are equal bytes at the same
// alignment again and again, and following those would miss that everything has moved.
func (e *Encoder) next(at, from int) (int, int) {
	near, length := e.near(at, from)
	switch {
	case length >= certain:
		e.unsure = 0
		return at + near, from + near
	case length >= probable && e.unsure < patience, length > 0 && near+length == len(e.target)-at:
		e.unsure++
		return at + near, from + near
	}
	last := len(e.target) - block
	if length > 0 {
		last = min(last, at+near+length)
	}
	e.index()
	for p := at; p <= last; p++ {
		slot := e.table[hash(e.target[p:])]
		if slot == 0 {
			continue
		}
		found := int(slot - 1)
		if n := equal(e.base[found:], e.target[p:]); n >= block && n > length {
			return e.back(p, found)
		}
	}
	if length > 0 {
		return at + near, from + near
	}
	return len(e.target), len(e.base)
}

// near finds equal bytes ahead at the same alignment: how far ahead, and how many; none is 0.
func (e *Encoder) near(at, from int) (ahead, length int) {
	limit := min(len(e.target)-at, len(e.base)-from, lookFor)
	for k := 0; k+resync <= limit; k++ {
		if same16(e.base[from+k:], e.target[at+k:]) {
			return k, equal(e.base[from+k:], e.target[at+k:])
		}
	}
	return 0, 0
}

// back extends a match towards the beginning of the pending insertion.
func (e *Encoder) back(at, found int) (int, int) {
	for at > e.inserted && found > 0 && e.base[found-1] == e.target[at-1] {
		at, found = at-1, found-1
	}
	return at, found
}

func (e *Encoder) index() {
	if e.indexed {
		return
	}
	e.indexed = true
	if e.table == nil {
		e.table = make([]uint32, 1<<hashBits)
	}
	clear(e.table)
	for at := (len(e.base)/block - 1) * block; at >= 0; at -= block {
		e.table[hash(e.base[at:])] = uint32(at + 1) // the first of equal blocks stays
	}
}

// hash mixes a whole block, so that blocks with a common beginning differ.
func hash(b []byte) uint64 {
	_ = b[block-1]
	h := binary.LittleEndian.Uint64(b) * prime
	h = (h>>29 ^ h ^ binary.LittleEndian.Uint64(b[8:])) * prime
	h = (h>>29 ^ h ^ binary.LittleEndian.Uint64(b[16:])) * prime
	h = (h>>29 ^ h ^ binary.LittleEndian.Uint64(b[24:])) * prime
	return h >> (64 - hashBits)
}

func same16(a, b []byte) bool {
	return binary.LittleEndian.Uint64(a) == binary.LittleEndian.Uint64(b) &&
		binary.LittleEndian.Uint64(a[8:]) == binary.LittleEndian.Uint64(b[8:])
}

// equal is the length of the common beginning.
func equal(a, b []byte) int {
	const stride = 1024
	limit, n := min(len(a), len(b)), 0
	for n+stride <= limit && string(a[n:n+stride]) == string(b[n:n+stride]) {
		n += stride
	}
	for n+8 <= limit && binary.LittleEndian.Uint64(a[n:]) == binary.LittleEndian.Uint64(b[n:]) {
		n += 8
	}
	for n < limit && a[n] == b[n] {
		n++
	}
	return n
}

// Apply appends to dst what delta makes of base. The result has exactly size bytes, or Apply returns
// ErrMalformed; it never allocates more than that.
func Apply(dst, base, delta []byte, size int) ([]byte, error) {
	total, delta, ok := uvarint(delta)
	if !ok || total != uint64(size) {
		return nil, fmt.Errorf("%w: it makes %d bytes instead of %d", ErrMalformed, total, size)
	}
	length, delta, ok := uvarint(delta)
	if !ok || length > uint64(len(delta)) {
		return nil, fmt.Errorf("%w: instructions are cut off", ErrMalformed)
	}
	ops, literals := delta[:length], delta[length:]
	end, from := len(dst)+size, 0
	for len(ops) > 0 {
		var insert, count uint64
		if insert, ops, ok = uvarint(ops); !ok || insert > uint64(len(literals)) || insert > uint64(end-len(dst)) {
			return nil, fmt.Errorf("%w: insertion out of range", ErrMalformed)
		}
		dst, literals = append(dst, literals[:insert]...), literals[insert:]
		if count, ops, ok = uvarint(ops); !ok || count > uint64(end-len(dst)) {
			return nil, fmt.Errorf("%w: copy out of range", ErrMalformed)
		}
		move, n := binary.Varint(ops)
		if n <= 0 || move < int64(-from) || move > int64(len(base)-from) || count > uint64(len(base)-from-int(move)) {
			return nil, fmt.Errorf("%w: copy from outside the base", ErrMalformed)
		}
		from, ops = from+int(move), ops[n:]
		dst = append(dst, base[from:from+int(count)]...)
		from += int(count)
	}
	if len(dst) != end || len(literals) != 0 {
		return nil, fmt.Errorf("%w: it ends too early", ErrMalformed)
	}
	return dst, nil
}

func uvarint(b []byte) (uint64, []byte, bool) {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return 0, b, false
	}
	return v, b[n:], true
}
