package sim

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	seeds   = flag.Int("sim.seeds", perMode, "how many schedules of each mode")
	from    = flag.Uint64("sim.from", 1, "the first seed")
	one     = flag.Uint64("sim.seed", 0, "run this seed only, with a trace")
	oneMode = flag.String("sim.mode", "", "of this mode only")
	limit   = flag.Duration("sim.time", 0, "stop after this long; 0: not")
)

// TestSeeds runs schedules on the unbroken protocol.
func TestSeeds(t *testing.T) {
	if *one != 0 {
		mode := Mode(*oneMode)
		if mode == "" {
			mode = Mixed
		}
		if r := Run(Options{Seed: *one, Mode: mode, Trace: os.Stdout}); r.Fault != "" {
			t.Fatalf("%+v", r)
		}
		return
	}
	for _, mode := range append(Modes, Skewed, Splitting) {
		if *oneMode == "" || *oneMode == string(mode) {
			t.Run(string(mode), func(t *testing.T) { many(t, mode) })
		}
	}
}

func many(t *testing.T, mode Mode) {
	t.Helper()
	began := time.Now()
	var next, events, requests, done, undecided, epochs, stale atomic.Uint64
	next.Store(*from)
	var work sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for {
				seed := next.Add(1) - 1
				if seed >= *from+uint64(*seeds) || t.Failed() && done.Load() > 500 || *limit > 0 && time.Since(began) > *limit {
					return
				}
				r := Run(Options{Seed: seed, Mode: mode})
				done.Add(1)
				events.Add(uint64(r.Events))
				requests.Add(uint64(r.Requests))
				epochs.Add(r.Epochs)
				if r.Undecided {
					undecided.Add(1)
				}
				if r.Stale != "" {
					stale.Add(1)
				}
				if r.Fault != "" {
					t.Errorf("seed %d: %s\nreplay: %s", seed, r.Fault, replay(seed, mode))
				}
			}
		})
	}
	work.Wait()
	n := max(done.Load(), 1)
	t.Logf("%d schedules in %v: %d events, %d requests, %d epochs each; %d histories undecided, %d with stale reads", done.Load(), time.Since(began).Round(time.Millisecond), events.Load()/n, requests.Load()/n, epochs.Load()/n, undecided.Load(), stale.Load())
}

func replay(seed uint64, mode Mode) string {
	return fmt.Sprintf("go test ./fabric/chain/sim -run 'TestSeeds$' -sim.mode=%s -sim.seed=%d", mode, seed)
}
