package store

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"orrery/state"
)

func all(t tester, s *Store) []state.Generation {
	t.Helper()
	return must(s.Generations(t.Context(), ref))(t)
}

func TestCopyMovesWhatIsLacking(t *testing.T) {
	from, to := open(t, t.TempDir()), open(t, t.TempDir())
	b := text(5<<20, 1)
	var saved [][]byte
	for round := range byte(4) {
		b = changed(b, round+1)
		must(from.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
		saved = append(saved, b)
	}
	history := all(t, from)
	newest := history[3:]
	first := must(to.Copy(t.Context(), from, newest, nil))(t)
	if len(first.Generations) != 1 || first.Generations[0].Number != 4 {
		t.Fatalf("%+v", first.Generations)
	}
	check(t, to, saved[3])
	rest := must(to.Copy(t.Context(), from, history, nil))(t)
	if len(rest.Generations) != 3 || rest.Bytes > 200_000 {
		t.Fatalf("%d generations, %d bytes", len(rest.Generations), rest.Bytes)
	}
	for i, g := range all(t, to) {
		if g.Number != uint64(i+1) || !g.Time.Equal(history[i].Time) || g.Snapshot != history[i].Snapshot {
			t.Fatalf("%d: %+v", i, g)
		}
		check(t, to, saved[i])
	}
	if again := must(to.Copy(t.Context(), from, history, nil))(t); again.Objects+len(again.Generations) > 0 {
		t.Fatalf("%+v", again)
	}
	if g := must(to.Save(t.Context(), ref, "m", "manual", stream(changed(b, 9))))(t); g.Number != 5 {
		t.Fatalf("number %d", g.Number)
	}
	if _, err := to.Copy(t.Context(), to, history, nil); !errors.Is(err, state.ErrBadProperty) {
		t.Fatal(err)
	}
}

// What a segment that is there was once made from is not moved.
func TestCopyLeavesBasesOfWhatIsThere(t *testing.T) {
	from, to := open(t, t.TempDir()), open(t, t.TempDir())
	first, second := text(3<<20, 1), changed(text(3<<20, 1), 1)
	must(from.Save(t.Context(), ref, "m", "manual", image(first)))(t)
	must(from.Save(t.Context(), ref, "m", "manual", image(second)))(t)
	must(to.Save(t.Context(), state.Ref{Container: "c", Component: "other"}, "m", "manual", image(second)))(t)
	moved := must(to.Copy(t.Context(), from, all(t, from)[1:], nil))(t)
	if moved.Objects != 0 || len(moved.Generations) != 1 {
		t.Fatalf("%+v", moved)
	}
	check(t, to, second)
}

func TestExportLeavesBasesOfWhatIsThere(t *testing.T) {
	from, to := open(t, t.TempDir()), open(t, t.TempDir())
	first, second := text(3<<20, 1), changed(text(3<<20, 1), 1)
	must(from.Save(t.Context(), ref, "m", "manual", image(first)))(t)
	must(from.Save(t.Context(), ref, "m", "manual", image(second)))(t)
	copy(first, "other") // in the first segment alone
	third := changed(first, 2)
	copy(third[1<<20:], second[1<<20:])
	must(from.Save(t.Context(), ref, "m", "manual", image(third)))(t)
	must(to.Save(t.Context(), state.Ref{Container: "c", Component: "other"}, "m", "manual", image(second)))(t)
	missing := must(to.Missing(t.Context(), must(from.Objects(t.Context(), id(third)))(t)))(t)
	needed := must(from.Needed(t.Context(), missing))(t)
	if len(missing) < 5 || len(needed) >= len(missing) {
		t.Fatalf("%d missing, %d needed", len(missing), len(needed))
	}
	var wire bytes.Buffer
	must(true, from.Export(t.Context(), needed, &wire))(t)
	must(true, to.Import(t.Context(), &wire))(t)
	must(to.Adopt(t.Context(), ref, "move", id(third)))(t)
	check(t, to, third)
	if got := must(from.Needed(t.Context(), missing[:1]))(t); len(got) != 1 {
		t.Fatal(got)
	}
}

// Histories of two machines meet in one store without losing anything.
func TestCopyOfTwoMachines(t *testing.T) {
	one, two, to := open(t, t.TempDir()), open(t, t.TempDir()), open(t, t.TempDir())
	for i := range 3 {
		must(one.Save(t.Context(), ref, "m", fmt.Sprint("one", i), stream(text(1000, uint64(i)))))(t)
		must(two.Save(t.Context(), ref, "m", fmt.Sprint("two", i), stream(text(1000, uint64(i+10)))))(t)
	}
	for _, s := range []*Store{one, two, one} {
		must(to.Copy(t.Context(), s, all(t, s), nil))(t)
	}
	var reasons []string
	for i, g := range all(t, to) {
		reasons = append(reasons, g.Reason)
		if i > 0 && g.Number <= all(t, to)[i-1].Number {
			t.Fatal("numbers do not rise")
		}
	}
	if slices.Sort(reasons); len(reasons) != 6 || len(slices.Compact(reasons)) != 6 {
		t.Fatal(reasons)
	}
}

// Each operation on files may fail in a copy: then what was there is there, and the next one finishes it.
func TestEachFailingOperationOfCopy(t *testing.T) {
	for _, encrypted = range []bool{false, true} {
		from, before := open(t, t.TempDir()), t.TempDir()
		first, second := text(300_000, 1), text(300_000, 2)
		must(open(t, before).Save(t.Context(), ref, "m", "there", stream(first)))(t)
		must(from.Save(t.Context(), ref, "m", "moved", stream(second)))(t)
		for n := rand.IntN(failStride); ; n += failStride {
			dir := filepath.Join(t.TempDir(), "store")
			copyFolder(t, dir, before)
			f := &failing{left: -1, unsynced: map[string]bool{}}
			s := openWith(t, dir, Options{files: f})
			f.left = n
			_, err := s.Copy(t.Context(), from, all(t, from), nil)
			if err == nil {
				if n < 5 {
					t.Fatalf("a copy took %d operations", n)
				}
				break
			}
			if !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
			f.left = -1
			f.crash(t)
			again := open(t, dir)
			check(t, again, first)
			must(again.Copy(t.Context(), from, all(t, from), nil))(t)
			check(t, again, first)
			check(t, again, second)
		}
	}
	encrypted = false
}

// A copy of what is damaged keeps nothing of it, and one of what is lost says so.
func TestCopyOfWhatIsDamaged(t *testing.T) {
	from := open(t, t.TempDir())
	must(from.Save(t.Context(), ref, "m", "manual", stream(text(200_000, 1))))(t)
	name := must(filepath.Glob(filepath.Join(from.packs(), "*")))(t)[0]
	good := must(os.ReadFile(name))(t)
	failed := 0
	for at := 0; at < len(good); at += len(good) / 50 {
		bad := bytes.Clone(good)
		bad[at] ^= 1
		must(true, os.WriteFile(name, bad, 0o600))(t)
		from.known, from.sound = nil, nil
		to := open(t, t.TempDir())
		_, err := to.Copy(t.Context(), from, all(t, from), nil)
		if err == nil { // the beginning of a pack and its index can be done without
			check(t, to, text(200_000, 1))
			continue
		}
		if !errors.Is(err, state.ErrCorrupt) {
			t.Fatalf("byte %d: %v", at, err)
		}
		failed++
		if len(all(t, to)) > 0 {
			t.Fatal("adopted")
		}
	}
	if failed < 30 {
		t.Fatalf("%d copies of what is damaged were refused", failed)
	}
}
