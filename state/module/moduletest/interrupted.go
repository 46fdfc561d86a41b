package moduletest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"

	"orrery/state"
)

// Interrupted calls off restores of a snapshot while they read it, at several places: each says so, and leaves the state before. After them it is
// restored whole. The snapshot is not of the target's present state.
func Interrupted(t *testing.T, m state.Stateful, target state.Target, snapshot []byte, digest func(*testing.T, state.Target) string) {
	t.Helper()
	before := digest(t, target)
	for _, at := range []int{0, len(snapshot) / 3, len(snapshot) * 2 / 3, len(snapshot) - 1} {
		ctx, cancel := context.WithCancel(t.Context())
		err := m.Restore(ctx, target, io.MultiReader(bytes.NewReader(snapshot[:at]), doing(cancel), bytes.NewReader(snapshot[at:])))
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("called off after %d of %d bytes: %v", at, len(snapshot), err)
		}
		if digest(t, target) != before {
			t.Errorf("called off after %d of %d bytes: the state is another", at, len(snapshot))
		}
	}
	if err := m.Restore(t.Context(), target, bytes.NewReader(snapshot)); err != nil {
		t.Fatal(err)
	}
	var again bytes.Buffer
	if err := m.Snapshot(t.Context(), target, &again); err != nil || !bytes.Equal(again.Bytes(), snapshot) {
		t.Errorf("restored after all: %v", err)
	}
}

// doing is a reader of nothing that does something when it is come to.
type doing func()

func (d doing) Read([]byte) (int, error) {
	d()
	return 0, io.EOF
}
