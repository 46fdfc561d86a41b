package sqlite

import (
	"bytes"
	"io"
	"slices"
	"strconv"
	"testing"

	"orrery/state"
)

const notesSchema = "CREATE TABLE note(id INTEGER PRIMARY KEY, text); CREATE INDEX note_text ON note(text);"

// Every snapshot that is taken while another process writes is sound, and holds every row
// acknowledged before it began and no row without the ones before it.
func TestSnapshotsWhileAnotherProcessWrites(t *testing.T) {
	for _, journal := range []string{"wal", "delete"} {
		t.Run(journal, func(t *testing.T) {
			m := New(nil)
			target := activate(t, m, notesSchema)
			target.Component.Properties["journal"] = journal
			if err := m.Activate(t.Context(), target); err != nil {
				t.Fatal(err)
			}
			command, out := start(t, "writer", path(target), journal)
			rows := follow(out)
			for range rounds(8, 40) {
				before := rows.atLeast(t, rows.atLeast(t, 1)+5)
				holds(t, snapshot(t, m, target), before)
			}
			if err := command.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			_ = command.Wait() // it was killed
			holds(t, snapshot(t, m, target), rows.last)
		})
	}
}

func holds(t *testing.T, snapshot []byte, atLeast int) {
	t.Helper()
	n, err := strconv.Atoi(intact(t, snapshot, "SELECT count(*) FROM note"))
	if err != nil || n < atLeast {
		t.Fatalf("snapshot holds %d rows, %d were acknowledged before it began (%v)", n, atLeast, err)
	}
	if last := intact(t, snapshot, "SELECT max(id) FROM note"); last != strconv.Itoa(n) {
		t.Fatalf("snapshot holds %d rows up to number %s", n, last)
	}
}

// What a tracker says changed is all that changed.
func TestTrackerWhileAnotherProcessWrites(t *testing.T) {
	m := New(nil)
	target := activate(t, m, notesSchema)
	command, out := start(t, "writer", path(target), "wal")
	rows := follow(out)
	rows.atLeast(t, 10)
	tracker, err := m.Track(t.Context(), target)
	if err != nil {
		t.Fatal(err)
	}
	var last []byte
	known := 0
	for i := range rounds(12, 60) {
		before := rows.atLeast(t, rows.atLeast(t, 1)+3)
		content, ok := follows(t, tracker, last)
		if ok {
			known++
		} else if i > 0 {
			t.Errorf("image %d does not know what changed", i)
		}
		holds(t, content, before)
		last = content
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // it was killed
	content, ok := follows(t, tracker, last)
	if !ok {
		t.Error("after the writer's death it is not known what changed")
	}
	if again, ok := follows(t, tracker, content); !ok || !bytes.Equal(content, again) {
		t.Error("without a writer something changed")
	}
	if err := tracker.Close(); err != nil {
		t.Fatal(err)
	}
	if len(m.files) != 0 {
		t.Errorf("descriptors left open: %v", m.files)
	}
}

// follows reads the tracker's next image whole and compares it with the last one, brought up to date by Changed.
func follows(t *testing.T, tracker state.Tracker, last []byte) (content []byte, ok bool) {
	t.Helper()
	image, err := tracker.Image(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	content, err = io.ReadAll(io.NewSectionReader(image, 0, image.Size()))
	if err != nil {
		t.Fatal(err)
	}
	ranges, ok := image.Changed()
	if ok {
		patched := append(slices.Clone(last), make([]byte, max(0, len(content)-len(last)))...)[:len(content)]
		end := int64(0)
		for _, r := range ranges {
			if r.Offset < end || r.Length <= 0 || r.Offset+r.Length > image.Size() {
				t.Fatalf("ranges are not sorted, disjoint and inside: %v", ranges)
			}
			end = r.Offset + r.Length
			copy(patched[r.Offset:end], content[r.Offset:end])
		}
		if !bytes.Equal(patched, content) {
			t.Fatalf("more changed than the %d ranges say", len(ranges))
		}
	}
	if err := image.Close(); err != nil {
		t.Fatal(err)
	}
	return content, ok
}

// A database that somebody has open is not pulled away under them.
func TestDatabaseInUse(t *testing.T) {
	m := New(nil)
	target := activate(t, m, notesSchema)
	first := snapshot(t, m, target)
	command, out := start(t, "writer", path(target), "wal")
	follow(out).atLeast(t, 3)
	if err := m.Restore(t.Context(), target, bytes.NewReader(first)); err == nil {
		t.Error("restored under a program that has the database open")
	} else {
		t.Log(err)
	}
	if err := m.CollectGarbage(t.Context(), target); err == nil {
		t.Error("collected under a program that has the database open")
	}
	if err := command.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = command.Wait() // it was killed
	if err := m.Restore(t.Context(), target, bytes.NewReader(first)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, snapshot(t, m, target)) {
		t.Error("the log of the killed writer got into the restored state")
	}
}
