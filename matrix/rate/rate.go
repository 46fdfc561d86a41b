// Package rate says who asks too often. A Limiter knows, for each name, when its last request would have been answered had all come at the highest rate; it
// keeps a bounded number of names and forgets those that it heard of longest ago.
package rate

import (
	"sync"
	"time"
)

// Limit is how much one may do: so many a second, and after a pause that many at once. The zero value allows everything.
type Limit struct {
	PerSecond float64 `yaml:"per_second"`
	Burst     int     `yaml:"burst"`
}

// generation is how many names are in one of a limiter's two maps.
const generation = 20_000

// Limiter limits many names to one rate.
type Limiter struct {
	each, burst time.Duration // how long one takes, and how far ahead of time one may be

	mu       sync.Mutex
	new, old map[string]time.Time // when a name's requests are paid for
}

// New is a limiter; nil, which allows everything, for the zero rate.
func New(r Limit) *Limiter {
	if r.PerSecond <= 0 {
		return nil
	}
	each := time.Duration(float64(time.Second) / r.PerSecond)
	return &Limiter{each: each, burst: time.Duration(max(r.Burst, 1)-1) * each, new: map[string]time.Time{}}
}

// Take counts a request of a name, and is 0; or, if it comes too early, how long to wait. One that comes too early does not count.
func (l *Limiter) Take(name string, now time.Time) time.Duration {
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	paid, ok := l.new[name]
	if !ok {
		paid = l.old[name]
	}
	if paid.Before(now) {
		paid = now
	}
	if wait := paid.Sub(now) - l.burst; wait > 0 {
		return wait
	}
	if !ok && len(l.new) >= generation {
		l.old, l.new = l.new, map[string]time.Time{}
	}
	l.new[name] = paid.Add(l.each)
	return 0
}
