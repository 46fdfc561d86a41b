package keeper

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"orrery/state"
)

func TestLocksExclude(t *testing.T) {
	folder := t.TempDir()
	r := state.Ref{Container: "c", Component: "x"}
	// Two values are as two processes: flock is of the open file.
	both := []*locks{{folder: folder, held: map[state.Ref]*held{}}, {folder: folder, held: map[state.Ref]*held{}}}
	unlock, err := both[0].lock(t.Context(), r)
	check(t, err)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, l := range both {
		if _, err := l.lock(ended, r); !errors.Is(err, context.Canceled) {
			t.Errorf("lock that somebody holds: %v", err)
		}
	}
	if _, ok, err := both[0].try(t.Context(), r); ok || err != nil {
		t.Errorf("try: %t, %v", ok, err)
	}
	unlock()
	var wait sync.WaitGroup
	// Atomic because the race detector knows nothing of flock; that only one is inside is what is tested.
	var count, inside atomic.Int32
	for i := range 20 {
		wait.Go(func() {
			unlock, err := both[i%2].lockAll(t.Context(), []state.Ref{r, {Container: "c", Component: "y"}, r})
			if err != nil {
				t.Error(err)
				return
			}
			defer unlock()
			if inside.Add(1) != 1 {
				t.Error("two are inside")
			}
			count.Add(1)
			inside.Add(-1)
		})
	}
	wait.Wait()
	if count.Load() != 20 || len(both[0].held)+len(both[1].held) != 0 {
		t.Errorf("%d of 20, %d and %d locks left", count.Load(), len(both[0].held), len(both[1].held))
	}
}

func TestRecordOfAnotherVersion(t *testing.T) {
	folder := t.TempDir()
	m := open(t, folder, newStore(t))
	must(m.Activate(t.Context(), notes))(t)
	check(t, replaceFile(m.recordFile(notesRef), []byte("{\"version\": 2}")))
	if _, err := Open(Config{Directory: folder, Store: m.store}); err == nil || !strings.Contains(err.Error(), "version 2, this program knows 1") {
		t.Errorf("opened with a record of another version: %v", err)
	}
}
