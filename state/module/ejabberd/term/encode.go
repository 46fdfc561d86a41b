package term

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"slices"
)

// Encode is a term in the external format. Terms that this package decoded always have one; other types of Go panic.
func Encode(t Term) []byte { return appendTerm([]byte{version}, t) }

func appendTerm(b []byte, t Term) []byte {
	switch t := t.(type) {
	case int:
		return appendTerm(b, int64(t))
	case int64:
		if t >= 0 && t < 256 {
			return append(b, tagSmallInt, byte(t))
		}
		if t >= math.MinInt32 && t <= math.MaxInt32 {
			return binary.BigEndian.AppendUint32(append(b, tagInt), uint32(t)) //nolint:gosec // that is how it is encoded
		}
		return appendBig(b, big.NewInt(t))
	case *big.Int:
		return appendBig(b, t)
	case float64:
		return binary.BigEndian.AppendUint64(append(b, tagFloat), math.Float64bits(t))
	case Atom:
		b = binary.BigEndian.AppendUint16(append(b, tagAtomUTF8), uint16(len(t))) //nolint:gosec // at most 255 characters
		return append(b, t...)
	case Binary:
		return append(length(append(b, tagBinary), len(t)), t...)
	case List:
		if len(t) == 0 {
			return append(b, tagNil)
		}
		return append(appendAll(length(append(b, tagList), len(t)), t), tagNil)
	case Tuple:
		if len(t) < 256 {
			return appendAll(append(b, tagSmallTuple, byte(len(t))), t)
		}
		return appendAll(length(append(b, tagLargeTuple), len(t)), t)
	case Map:
		b = length(append(b, tagMap), len(t))
		for _, p := range t {
			b = appendTerm(appendTerm(b, p.Key), p.Value)
		}
		return b
	}
	panic(fmt.Sprintf("%T is no term", t))
}

func length(b []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(n)) //nolint:gosec // memory is smaller
}

func appendAll(b []byte, all []Term) []byte {
	for _, t := range all {
		b = appendTerm(b, t)
	}
	return b
}

func appendBig(b []byte, n *big.Int) []byte {
	digits := n.Bytes()
	slices.Reverse(digits)
	var sign byte
	if n.Sign() < 0 {
		sign = 1
	}
	if len(digits) < 256 {
		b = append(b, tagSmallBig, byte(len(digits)), sign)
	} else {
		b = append(length(append(b, tagLargeBig), len(digits)), sign)
	}
	return append(b, digits...)
}
