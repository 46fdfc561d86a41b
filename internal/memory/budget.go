package memory

import (
	"context"
	"math"
	"runtime"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"golang.org/x/sync/semaphore"
)

// Budget bounds the memory of work that needs much of it for a moment, such as a picture that is decoded.
type Budget struct {
	size int64
	free *semaphore.Weighted
}

// NewBudget is a budget of so many bytes.
func NewBudget(size int64) *Budget { return &Budget{size, semaphore.NewWeighted(size)} }

// Size is how many bytes it is.
func (b *Budget) Size() int64 { return b.size }

// Take waits until so many bytes are free, and takes them until the function is called that it returns. Who wants more than there is gets all of it. What was
// much of the budget is collected before others get it: they would otherwise be there beside what is not used any more.
func (b *Budget) Take(ctx context.Context, bytes int64) (release func(), err error) {
	bytes = min(bytes, b.size)
	if err := b.free.Acquire(ctx, bytes); err != nil {
		return nil, err
	}
	return func() {
		if bytes > b.size/much {
			runtime.GC()
		}
		b.free.Release(bytes)
	}, nil
}

const (
	// much is the part of a budget, one of so many, above which what was taken is much.
	much = 4
	// share is the part of the memory that is for work of a moment, in percent: a server of 64 MB can hash a password or make a photo smaller.
	share = 40
	// enough is more than such work needs at a time, in bytes.
	enough = 256 << 20
)

// Share is how many bytes of the memory that this program may use are for work which needs much of it for a moment. It is asked before Tune, after which the
// collector has a bound that is only a part of the control group's.
func Share() int64 { return min(limit()/100*share, enough) }

// limit is how many bytes this program may use: by GOMEMLIMIT, or by its control group, or as many as the machine has.
func limit() int64 {
	if n := debug.SetMemoryLimit(-1); n < math.MaxInt64 {
		return n
	}
	n, err := memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)()
	if err != nil || n > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(n)
}
