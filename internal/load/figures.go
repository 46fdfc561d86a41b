package load

import (
	"math/bits"
	"time"
)

// Figures are what was measured.
type Figures struct {
	Took   time.Duration
	All    Histogram
	Each   [operations]Histogram // by Operation
	Errors int64
	Err    error // the first one of these
}

// Rate is how many operations a second were done.
func (f *Figures) Rate(h *Histogram) float64 { return float64(h.Count) / max(1e-9, f.Took.Seconds()) }

// Histogram counts durations in steps of about 3%.
type Histogram struct {
	Count   int64
	buckets [64 * 32]int64
}

func (h *Histogram) observe(d time.Duration) {
	h.Count++
	h.buckets[bucketOf(uint64(max(1, d)))]++ //nolint:gosec // positive
}

func bucketOf(n uint64) int {
	exponent := bits.Len64(n) - 1
	if exponent < 5 {
		return int(n) //nolint:gosec // small
	}
	return exponent*32 + int(n>>(exponent-5)&31) //nolint:gosec // small
}

func (h *Histogram) add(o *Histogram) {
	h.Count += o.Count
	for i, n := range o.buckets {
		h.buckets[i] += n
	}
}

// Quantile is a duration that a share of all did not exceed: 0.5 is the median, 1 the longest. 0 if there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	left := int64(q * float64(h.Count))
	last := time.Duration(0)
	for i, n := range h.buckets {
		if n == 0 {
			continue
		}
		last = time.Duration(i)
		if i >= 160 {
			last = time.Duration(uint64(32+i%32) << (i/32 - 5)) //nolint:gosec // small
		}
		if left -= n; left < 0 {
			return last
		}
	}
	return last
}
