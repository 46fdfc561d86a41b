package sim

import (
	"bytes"
	"testing"
)

var splits = []Mode{Splitting}

// TestReach sees to it that schedules reach what they are for.
func TestReach(t *testing.T) {
	reach(t, Modes,
		"hello", "link", "probe", "snapshot", "append", "ack", "query", "answer", "refused", "COPY", "INSTALL", "CRASH", "PAUSE", "SPLIT", "CUT", "APART", "DEAF", "BROKEN", "FAILED",
		"DARK", "TRAP", "KEEPER 5", "joins", "and serves", "all that served were gone", "moved from", "has run out", "has restarted", "is given up", ": busy", "outcome unknown",
		"LEAVE", "LOST", "ANEW", "have crashed", "begun anew by operator",
	)
	reach(t, splits, "PART", "COMPACTED", "split at", "is split off", "TRAP at point 7", "TRAP at point 8", "belongs to another chain", "moved from", "-> {Outcome:5")
}

func reach(t *testing.T, modes []Mode, what ...string) {
	t.Helper()
	missing := map[string]bool{}
	for _, s := range what {
		missing[s] = true
	}
	for seed := uint64(1); len(missing) > 0; seed++ {
		if seed > 400 {
			t.Fatalf("never in %d schedules: %v", seed, missing)
		}
		var trace bytes.Buffer
		Run(Options{Seed: seed, Mode: modes[seed%uint64(len(modes))], Trace: &trace})
		for s := range missing {
			if bytes.Contains(trace.Bytes(), []byte(s)) {
				delete(missing, s)
			}
		}
	}
}
