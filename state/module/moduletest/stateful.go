package moduletest

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"orrery/state"
)

var errInjected = errors.New("injected")

// A harness whose module has an ability.
type (
	statefulHarness struct {
		Harness
		m state.Stateful
	}
	forkerHarness struct {
		Harness
		f state.Forker
	}
	trackableHarness struct {
		Harness
		m state.Trackable
	}
	stagerHarness struct {
		Harness
		m state.Stager
	}
)

func (h Harness) stateful(t *testing.T, m state.Stateful) {
	t.Helper()
	s := statefulHarness{h, m}
	t.Run("SnapshotRepeats", s.snapshotRepeats)
	t.Run("RestoreBringsBack", s.restoreBringsBack)
	t.Run("RestoreElsewhere", s.restoreElsewhere)
	t.Run("RestoreInactive", s.restoreInactive)
	t.Run("FailingReader", s.failingReader)
	t.Run("BadSnapshot", s.badSnapshot)
	t.Run("FailingWriter", s.failingWriter)
	t.Run("CollectGarbage", s.collectGarbage)
	if f, ok := m.(state.Finder); ok {
		t.Run("Exists", func(t *testing.T) { s.exists(t, f) })
	}
	if q, ok := m.(state.Quiescer); ok {
		t.Run("Quiesce", func(t *testing.T) { s.quiesce(t, q) })
	}
	if f, ok := m.(state.Forker); ok {
		t.Run("Fork", forkerHarness{h, f}.fork)
	}
	if r, ok := m.(state.Replicator); ok && h.Replicas != nil {
		t.Run("Replicate", replicatorHarness{h, r}.replicate)
	}
	if m, ok := m.(state.Trackable); ok {
		t.Run("Track", trackableHarness{h, m}.track)
	}
	if m, ok := m.(state.Stager); ok {
		t.Run("Stage", stagerHarness{h, m}.stage)
	}
}

func (h Harness) snapshot(t *testing.T, m state.Stateful, target state.Target) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := m.Snapshot(t.Context(), target, &b); err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	return b.Bytes()
}

func (h Harness) restore(t *testing.T, m state.Stateful, target state.Target, snapshot []byte) {
	t.Helper()
	if err := m.Restore(t.Context(), target, bytes.NewReader(snapshot)); err != nil {
		t.Fatalf("restore: %v", err)
	}
}

func (h statefulHarness) snapshotRepeats(t *testing.T) {
	target := h.active(t, "snapshot-repeats")
	h.Change(t, target, 1)
	first := h.snapshot(t, h.m, target)
	if !bytes.Equal(h.snapshot(t, h.m, target), first) {
		t.Error("two snapshots of the same state differ")
	}
	h.deactivate(t, target)
	if !bytes.Equal(h.snapshot(t, h.m, target), first) {
		t.Error("the snapshot of the inactive component differs")
	}
	h.activate(t, target)
	h.Change(t, target, 2)
	if bytes.Equal(h.snapshot(t, h.m, target), first) {
		t.Error("snapshots of different states are the same")
	}
}

func (h statefulHarness) restoreBringsBack(t *testing.T) {
	target := h.active(t, "restore-brings-back")
	h.Change(t, target, 1)
	before, snapshot := h.Digest(t, target), h.snapshot(t, h.m, target)
	h.Change(t, target, 2)
	if h.Digest(t, target) == before {
		t.Fatal("the harness did not change the state")
	}
	// Slow readers yield a byte at a time.
	for range 2 {
		if err := h.m.Restore(t.Context(), target, iotest.OneByteReader(bytes.NewReader(snapshot))); err != nil {
			t.Fatal(err)
		}
		if h.Digest(t, target) != before {
			t.Error("the state after the restore is not that of the snapshot")
		}
	}
	if !bytes.Equal(h.snapshot(t, h.m, target), snapshot) {
		t.Error("the snapshot of the restored state differs from the one restored")
	}
	h.Change(t, target, 3) // it still serves
}

func (h statefulHarness) restoreElsewhere(t *testing.T) {
	source := h.active(t, "restore-source")
	h.Change(t, source, 1)
	other := h.NewTarget(t, "restore-elsewhere")
	h.restore(t, h.m, other, h.snapshot(t, h.m, source))
	h.activate(t, other)
	if h.Digest(t, other) != h.Digest(t, source) {
		t.Error("the state restored elsewhere differs")
	}
	h.deactivate(t, other)
}

func (h statefulHarness) restoreInactive(t *testing.T) {
	target := h.active(t, "restore-inactive")
	h.Change(t, target, 1)
	before, snapshot := h.Digest(t, target), h.snapshot(t, h.m, target)
	h.Change(t, target, 2)
	h.deactivate(t, target)
	h.restore(t, h.m, target, snapshot)
	h.activate(t, target)
	if h.Digest(t, target) != before {
		t.Error("the state after the restore is not that of the snapshot")
	}
}

// failingReader breaks off restores at several places; the old state stays each time.
func (h statefulHarness) failingReader(t *testing.T) {
	target := h.active(t, "failing-reader")
	h.Change(t, target, 1)
	snapshot := h.snapshot(t, h.m, target)
	h.Change(t, target, 2)
	before := h.Digest(t, target)
	for _, at := range []int{0, 1, len(snapshot) / 2, len(snapshot) - 1, len(snapshot)} {
		r := io.MultiReader(bytes.NewReader(snapshot[:at]), iotest.ErrReader(errInjected))
		if err := h.m.Restore(t.Context(), target, r); !errors.Is(err, errInjected) {
			t.Errorf("reader that fails after %d of %d bytes: %v", at, len(snapshot), err)
		}
		if h.Digest(t, target) != before {
			t.Fatalf("a restore that failed after %d bytes changed the state", at)
		}
	}
}

// badSnapshot restores what is no snapshot, or only a part of one.
func (h statefulHarness) badSnapshot(t *testing.T) {
	target := h.active(t, "bad-snapshot")
	h.Change(t, target, 1)
	snapshot := h.snapshot(t, h.m, target)
	h.Change(t, target, 2)
	before := h.Digest(t, target)
	for name, bad := range map[string][]byte{
		"empty":         {},
		"half":          snapshot[:len(snapshot)/2],
		"one byte less": snapshot[:len(snapshot)-1],
		"garbage":       []byte(strings.Repeat("no snapshot of anything\n", 1000)),
		"zeros":         make([]byte, 8192),
	} {
		if err := h.m.Restore(t.Context(), target, bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: restored", name)
		}
		if h.Digest(t, target) != before {
			t.Fatalf("%s: the refused restore changed the state", name)
		}
	}
}

// failingWriter takes n bytes and fails then.
type failingWriter struct{ n int }

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, errInjected
	}
	return len(p), nil
}

func (h statefulHarness) failingWriter(t *testing.T) {
	target := h.active(t, "failing-writer")
	h.Change(t, target, 1)
	before, snapshot := h.Digest(t, target), h.snapshot(t, h.m, target)
	for _, at := range []int{0, 1, len(snapshot) / 2, len(snapshot) - 1} {
		if err := h.m.Snapshot(t.Context(), target, &failingWriter{at}); !errors.Is(err, errInjected) {
			t.Errorf("writer that fails after %d of %d bytes: %v", at, len(snapshot), err)
		}
	}
	if h.Digest(t, target) != before || !bytes.Equal(h.snapshot(t, h.m, target), snapshot) {
		t.Error("failed snapshots changed the state")
	}
}

func (h statefulHarness) collectGarbage(t *testing.T) {
	target := h.active(t, "collect-garbage")
	fresh := h.Digest(t, target)
	h.Change(t, target, 1)
	h.deactivate(t, target)
	for range 2 {
		if err := h.m.CollectGarbage(t.Context(), target); err != nil {
			t.Fatalf("collect garbage: %v", err)
		}
	}
	h.activate(t, target)
	if h.Digest(t, target) != fresh {
		t.Error("state survived its garbage collection")
	}
}

func (h statefulHarness) exists(t *testing.T, f state.Finder) {
	t.Helper()
	target := h.NewTarget(t, "exists")
	check := func(when string, want bool) {
		t.Helper()
		for range 2 {
			if got, err := f.Exists(t.Context(), target); err != nil || got != want {
				t.Errorf("%s: exists: %v, %v", when, got, err)
			}
		}
	}
	check("at first", false)
	h.activate(t, target)
	h.Change(t, target, 1)
	check("active", true)
	h.deactivate(t, target)
	check("inactive", true)
	if err := h.m.CollectGarbage(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	check("at the end", false)
}

// stillFor is how long a change is watched that must not be made meanwhile.
const stillFor = 100 * time.Millisecond

func (h statefulHarness) quiesce(t *testing.T, q state.Quiescer) {
	t.Helper()
	target := h.active(t, "still")
	h.Change(t, target, 1)
	before := h.snapshot(t, h.m, target)
	resume, err := q.Quiesce(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	changed := make(chan struct{})
	go func() {
		defer close(changed)
		h.Change(t, target, 2)
	}()
	select {
	case <-changed:
		t.Error("a client changed a component that is to be still")
	case <-time.After(stillFor):
	}
	if !bytes.Equal(h.snapshot(t, h.m, target), before) {
		t.Error("the snapshot of a component that is still has another state")
	}
	if err := resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-changed
	if bytes.Equal(h.snapshot(t, h.m, target), before) {
		t.Error("the change that waited was not made")
	}
}

func (h forkerHarness) fork(t *testing.T) {
	source := h.active(t, "fork-source")
	h.Change(t, source, 1)
	into := h.NewTarget(t, "fork-copy@blue")
	method, err := h.f.Fork(t.Context(), source, into)
	if err != nil || method == "" {
		t.Fatalf("method %q, %v", method, err)
	}
	h.activate(t, into)
	before := h.Digest(t, source)
	if h.Digest(t, into) != before {
		t.Error("the fork differs from its source")
	}
	h.Change(t, into, 2)
	if h.Digest(t, source) != before {
		t.Error("a change of the fork is seen in its source")
	}
	forked := h.Digest(t, into)
	h.Change(t, source, 3)
	if h.Digest(t, into) != forked {
		t.Error("a change of the source is seen in its fork")
	}
	h.deactivate(t, into)
}
