package mongodb

import (
	"bytes"
	"cmp"
	"math"
	"math/big"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/x/bsonx/bsoncore"
)

// rank is where the values of a type are among those of others, in MongoDB's order of BSON.
func rank(kind bsoncore.Type) int {
	switch kind {
	case bsoncore.TypeMinKey:
		return 0
	case bsoncore.TypeUndefined:
		return 1
	case bsoncore.TypeNull:
		return 2
	case bsoncore.TypeInt32, bsoncore.TypeInt64, bsoncore.TypeDouble, bsoncore.TypeDecimal128:
		return 3
	case bsoncore.TypeString, bsoncore.TypeSymbol:
		return 4
	case bsoncore.TypeEmbeddedDocument:
		return 5
	case bsoncore.TypeArray:
		return 6
	case bsoncore.TypeBinary:
		return 7
	case bsoncore.TypeObjectID:
		return 8
	case bsoncore.TypeBoolean:
		return 9
	case bsoncore.TypeDateTime:
		return 10
	case bsoncore.TypeTimestamp:
		return 11
	case bsoncore.TypeRegex:
		return 12
	case bsoncore.TypeDBPointer:
		return 13
	case bsoncore.TypeJavaScript:
		return 14
	case bsoncore.TypeCodeWithScope:
		return 15
	default:
		return 16 // the greatest key
	}
}

// compare orders two values as MongoDB does, and those that it takes for the same (1 and 1.0) by their bytes.
// Both have passed check.
func compare(a, b bsoncore.Value) int {
	return cmp.Or(order(a, b), cmp.Compare(a.Type, b.Type), bytes.Compare(a.Data, b.Data))
}

func order(a, b bsoncore.Value) int {
	if c := cmp.Compare(rank(a.Type), rank(b.Type)); c != 0 {
		return c
	}
	switch a.Type {
	case bsoncore.TypeInt32, bsoncore.TypeInt64, bsoncore.TypeDouble, bsoncore.TypeDecimal128:
		return orderNumbers(a, b)
	case bsoncore.TypeString, bsoncore.TypeSymbol, bsoncore.TypeJavaScript:
		return bytes.Compare(text(a), text(b))
	case bsoncore.TypeEmbeddedDocument, bsoncore.TypeArray:
		return orderDocuments(a.Data, b.Data)
	case bsoncore.TypeBinary: // length and kind are the first five bytes
		return cmp.Or(cmp.Compare(length(a.Data), length(b.Data)), bytes.Compare(a.Data[4:], b.Data[4:]))
	case bsoncore.TypeDateTime:
		return cmp.Compare(a.DateTime(), b.DateTime())
	case bsoncore.TypeTimestamp:
		t, i := a.Timestamp()
		u, j := b.Timestamp()
		return cmp.Or(cmp.Compare(t, u), cmp.Compare(i, j))
	default:
		return bytes.Compare(a.Data, b.Data)
	}
}

// text is a string's bytes, without its length and the zero at its end.
func text(v bsoncore.Value) []byte { return v.Data[4 : len(v.Data)-1] }

func length(b []byte) uint32 {
	return uint32(b[0]) | uint32(b[1])<<8 | uint32(b[2])<<16 | uint32(b[3])<<24
}

// orderDocuments compares field by field: types, then names, then values.
func orderDocuments(a, b []byte) int {
	a, b = a[4:len(a)-1], b[4:len(b)-1]
	for len(a) > 0 && len(b) > 0 {
		x, restA, _ := bsoncore.ReadElement(a)
		y, restB, _ := bsoncore.ReadElement(b)
		v, w := x.Value(), y.Value()
		if c := cmp.Or(cmp.Compare(rank(v.Type), rank(w.Type)), cmp.Compare(x.Key(), y.Key()), order(v, w)); c != 0 {
			return c
		}
		a, b = restA, restB
	}
	return cmp.Compare(len(a), len(b))
}

// orderNumbers compares exactly, whatever the types.
func orderNumbers(a, b bsoncore.Value) int {
	i, isA := whole(a)
	j, isB := whole(b)
	if isA && isB {
		return cmp.Compare(i, j)
	}
	if a.Type == bsoncore.TypeDouble && b.Type == bsoncore.TypeDouble {
		return cmp.Compare(a.Double(), b.Double()) // what is no number comes first
	}
	x, y := exact(a), exact(b)
	if x.number == nil || y.number == nil || x.class != 0 || y.class != 0 {
		return cmp.Compare(x.class, y.class)
	}
	return x.number.Cmp(y.number)
}

func whole(v bsoncore.Value) (int64, bool) {
	if i, is := v.Int32OK(); is {
		return int64(i), true
	}
	return v.Int64OK()
}

// real is a number; or class is -2 for what is no number, and -1 and 1 for the infinities.
type real struct {
	class  int
	number *big.Rat
}

func exact(v bsoncore.Value) real {
	if i, is := whole(v); is {
		return real{number: new(big.Rat).SetInt64(i)}
	}
	if v.Type == bsoncore.TypeDouble {
		f := v.Double()
		switch {
		case math.IsNaN(f):
			return real{class: -2}
		case math.IsInf(f, 0):
			return real{class: cmp.Compare(f, 0)}
		}
		return real{number: new(big.Rat).SetFloat64(f)}
	}
	d := bson.NewDecimal128(v.Decimal128())
	switch {
	case d.IsNaN():
		return real{class: -2}
	case d.IsInf() != 0:
		return real{class: d.IsInf()}
	}
	digits, exponent, err := d.BigInt()
	if err != nil {
		return real{class: -2}
	}
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exponent, -exponent))), nil)
	if exponent < 0 {
		return real{number: new(big.Rat).SetFrac(digits, power)}
	}
	return real{number: new(big.Rat).SetInt(digits.Mul(digits, power))}
}
