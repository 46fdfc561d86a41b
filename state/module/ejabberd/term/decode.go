package term

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"slices"
	"unicode/utf8"
)

// Tags of the external format, after its version.
const (
	version        = 131
	tagSmallInt    = 97
	tagInt         = 98
	tagFloat       = 70
	tagAtom        = 100
	tagSmallTuple  = 104
	tagLargeTuple  = 105
	tagNil         = 106
	tagString      = 107
	tagList        = 108
	tagBinary      = 109
	tagSmallBig    = 110
	tagLargeBig    = 111
	tagSmallAtom   = 115
	tagMap         = 116
	tagAtomUTF8    = 118
	tagSmallAtomU8 = 119
)

// Decode reads a term in the external format, to the end of b.
func Decode(b []byte) (Term, error) {
	d := decoder{b: b}
	if v, err := d.byte(); err != nil || v != version {
		return nil, fmt.Errorf("%w: it does not begin with the version of the format", ErrTerm)
	}
	t, err := d.term(0)
	if err == nil && len(d.b) > 0 {
		err = fmt.Errorf("%w: %d bytes follow it", ErrTerm, len(d.b))
	}
	return t, err
}

type decoder struct{ b []byte }

func (d *decoder) take(n uint64) ([]byte, error) {
	if n > uint64(len(d.b)) {
		return nil, fmt.Errorf("%w: it is cut short", ErrTerm)
	}
	b := d.b[:n]
	d.b = d.b[n:]
	return b, nil
}

func (d *decoder) byte() (byte, error) {
	b, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// size reads a length of so many bytes.
func (d *decoder) size(bytes uint64) (uint64, error) {
	b, err := d.take(bytes)
	var n uint64
	for _, x := range b {
		n = n<<8 | uint64(x)
	}
	return n, err
}

// sized reads a length and so many bytes.
func (d *decoder) sized(bytes uint64) ([]byte, error) {
	n, err := d.size(bytes)
	if err != nil {
		return nil, err
	}
	return d.take(n)
}

func (d *decoder) term(depth int) (Term, error) {
	tag, err := d.byte()
	if err != nil {
		return nil, err
	}
	if depth > depthLimit {
		return nil, fmt.Errorf("%w: it is too deep", ErrTerm)
	}
	switch tag {
	case tagSmallInt:
		n, err := d.byte()
		return int64(n), err
	case tagInt:
		n, err := d.size(4)
		return int64(int32(uint32(n))), err //nolint:gosec // that is how it is encoded
	case tagFloat:
		b, err := d.take(8)
		if err != nil {
			return nil, err
		}
		return finite(math.Float64frombits(binary.BigEndian.Uint64(b)))
	case tagSmallBig, tagLargeBig:
		return d.big(tag)
	case tagAtom, tagAtomUTF8, tagSmallAtom, tagSmallAtomU8:
		return d.atom(tag)
	case tagBinary:
		b, err := d.sized(4)
		return Binary(b), err
	}
	return d.compound(tag, depth)
}

func (d *decoder) compound(tag byte, depth int) (Term, error) {
	switch tag {
	case tagNil:
		return List{}, nil
	case tagString:
		b, err := d.sized(2)
		all := make(List, len(b))
		for i, c := range b {
			all[i] = int64(c)
		}
		return all, err
	case tagSmallTuple, tagLargeTuple:
		n, err := d.size(map[byte]uint64{tagSmallTuple: 1, tagLargeTuple: 4}[tag])
		if err != nil {
			return nil, err
		}
		all, err := d.terms(n, depth)
		return Tuple(all), err
	case tagList:
		n, err := d.size(4)
		if err != nil {
			return nil, err
		}
		all, err := d.terms(n, depth)
		if err != nil {
			return nil, err
		}
		if end, err := d.byte(); err != nil || end != tagNil {
			return nil, fmt.Errorf("%w: a list without an end", ErrTerm)
		}
		return List(all), nil
	case tagMap:
		return d.pairs(depth)
	}
	return nil, fmt.Errorf("%w: kind %d is of a running system, or unknown", ErrTerm, tag)
}

func (d *decoder) terms(n uint64, depth int) ([]Term, error) {
	all := make([]Term, 0, min(n, uint64(len(d.b))))
	for range n {
		t, err := d.term(depth + 1)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
	}
	return all, nil
}

func (d *decoder) pairs(depth int) (Term, error) {
	n, err := d.size(4)
	if err != nil {
		return nil, err
	}
	all := make(Map, 0, min(n, uint64(len(d.b))))
	for range n {
		both, err := d.terms(2, depth)
		if err != nil {
			return nil, err
		}
		all = append(all, Pair{both[0], both[1]})
	}
	return ordered(all)
}

// ordered sorts the keys of a map, which are all different.
func ordered(m Map) (Term, error) {
	texts := make(map[string]Pair, len(m))
	for _, p := range m {
		texts[string(Append(nil, p.Key))] = p
	}
	if len(texts) < len(m) {
		return nil, fmt.Errorf("%w: a map has a key twice", ErrTerm)
	}
	keys := make([]string, 0, len(m))
	for k := range texts {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		m[i] = texts[k]
	}
	return m, nil
}

func (d *decoder) big(tag byte) (Term, error) {
	n, err := d.size(map[byte]uint64{tagSmallBig: 1, tagLargeBig: 4}[tag])
	if err != nil {
		return nil, err
	}
	sign, err := d.byte()
	if err != nil || sign > 1 {
		return nil, fmt.Errorf("%w: a number without a sign", ErrTerm)
	}
	b, err := d.take(n)
	if err != nil {
		return nil, err
	}
	b = slices.Clone(b)
	slices.Reverse(b)
	x := new(big.Int).SetBytes(b)
	if sign == 1 {
		x.Neg(x)
	}
	return integer(x), nil
}

func (d *decoder) atom(tag byte) (Term, error) {
	long := map[byte]uint64{tagAtom: 2, tagAtomUTF8: 2, tagSmallAtom: 1, tagSmallAtomU8: 1}[tag]
	b, err := d.sized(long)
	if err != nil {
		return nil, err
	}
	if tag == tagAtom || tag == tagSmallAtom { // Latin-1
		runes := make([]rune, len(b))
		for i, c := range b {
			runes[i] = rune(c)
		}
		b = []byte(string(runes))
	}
	if !utf8.Valid(b) || utf8.RuneCount(b) > 255 {
		return nil, fmt.Errorf("%w: no name", ErrTerm)
	}
	return Atom(b), nil
}

func finite(f float64) (Term, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, fmt.Errorf("%w: no number", ErrTerm)
	}
	return f, nil
}
