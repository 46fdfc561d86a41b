package memory

import (
	"runtime"
	"testing"
	"time"
)

func TestPercentFor(t *testing.T) {
	for _, c := range []struct {
		since time.Duration
		live  uint64
		want  int
	}{
		{time.Second, 6 << 20, 200},
		{time.Second, 12 << 20, 100},
		{time.Second, 1 << 30, usual},
		{time.Minute, 8 << 20, usual},
		{time.Second, 0, usual},
	} {
		if got := percentFor(c.since, c.live); got != c.want {
			t.Errorf("%v after a collection, %d bytes in use: %d, not %d", c.since, c.live, got, c.want)
		}
	}
}

// TestTune: a program that allocates all the time collects its garbage a few times less often.
func TestTune(t *testing.T) {
	t.Setenv("GOGC", "")
	var kept []byte
	collections := func() uint32 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 1000 {
			kept = make([]byte, 1<<20)
		}
		runtime.ReadMemStats(&after)
		return after.NumGC - before.NumGC
	}
	usually := collections()
	Tune()
	collections()
	tuned := collections()
	if tuned*2 > usually {
		t.Errorf("%d collections, usually %d", tuned, usually)
	}
	_ = kept
}
