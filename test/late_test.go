package test

import (
	"sync"
	"testing"
	"time"
)

// lateness is by how much a clock of this process rang too late, and so perhaps those of others on this machine: where that is much, they do not
// keep what they promise of times, and a test cannot say that they are wrong.
type lateness struct {
	mu   sync.Mutex
	late []late
}

type late struct {
	at time.Time
	by time.Duration
}

const (
	clockEvery = 50 * time.Millisecond
	clockOff   = clockEvery / 2   // is not worth a note
	patience   = 10 * time.Second // about as long as anybody is waited for
	tooLate    = 500 * time.Millisecond
)

// watchLateness rings until the test ends.
func watchLateness(t *testing.T) *lateness {
	t.Helper()
	l, done := &lateness{}, make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		tick := time.NewTicker(clockEvery)
		defer tick.Stop()
		for last := time.Now(); ; {
			select {
			case <-done:
				return
			case <-tick.C:
			}
			now := time.Now()
			if by := now.Sub(last) - clockEvery; by > clockOff {
				l.mu.Lock()
				l.late = append(l.late, late{now, by})
				l.mu.Unlock()
			}
			last = now
		}
	})
	t.Cleanup(func() { close(done); work.Wait() })
	return l
}

// worst is the longest of the last while.
func (l *lateness) worst(while time.Duration) (longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, one := range l.late {
		if time.Since(one.at) < while {
			longest = max(longest, one.by)
		}
	}
	return longest
}

// complain is t.Errorf for what only a machine that kept its clock must not do.
func (l *lateness) complain(t *testing.T, format string, args ...any) {
	t.Helper()
	if by := l.worst(patience); by > tooLate {
		t.Logf(format+" (a clock rang %v too late, so that may be right)", append(args, by)...)
		return
	}
	t.Errorf(format, args...)
}
