package keeper

import (
	"context"
	"sync"
	"testing"

	"orrery/state"
	"orrery/state/store"
)

// recording is a store that remembers what snapshots were taken from.
type recording struct {
	state.Store
	mu      sync.Mutex
	sources []state.Source
}

func newStore(t *testing.T) *recording {
	t.Helper()
	s, err := store.Open(t.Context(), t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return &recording{Store: s}
}

func (r *recording) Save(ctx context.Context, ref state.Ref, module, reason string, from state.Source) (state.Generation, error) {
	r.mu.Lock()
	r.sources = append(r.sources, from)
	r.mu.Unlock()
	return r.Store.Save(ctx, ref, module, reason, from)
}
