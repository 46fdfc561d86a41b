package store

import (
	"bytes"
	"testing"

	"lukechampine.com/blake3"
)

// changed is a text with a change in every fifth page or so.
func changed(b []byte, round byte) []byte {
	b = bytes.Clone(b)
	for at := 50; at < len(b); at += 17_000 {
		b[at] ^= round
	}
	return b
}

func BenchmarkHash(b *testing.B) {
	data := text(8<<20, 1)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		blake3.Sum256(data)
	}
}

func BenchmarkSum(b *testing.B) {
	data := text(8<<20, 1)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		for at := 0; at < len(data); at += imageSegment {
			sum(data[at:at+imageSegment], int64(at))
		}
	}
}

func BenchmarkSaveOfFewChanges(b *testing.B) {
	s := open(b, b.TempDir())
	data := text(15<<20, 1)
	must(s.Save(b.Context(), ref, "m", "manual", image(data)))(b)
	b.SetBytes(int64(len(data)))
	round := byte(1)
	for b.Loop() {
		round++
		must(s.Save(b.Context(), ref, "m", "manual", image(changed(data, round))))(b)
	}
}
