package history_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"orrery/clip/find"
	"orrery/clip/history"
)

var syllables = []string{"ba", "ter", "lo", "mi", "ran", "kes", "https://", "go ", "fun", "c(", ") ", "err ", "nil", ".com/", "12", "xy "}

// fill adds n lines of 65 bytes in the mean.
func fill(b *testing.B, h *history.History, n int) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range n {
		s := fmt.Sprint(i, " ")
		for range 10 + r.IntN(20) {
			s += syllables[r.IntN(len(syllables))]
		}
		if _, _, err := h.Add(text(s)); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkHistory prints what the figures of bench/clip rest on, with 100,000 items.
func BenchmarkHistory(b *testing.B) {
	dir := b.TempDir()
	h, err := history.Open(history.Config{Directory: dir})
	if err != nil {
		b.Fatal(err)
	}
	fill(b, h, 100_000)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	b.Logf("heap %d kB", m.HeapAlloc>>10)
	b.Run("list", func(b *testing.B) {
		for range b.N {
			n := 0
			for s := range h.All() {
				n += len(s.Preview)
			}
		}
	})
	for _, c := range []struct {
		mode find.Mode
		text string
	}{{find.Words, "ter"}, {find.Words, "terkesba"}, {find.Words, "nohit"}, {find.Fuzzy, "trkbx"}, {find.Fuzzy, "goerr"}, {find.Pattern, "ter.*kes[0-9]"}, {find.Pattern, "[0-9]{3}b.t"}} {
		b.Run(string(c.mode)+"/"+c.text, func(b *testing.B) {
			q, err := find.Parse(c.text, c.mode, time.Now())
			if err != nil {
				b.Fatal(err)
			}
			n := 0
			for range b.N {
				found, err := h.Search(b.Context(), q, 50)
				if err != nil {
					b.Fatal(err)
				}
				n = len(found)
			}
			b.ReportMetric(float64(n), "found")
		})
	}
	if err := h.Close(); err != nil {
		b.Fatal(err)
	}
	b.Run("open", func(b *testing.B) {
		for range b.N {
			h, err := history.Open(history.Config{Directory: dir})
			if err != nil {
				b.Fatal(err)
			}
			if err := h.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
