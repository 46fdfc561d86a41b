package store

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"orrery/state"
)

func numbers(all []state.Generation) (n []uint64) {
	for _, g := range all {
		n = append(n, g.Number)
	}
	return n
}

func labelled(b []byte, group string, tags ...string) state.Source {
	from := stream(b)
	from.Server, from.Group, from.Tags = "Server 1.2", group, tags
	return from
}

func TestWhatIsKeptWithAGeneration(t *testing.T) {
	s := open(t, t.TempDir())
	first, second := text(3000, 1), text(3000, 2)
	g := must(s.Save(t.Context(), ref, "m", "backup", labelled(first, "g1", "weekly", "a", "weekly")))(t)
	if g.Server != "Server 1.2" || g.Group != "g1" || !slices.Equal(g.Tags, []string{"a", "weekly"}) || g.Took < 0 {
		t.Fatalf("%+v", g)
	}
	again := must(s.Save(t.Context(), ref, "m", "backup", labelled(first, "", "b")))(t)
	if again.Number != 1 || !slices.Equal(again.Tags, []string{"a", "b", "weekly"}) {
		t.Fatalf("%+v", again)
	}
	if stored := must(s.Generations(t.Context(), ref))(t); !cmp.Equal(stored, []state.Generation{again}) {
		t.Fatal(cmp.Diff(stored, []state.Generation{again}))
	}
	other := must(s.Save(t.Context(), ref, "m", "backup", labelled(first, "g2")))(t)
	if other.Number != 2 || other.Snapshot != g.Snapshot || other.Stored != 0 {
		t.Fatalf("a generation of another group: %+v", other)
	}
	if g := must(s.Save(t.Context(), ref, "m", "backup", labelled(first, "g2")))(t); g.Number != 2 {
		t.Fatalf("%+v", g)
	}
	if _, err := s.Save(t.Context(), ref, "m", "backup", labelled(second, "", "a b")); !errors.Is(err, state.ErrBadProperty) {
		t.Fatal(err)
	}
}

func TestRelabel(t *testing.T) {
	s := open(t, t.TempDir())
	must(s.Save(t.Context(), ref, "m", "manual", stream(text(3000, 1))))(t)
	note, pinned, when := "before the upgrade", true, time.Date(2026, 11, 25, 10, 0, 0, 0, time.UTC)
	g := must(s.Relabel(t.Context(), ref, 1, state.Relabel{
		AddTags: []string{"b", "a"}, Note: &note, Pinned: &pinned, Verified: &when, Tested: &when,
	}))(t)
	want := state.Label{Tags: []string{"a", "b"}, Note: note, Pinned: true, Verified: when, Tested: when}
	if !cmp.Equal(g.Label, want) {
		t.Fatal(cmp.Diff(g.Label, want))
	}
	g = must(s.Relabel(t.Context(), ref, 1, state.Relabel{RemoveTags: []string{"a", "never"}, Pinned: new(bool)}))(t)
	want.Tags, want.Pinned = []string{"b"}, false
	if all := must(open(t, s.dir).Generations(t.Context(), ref))(t); !cmp.Equal(all[0].Label, want) || !cmp.Equal(all[0], g) {
		t.Fatal(cmp.Diff(all[0].Label, want))
	}
	if _, err := s.Relabel(t.Context(), ref, 2, state.Relabel{}); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := s.Relabel(t.Context(), ref, 1, state.Relabel{AddTags: []string{""}}); !errors.Is(err, state.ErrBadProperty) {
		t.Fatal(err)
	}
}

func TestForget(t *testing.T) {
	s := open(t, t.TempDir())
	contents := [][]byte{text(600_000, 1), text(600_000, 2), text(600_000, 3)}
	for _, b := range contents {
		must(s.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
	}
	pinned := true
	must(s.Relabel(t.Context(), ref, 2, state.Relabel{Pinned: &pinned}))(t)
	if _, err := s.Forget(t.Context(), ref, []uint64{3}, false); err == nil || !strings.Contains(err.Error(), "newest") {
		t.Fatal(err)
	}
	if _, err := s.Forget(t.Context(), ref, []uint64{1, 7}, false); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
	would := must(s.Forget(t.Context(), ref, []uint64{2}, true))(t)
	if len(would.Generations) != 1 || would.Bytes < 100_000 || len(must(s.Generations(t.Context(), ref))(t)) != 3 {
		t.Fatalf("%+v", would)
	}
	if did := must(s.Forget(t.Context(), ref, []uint64{2}, false))(t); did.Bytes != would.Bytes || did.Snapshots != 1 {
		t.Fatalf("would %+v, did %+v", would, did)
	}
	check(t, s, contents[0])
	check(t, s, contents[2])
	if _, err := s.Open(t.Context(), id(contents[1])); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
	must(s.Forget(t.Context(), ref, []uint64{1, 3}, false))(t)
	if g := must(s.Save(t.Context(), ref, "m", "manual", stream(contents[0])))(t); g.Number != 4 {
		t.Fatalf("number %d was used before", g.Number)
	}
}

func TestPruneKeepsPinnedAndTagged(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 5 {
		must(s.Save(t.Context(), ref, "m", "manual", labelled(text(3000, uint64(i)), "", "n"+string(rune('0'+i)))))(t)
	}
	pinned := true
	must(s.Relabel(t.Context(), ref, 2, state.Relabel{Pinned: &pinned}))(t)
	must(s.Prune(t.Context(), state.Ref{}, state.Retention{Tags: []string{"n2"}}, false))(t)
	if got := numbers(must(s.Generations(t.Context(), ref))(t)); !slices.Equal(got, []uint64{2, 3, 5}) {
		t.Fatalf("kept %v", got)
	}
	must(s.Prune(t.Context(), state.Ref{}, state.Retention{}, false))(t) // no rule keeps all
	if got := numbers(must(s.Generations(t.Context(), ref))(t)); len(got) != 3 {
		t.Fatalf("kept %v", got)
	}
	if _, err := s.Prune(t.Context(), state.Ref{}, state.Retention{Last: -1}, false); err == nil {
		t.Fatal("a negative number is accepted")
	}
}

// versionOne writes a component's history as the first version did.
func versionOne(t *testing.T, s *Store, r state.Ref) {
	t.Helper()
	h := must(s.history(r))(t)
	for i := range h.Generations {
		h.Generations[i].Label, h.Generations[i].Took = state.Label{}, 0
	}
	h.Version = 1
	b := must(json.Marshal(h))(t)
	must(true, os.WriteFile(s.historyFile(r), append(b, '\n'), 0o600))(t)
	must(true, os.Remove(s.historyCopy(r)))(t)
}

func TestHistoryOfVersionOneIsUpgraded(t *testing.T) {
	s := open(t, t.TempDir())
	must(s.Save(t.Context(), ref, "m", "manual", stream(text(3000, 1))))(t)
	must(s.Save(t.Context(), ref, "m", "manual", stream(text(3000, 2))))(t)
	versionOne(t, s, ref)
	if got := numbers(must(s.Generations(t.Context(), ref))(t)); !slices.Equal(got, []uint64{1, 2}) {
		t.Fatalf("%v", got)
	}
	must(s.Relabel(t.Context(), ref, 1, state.Relabel{AddTags: []string{"old"}}))(t)
	b := must(os.ReadFile(s.historyFile(ref)))(t)
	if !bytes.Contains(b, []byte(`"version":2`)) || bytes.Count(b, []byte("\n")) != 2 {
		t.Fatalf("not upgraded: %s", b)
	}
	if all := must(s.Generations(t.Context(), ref))(t); !slices.Equal(all[0].Tags, []string{"old"}) || len(all) != 2 {
		t.Fatalf("%+v", all)
	}
}

func TestNewerHistoryIsRefused(t *testing.T) {
	s := open(t, t.TempDir())
	must(s.Save(t.Context(), ref, "m", "manual", stream(text(3000, 1))))(t)
	line := []byte(`{"version":3,"next":1,"generations":null}`)
	content := append(line, "\n"+sum(line, free).String()+"\n"...)
	for _, name := range []string{s.historyFile(ref), s.historyCopy(ref)} {
		must(true, os.WriteFile(name, content, 0o600))(t)
	}
	_, err := s.Save(t.Context(), ref, "m", "manual", stream(text(3000, 2)))
	if err == nil || !strings.Contains(err.Error(), "version 3 is newer") {
		t.Fatal(err)
	}
	if got := must(os.ReadFile(s.historyFile(ref)))(t); !bytes.Equal(got, content) {
		t.Fatal("a newer file was changed")
	}
}

func TestDamagedHistoryIsReadFromItsCopy(t *testing.T) {
	for what, damage := range map[string]func(string) error{
		"removed":   os.Remove,
		"truncated": func(name string) error { return os.Truncate(name, 20) },
		"changed": func(name string) error {
			b, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			return os.WriteFile(name, bytes.Replace(b, []byte(`"manual"`), []byte(`"Manual"`), 1), 0o600)
		},
	} {
		t.Run(what, func(t *testing.T) {
			s := open(t, t.TempDir())
			must(s.Save(t.Context(), ref, "m", "manual", stream(text(3000, 1))))(t)
			must(true, damage(s.historyFile(ref)))(t)
			all := must(s.Generations(t.Context(), state.Ref{}))(t)
			if len(all) != 1 || all[0].Reason != "manual" {
				t.Fatalf("%+v", all)
			}
			must(s.Save(t.Context(), ref, "m", "manual", stream(text(3000, 2))))(t)
			if got := must(s.Generations(t.Context(), ref))(t); len(got) != 2 || got[1].Number <= got[0].Number {
				t.Fatalf("%+v", got)
			}
		})
	}
}

// Where any operation of relabel, forget and the upgrade of a history fails, or the process is killed at it, the
// generations are those before or those after, and every snapshot they name reads.
func TestEachFailingOperationOfCuration(t *testing.T) {
	before := t.TempDir()
	s := open(t, before)
	for i := range 4 {
		must(s.Save(t.Context(), ref, "m", "manual", stream(text(600_000+i*1000, uint64(i/2)))))(t)
	}
	upgraded := t.TempDir()
	copyFolder(t, filepath.Join(upgraded, "store"), before)
	versionOne(t, open(t, filepath.Join(upgraded, "store")), ref)
	note := "a note"
	for name, c := range map[string]struct {
		dir string
		do  func(*Store) error
	}{
		"relabel": {before, func(s *Store) error {
			_, err := s.Relabel(t.Context(), ref, 3, state.Relabel{Note: &note})
			return err
		}},
		"upgrade": {filepath.Join(upgraded, "store"), func(s *Store) error {
			_, err := s.Relabel(t.Context(), ref, 3, state.Relabel{Note: &note})
			return err
		}},
		"forget": {before, func(s *Store) error { _, err := s.Forget(t.Context(), ref, []uint64{1, 3}, false); return err }},
		"tags of a save": {before, func(s *Store) error {
			_, err := s.Save(t.Context(), ref, "m", "manual", labelled(text(600_000+3*1000, 1), "", "again"))
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) { eachFailure(t, c.dir, c.do) })
	}
}

func eachFailure(t *testing.T, before string, do func(*Store) error) {
	t.Helper()
	old := must(open(t, before).Generations(t.Context(), ref))(t)
	done := filepath.Join(t.TempDir(), "store")
	copyFolder(t, done, before)
	must(true, do(open(t, done)))(t)
	changed := must(open(t, done).Generations(t.Context(), ref))(t)
	for n := rand.IntN(failStride); ; n += failStride {
		dir := filepath.Join(t.TempDir(), "store")
		copyFolder(t, dir, before)
		f := &failing{left: -1, unsynced: map[string]bool{}}
		s := must(Open(t.Context(), dir, Options{files: f}))(t)
		f.left = n
		err := do(s)
		f.left = -1
		f.crash(t)
		again := open(t, dir)
		all := must(again.Generations(t.Context(), ref))(t)
		if !cmp.Equal(all, old) && !cmp.Equal(all, changed) {
			t.Fatalf("operation %d: %s", n, cmp.Diff(all, old))
		}
		for _, g := range all {
			if err := again.Verify(t.Context(), g.Snapshot); err != nil {
				t.Fatalf("operation %d: %v", n, err)
			}
		}
		if err == nil {
			if n < 3 {
				t.Fatalf("it took %d operations", n)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
}

func FuzzHistory(f *testing.F) {
	f.Add([]byte(`{"version":1,"next":2,"generations":[{"number":1}]}` + "\n"))
	b, _ := history{Next: 2, Generations: []state.Generation{{Number: 1}}}.encode()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decodeHistory(b)
		if err != nil {
			return
		}
		encoded, err := h.encode()
		if err != nil {
			return // a time that JSON cannot carry
		}
		if again, err := decodeHistory(encoded); err != nil || again.Next != h.Next {
			t.Fatalf("%+v: %v", again, err)
		}
	})
}
