package appservice

import "time"

// How long a service that cannot be reached is left in peace: after a failure, then after twice as long, at the most.
const (
	FirstWait = time.Second
	MostWait  = 5 * time.Minute
)

// Backoff is how long to wait before something is tried again. The zero one has seen no failure.
type Backoff struct{ last time.Duration }

// Fail is how long to wait after a further failure.
func (b *Backoff) Fail() time.Duration {
	b.last = min(max(2*b.last, FirstWait), MostWait)
	return b.last
}

// Reset forgets failures.
func (b *Backoff) Reset() { b.last = 0 }

// Failing says whether the last try failed.
func (b *Backoff) Failing() bool { return b.last != 0 }
