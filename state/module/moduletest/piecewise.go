package moduletest

import (
	"bytes"
	"io"
	"testing"

	"orrery/state"
)

// read returns an image's bytes and ranges, and closes it.
func read(t *testing.T, tracker state.Tracker) (content []byte, changed []state.Range, known bool) {
	t.Helper()
	image, err := tracker.Image(t.Context())
	if err != nil {
		t.Fatalf("image: %v", err)
	}
	content = make([]byte, image.Size())
	if n, err := image.ReadAt(content, 0); n != len(content) || err != nil && err != io.EOF { //nolint:errorlint // io.ReaderAt says so
		t.Fatalf("read %d of %d bytes: %v", n, len(content), err)
	}
	changed, known = image.Changed()
	if err := image.Close(); err != nil {
		t.Fatal(err)
	}
	return content, changed, known
}

// track compares images with snapshots, and says what changed with what did.
func (h trackableHarness) track(t *testing.T) {
	target := h.active(t, "track")
	h.Change(t, target, 1)
	tracker, err := h.m.Track(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	previous, _, _ := read(t, tracker)
	if !bytes.Equal(previous, h.snapshot(t, h.m, target)) {
		t.Error("the image is not the snapshot")
	}
	for n := range 4 {
		h.Change(t, target, n+2)
		content, changed, known := read(t, tracker)
		if !bytes.Equal(content, h.snapshot(t, h.m, target)) {
			t.Error("the image is not the snapshot")
		}
		if known {
			checkRanges(t, previous, content, changed)
		}
		previous = content
	}
	if _, changed, known := read(t, tracker); known {
		checkRanges(t, previous, previous, changed)
	}
	if err := tracker.Close(); err != nil {
		t.Error(err)
	}
	h.Change(t, target, 9) // nothing is held any more
}

// checkRanges finds a difference that no range covers, and ranges that are not in order.
func checkRanges(t *testing.T, before, after []byte, ranges []state.Range) {
	t.Helper()
	patched := make([]byte, len(after))
	copy(patched, before)
	var end int64
	for _, r := range ranges {
		if r.Offset < end || r.Length <= 0 || r.Offset+r.Length > int64(len(after)) {
			t.Errorf("range %+v after offset %d in %d bytes", r, end, len(after))
			return
		}
		end = r.Offset + r.Length
		copy(patched[r.Offset:end], after[r.Offset:end])
	}
	if !bytes.Equal(patched, after) {
		t.Error("something changed outside the ranges")
	}
}

// stage prepares a copy in pieces, with an interruption, and commits it over another state.
func (h stagerHarness) stage(t *testing.T) {
	source := h.active(t, "stage-source")
	h.Change(t, source, 1)
	want, snapshot := h.Digest(t, source), h.snapshot(t, h.m, source)
	target := h.active(t, "stage")
	h.Change(t, target, 5)
	before := h.Digest(t, target)
	h.deactivate(t, target)

	write(t, h.m, target, snapshot[:len(snapshot)/2], 0)
	h.activate(t, target)
	if h.Digest(t, target) != before {
		t.Error("a stage changed the state before its commit")
	}
	h.deactivate(t, target)
	stage := write(t, h.m, target, snapshot[len(snapshot)/2:], int64(len(snapshot)/2))
	got := make([]byte, len(snapshot))
	if _, err := stage.ReadAt(got, 0); err != nil && err != io.EOF || !bytes.Equal(got, snapshot) { //nolint:errorlint // io.ReaderAt says so
		t.Fatalf("the stage is not what was written: %v", err)
	}
	if err := stage.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := stage.Close(); err != nil {
		t.Error(err)
	}
	h.activate(t, target)
	if h.Digest(t, target) != want {
		t.Error("the committed state is not what was staged")
	}
	h.discard(t, h.m, target)
}

// write opens a stage and writes a piece; it leaves the first piece for later.
func write(t *testing.T, m state.Stager, target state.Target, piece []byte, offset int64) state.Stage {
	t.Helper()
	stage, err := m.NewStage(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if err := stage.Truncate(offset + int64(len(piece))); err != nil {
		t.Fatal(err)
	}
	if _, err := stage.WriteAt(piece, offset); err != nil {
		t.Fatal(err)
	}
	if err := stage.Sync(); err != nil {
		t.Fatal(err)
	}
	if size, err := stage.Size(); err != nil || size != offset+int64(len(piece)) {
		t.Fatalf("size %d, %v", size, err)
	}
	if offset == 0 {
		if err := stage.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return stage
}

// discard makes a stage and takes it back.
func (h Harness) discard(t *testing.T, m state.Stager, target state.Target) {
	t.Helper()
	before := h.Digest(t, target)
	h.deactivate(t, target)
	stage, err := m.NewStage(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stage.WriteAt([]byte("piece"), 0); err != nil {
		t.Fatal(err)
	}
	if err := stage.Discard(); err != nil {
		t.Fatal(err)
	}
	stage, err = m.NewStage(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	if size, err := stage.Size(); err != nil || size != 0 {
		t.Errorf("after a discard: size %d, %v", size, err)
	}
	if err := stage.Discard(); err != nil {
		t.Fatal(err)
	}
	h.activate(t, target)
	if h.Digest(t, target) != before {
		t.Error("a discarded stage changed the state")
	}
}
