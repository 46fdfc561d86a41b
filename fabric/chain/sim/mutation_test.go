//go:build !race

package sim

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"orrery/fabric/chain/replica"
)

// enough schedules to find any broken rule, with a lot to spare.
const enough = 4000

// TestRules breaks one rule after the other, and finds a schedule in which that is seen.
func TestRules(t *testing.T) {
	for _, c := range []struct {
		name   string
		skip   replica.Rule
		broken Break
		modes  []Mode // nil: Modes
	}{
		{"clean reads", replica.RuleCleanReads, 0, nil},
		{"epochs", replica.RuleEpochs, 0, nil},
		{"durable", replica.RuleDurable, 0, nil},
		{"lease", replica.RuleLease, 0, nil},
		{"order", replica.RuleOrder, 0, nil},
		{"divergence", replica.RuleDivergence, 0, nil},
		{"join", replica.RuleJoin, 0, nil},
		{"tail floor", replica.RuleTailFloor, 0, nil},
		{"once", replica.RuleOnce, 0, nil},
		{"conditionals", replica.RuleConditionals, 0, nil},
		{"removal waits for the lease", 0, BreakWait, nil},
		{"a keeper's own node has a short lease", 0, BreakShort, nil},
		{"restart with one that served last", 0, BreakRestart, nil},
		{"who crashed has not ended in order", 0, BreakClean, nil},
		{"a line after a crash of all", 0, BreakLine, nil},
		{"epochs, where chains are split", replica.RuleEpochs, 0, splits},
		{"once, where chains are split", replica.RuleOnce, 0, splits},
		{"keys that are gone are not read", replica.RuleRange, 0, splits},
		{"keys that are gone are not written", replica.RuleScope, 0, splits},
		{"values that are gone do not count", 0, BreakGone, splits},
		{"who serves a part has it", 0, BreakBear, splits},
		{"a part is made behind the boundary", 0, BreakBoundary, splits},
		{"a part has the memory of clients", 0, BreakMemory, splits},
		{"a part has no memory of what came later", 0, BreakLater, splits},
		{"a watch ends at the boundary", 0, BreakHorizon, splits},
	} {
		if c.modes == nil {
			c.modes = Modes
		}
		t.Run(c.name, func(t *testing.T) {
			options := func(seed uint64) Options { return Options{Seed: seed, Mode: c.modes[seed%uint64(len(c.modes))]} }
			r, tried := search(func(seed uint64) Options {
				o := options(seed)
				o.Skip, o.Break = c.skip, c.broken
				return o
			}, func(seed uint64, r Report) bool { return r.Fault != "" && Run(options(seed)).Fault == "" })
			if r == "" {
				t.Fatalf("%d schedules, and none shows that the rule is broken", tried)
			}
			t.Logf("schedule %s", r)
		})
	}
}

// TestSkew shows what breaks with clocks beyond the assumption: a strong read is stale. TestSeeds shows that nothing else does.
func TestSkew(t *testing.T) {
	r, tried := search(func(seed uint64) Options { return Options{Seed: seed, Mode: Skewed} }, func(_ uint64, r Report) bool { return r.Stale != "" })
	if r == "" {
		t.Fatalf("%d schedules with clocks of any rate, and no read is stale", tried)
	}
	t.Logf("schedule %s", r)
}

// search runs schedules until one is found.
func search(options func(uint64) Options, found func(uint64, Report) bool) (which string, tried uint64) {
	var next atomic.Uint64
	var mu sync.Mutex
	var work sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for {
				seed := next.Add(1)
				mu.Lock()
				over := which != "" || seed > enough
				mu.Unlock()
				if over {
					return
				}
				if r := Run(options(seed)); found(seed, r) {
					mu.Lock()
					which = fmt.Sprintf("%d: %s%s", seed, r.Fault, r.Stale)
					mu.Unlock()
				}
			}
		})
	}
	work.Wait()
	return which, next.Load()
}

// TestSame runs schedules twice: they are functions of their seeds.
func TestSame(t *testing.T) {
	for seed := range uint64(6) {
		a, b := &digest{}, &digest{}
		Run(Options{Seed: seed, Mode: Mixed, Trace: a})
		Run(Options{Seed: seed, Mode: Mixed, Trace: b})
		if *a != *b {
			t.Fatalf("seed %d: two runs differ", seed)
		}
	}
}

// digest is a checksum of a trace.
type digest struct{ n, sum uint64 }

func (d *digest) Write(b []byte) (int, error) {
	for _, c := range b {
		d.sum = d.sum*1099511628211 + uint64(c)
	}
	d.n++
	return len(b), nil
}
