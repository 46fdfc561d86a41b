// Package memory keeps a server small that has little to do, lets one that is busy collect its garbage less often, and keeps both within what they may use: it knows
// the bound of the control group, and work that needs much memory for a moment waits until there is enough (Budget).
package memory

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

const (
	// busy is the time between two collections below which a program is busy.
	busy = 2 * time.Second
	// headroom is how much a busy program may allocate, at the least, before the next collection. Go's own rule is as much as is in use, which for a small
	// heap means a collection every few megabytes.
	headroom = 12 << 20
	usual    = 100 // percent of what is in use that may be allocated before the next collection, otherwise
)

// Tune lets the garbage collector run less often while the program is busy and its heap is small, from now on; where GOGC is set it leaves that alone. It takes
// no goroutine: each collection decides about the next one. In a control group that bounds its memory the program collects before that is used up, unless
// GOMEMLIMIT says otherwise.
func Tune() {
	if bound, err := memlimit.FromCgroup(); err == nil && os.Getenv("GOMEMLIMIT") == "" && bound < math.MaxInt64 {
		debug.SetMemoryLimit(within(int64(bound)))
	}
	if os.Getenv("GOGC") == "" {
		arm(time.Now(), usual)
	}
}

// within is how much of what a control group may use is for what the collector looks after. What SQLite keeps of its files is not of that, nor what the kernel
// keeps for the program.
func within(bound int64) int64 {
	const kernels, outside = 15, 16 << 20 // percent, bytes
	return max(bound/2, bound-bound/100*kernels-outside)
}

// arm waits for the next collection.
func arm(last time.Time, percent int) {
	type sentinel struct{ _ [16]byte } // not one of the tiny objects, which share their place
	runtime.AddCleanup(new(sentinel), func(struct{}) {
		now := time.Now()
		next := percentFor(now.Sub(last), live())
		if next != percent {
			debug.SetGCPercent(next)
		}
		arm(now, next)
	}, struct{}{})
}

// percentFor is how much may be allocated before the next collection, in percent of what is in use.
func percentFor(since time.Duration, live uint64) int {
	if since >= busy || live == 0 {
		return usual
	}
	return max(usual, int(headroom*usual/live))
}

// live is what of the heap was in use at the last collection, in bytes.
func live() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	if s[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return s[0].Value.Uint64()
}
