package disk

import (
	"bytes"
	"errors"
	"testing"

	"orrery/fabric/chain"
)

// FuzzValue: whatever is in the database is a value, or is said to be corrupt; a value that is written again is the same.
func FuzzValue(f *testing.F) {
	for _, v := range []chain.Value{{}, {Value: []byte("v"), Version: 1}, {Value: []byte{0xff}, Version: 1 << 63, Expires: -1}} {
		f.Add(appendValue(nil, &v))
	}
	f.Add([]byte{0x80})
	f.Add(bytes.Repeat([]byte{0xff}, 11))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := decodeValue(b)
		if err != nil {
			if !errors.Is(err, chain.ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		again, err := decodeValue(appendValue(nil, &v))
		if err != nil || again.Version != v.Version || again.Expires != v.Expires || !bytes.Equal(again.Value, v.Value) {
			t.Fatalf("%+v, %v, was %+v", again, err, v)
		}
	})
}
