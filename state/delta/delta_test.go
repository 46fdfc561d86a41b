package delta_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"orrery/state/delta"
)

func random(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

func roundTrip(t interface{ Fatalf(string, ...any) }, e *delta.Encoder, base, target []byte) int {
	d := e.Encode(nil, base, target)
	got, err := delta.Apply(nil, base, d, len(target))
	if err != nil || !bytes.Equal(got, target) {
		t.Fatalf("round trip of %d bytes against %d: %v", len(target), len(base), err)
	}
	return len(d)
}

func TestEncodeIsSmall(t *testing.T) {
	base := random(1<<20, 1)
	replaced := bytes.Clone(base)
	for at := 0; at < len(replaced); at += 10000 {
		copy(replaced[at:], "changed")
	}
	insertion := append(append(bytes.Clone(base[:500_000]), []byte("inserted text")...), base[500_000:]...)
	deletion := append(bytes.Clone(base[:300_000]), base[400_000:]...)
	moved := append(bytes.Clone(base[700_000:]), base[:700_000]...)
	for name, c := range map[string]struct {
		target []byte
		limit  int
	}{
		"equal": {base, 20}, "empty": {nil, 2}, "replaced": {replaced, 4000}, "insertion": {insertion, 200},
		"deletion": {deletion, 200}, "moved": {moved, 200}, "other": {random(1<<20, 2), 1<<20 + 100},
	} {
		var e delta.Encoder
		if n := roundTrip(t, &e, base, c.target); n > c.limit {
			t.Errorf("%s: %d bytes, want at most %d", name, n, c.limit)
		}
	}
}

func TestRoundTripOfRandomEdits(t *testing.T) {
	var e delta.Encoder
	rapid.Check(t, func(t *rapid.T) {
		base := random(rapid.IntRange(0, 20000).Draw(t, "size"), rapid.Uint64().Draw(t, "seed"))
		if rapid.Bool().Draw(t, "repetitive") {
			base = bytes.Repeat(base[:min(len(base), 7)], 100)
		}
		target := bytes.Clone(base)
		for range rapid.IntRange(0, 8).Draw(t, "edits") {
			at := rapid.IntRange(0, len(target)).Draw(t, "at")
			cut := rapid.IntRange(0, min(3000, len(target)-at)).Draw(t, "cut")
			put := rapid.SliceOfN(rapid.Byte(), 0, 50).Draw(t, "put")
			target = append(append(bytes.Clone(target[:at]), put...), target[at+cut:]...)
		}
		roundTrip(t, &e, base, target)
	})
}

func FuzzApply(f *testing.F) {
	base := random(4096, 3)
	var e delta.Encoder
	f.Add(e.Encode(nil, base, base[100:]), 3996)
	f.Add([]byte{}, 0)
	f.Fuzz(func(t *testing.T, d []byte, size int) {
		if size < 0 || size > 1<<20 {
			return
		}
		got, err := delta.Apply(nil, base, d, size)
		if err == nil && len(got) != size {
			t.Fatalf("%d bytes instead of %d", len(got), size)
		}
	})
}

func BenchmarkEncodeReplaced(b *testing.B) {
	base := random(1<<20, 1)
	target := bytes.Clone(base)
	for at := 0; at < len(target); at += 15000 {
		copy(target[at:], "changed")
	}
	var e delta.Encoder
	var out []byte
	b.SetBytes(int64(len(target)))
	for b.Loop() {
		out = e.Encode(out[:0], base, target)
	}
}

func BenchmarkEncodeShifted(b *testing.B) {
	base := random(1<<20, 1)
	target := append([]byte("x"), base...)
	var e delta.Encoder
	var out []byte
	b.SetBytes(int64(len(target)))
	for b.Loop() {
		out = e.Encode(out[:0], base, target)
	}
}

// Rows of one length that resemble each other, of which every hundredth was deleted: behind each there are equal bytes at
// the same alignment, and to follow those would store nearly everything again.
func TestDeletedRows(t *testing.T) {
	var base, target []byte
	r := rand.New(rand.NewPCG(1, 2))
	for i := range 10000 {
		row := fmt.Sprintf("%06d\tobservation\t2020-01-01 00:00:00+00\t%064x\n", i, r.Uint64())
		base = append(base, row...)
		if i%100 != 7 {
			target = append(target, row...)
		}
	}
	var e delta.Encoder
	d := e.Encode(nil, base, target)
	if len(d) > 2000 {
		t.Errorf("a delta of %d bytes for 100 deletions", len(d))
	}
	if got, err := delta.Apply(nil, base, d, len(target)); err != nil || !bytes.Equal(got, target) {
		t.Errorf("it makes something else: %v", err)
	}
}
