package store

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"orrery/state"
)

// unreadable are files of which some cannot be read.
type unreadable struct {
	files
	suffix string
	err    error
}

func (f unreadable) ReadFile(name string) ([]byte, error) {
	if f.suffix != "" && strings.HasSuffix(name, f.suffix) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: f.err}
	}
	return f.files.ReadFile(name)
}

// twoGenerations returns a store in which the copy of a history lacks what the history has.
func twoGenerations(t *testing.T) *Store {
	t.Helper()
	s := open(t, t.TempDir())
	must(s.Save(t.Context(), ref, "m", "manual", stream(text(100, 1))))(t)
	older := must(os.ReadFile(onDisk(t, s, s.historyCopy(ref))))(t)
	must(s.Save(t.Context(), ref, "m", "manual", stream(text(100, 2))))(t)
	must(true, os.WriteFile(onDisk(t, s, s.historyCopy(ref)), older, 0o600))(t)
	return s
}

// onDisk is the path of a file that may have a secret name.
func onDisk(t *testing.T, s *Store, name string) string {
	t.Helper()
	if hidden, ok := s.files.(*sealed); ok {
		return must(hidden.path(name))(t)
	}
	return name
}

// The copy of a history serves where the history is damaged or gone. Where it cannot be read just now, that is an error,
// and nothing is written over what it holds.
func TestHistoryThatCannotBeReadIsNotReplacedByItsCopy(t *testing.T) {
	s := twoGenerations(t)
	disk, before := s.files, must(os.ReadFile(onDisk(t, s, s.historyFile(ref))))(t)
	for _, failure := range []error{syscall.EACCES, syscall.EIO, syscall.EMFILE} {
		s.files = unreadable{disk, historySuffix, failure}
		if all, err := s.Generations(t.Context(), ref); !errors.Is(err, failure) {
			t.Fatalf("%d generations, %v", len(all), err)
		}
		if g, err := s.Save(t.Context(), ref, "m", "manual", stream(text(100, 3))); !errors.Is(err, failure) {
			t.Fatalf("generation %d, %v", g.Number, err)
		}
		if _, err := s.Prune(t.Context(), ref, state.Retention{Last: 1}, false); !errors.Is(err, failure) {
			t.Fatal(err)
		}
		if _, err := s.Audit(t.Context(), nil, false); !errors.Is(err, failure) {
			t.Fatal(err)
		}
		if _, err := s.Repair(t.Context(), true, false); !errors.Is(err, failure) {
			t.Fatal(err)
		}
	}
	s.files = disk
	if after := must(os.ReadFile(onDisk(t, s, s.historyFile(ref))))(t); !bytes.Equal(before, after) {
		t.Fatal("the history was written")
	}
	if all := must(s.Generations(t.Context(), ref))(t); len(all) != 2 {
		t.Fatalf("%+v", all)
	}
}

// With a history that is gone, a copy that cannot be read is an error, not a component without generations.
func TestCopyOfAHistoryThatCannotBeRead(t *testing.T) {
	s := twoGenerations(t)
	must(true, os.Remove(onDisk(t, s, s.historyFile(ref))))(t)
	disk := s.files
	s.files = unreadable{disk, historyCopy, syscall.EIO}
	if all, err := s.Generations(t.Context(), ref); !errors.Is(err, syscall.EIO) {
		t.Fatalf("%d generations, %v", len(all), err)
	}
	s.files = disk
	must(true, flip(func(n int) int { return n - 1 })(onDisk(t, s, s.historyCopy(ref))))(t)
	if all, err := s.Generations(t.Context(), ref); !errors.Is(err, state.ErrCorrupt) {
		t.Fatalf("%d generations, %v", len(all), err)
	}
	must(true, os.Remove(onDisk(t, s, s.historyCopy(ref))))(t)
	if all := must(s.Generations(t.Context(), ref))(t); len(all) != 0 {
		t.Fatalf("%+v", all)
	}
}
