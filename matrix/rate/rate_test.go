package rate

import (
	"fmt"
	"testing"
	"time"
)

func TestLimiter(t *testing.T) {
	l := New(Limit{PerSecond: 2, Burst: 3})
	now := time.Unix(1000, 0)
	for i := range 3 {
		if wait := l.Take("a", now); wait != 0 {
			t.Errorf("%d: %v", i, wait)
		}
	}
	for range 2 { // what is refused does not count
		if wait := l.Take("a", now); wait != 500*time.Millisecond {
			t.Error(wait)
		}
	}
	if wait := l.Take("b", now); wait != 0 {
		t.Error(wait)
	}
	now = now.Add(500 * time.Millisecond)
	if first, second := l.Take("a", now), l.Take("a", now); first != 0 || second != 500*time.Millisecond {
		t.Error(first, second)
	}
	now = now.Add(time.Hour) // a pause is worth no more than the burst
	for range 3 {
		l.Take("a", now)
	}
	if wait := l.Take("a", now); wait == 0 {
		t.Error("a fourth one")
	}
	if wait := New(Limit{}).Take("a", now); wait != 0 {
		t.Error(wait)
	}
}

// TestBounded: however many names ask, few are kept, those that were heard of last among them.
func TestBounded(t *testing.T) {
	l := New(Limit{PerSecond: 1, Burst: 1})
	now := time.Unix(1000, 0)
	for i := range 5 * generation {
		l.Take(fmt.Sprint(i), now)
	}
	if n := len(l.new) + len(l.old); n > 2*generation {
		t.Errorf("%d names", n)
	}
	if l.Take(fmt.Sprint(5*generation-1), now) == 0 {
		t.Error("the last one is forgotten")
	}
}
