package store

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"orrery/state"
)

// Where one copy of a segment is made from what was lost and another is not, the other is used and kept, whichever
// pack is listed first.
func TestCopyThatCanBeMadeIsKept(t *testing.T) {
	for _, order := range [][2]string{{"save-0.pack", "save-1.pack"}, {"save-1.pack", "save-0.pack"}} {
		dir := t.TempDir()
		s := open(t, dir)
		for i := range 2 { // without a list of dead objects, what cannot be made is dead anyhow
			must(s.Save(t.Context(), state.Ref{Container: "files", Component: "other"}, "m", "manual", image(text(1000, uint64(i+8)))))(t)
		}
		must(s.Prune(t.Context(), state.Ref{}, state.Retention{Last: 1}, false))(t)
		before := must(filepath.Glob(filepath.Join(dir, "packs", "*")))(t)
		added := func(content []byte) string {
			must(s.Save(t.Context(), ref, "m", "manual", image(content)))(t)
			now := must(filepath.Glob(filepath.Join(dir, "packs", "*")))(t)
			fresh := slices.DeleteFunc(slices.Clone(now), func(name string) bool { return slices.Contains(before, name) })
			before = now
			return fresh[0]
		}
		first := text(300_000, 1)
		second, third := bytes.Clone(first), bytes.Clone(first)
		copy(second[1000:], text(500, 2))
		copy(third[2000:], text(500, 3))
		lost, orphan := added(first), added(second)
		must(true, os.Remove(lost))(t)
		s = open(t, dir)
		added(third)
		again := added(second)
		for i, name := range []string{orphan, again} {
			must(true, os.Rename(name, filepath.Join(dir, "packs", order[i])))(t)
		}
		s = open(t, dir)
		if a := must(s.Audit(t.Context(), []state.SnapshotID{id(second), id(third)}, false))(t); !a.Whole() {
			t.Fatalf("%+v", a)
		}
		check(t, s, second)
		u := must(s.Usage(t.Context()))(t)
		must(s.Save(t.Context(), ref, "m", "manual", image(second)))(t)
		if now := must(s.Usage(t.Context()))(t); now.Stored != u.Stored {
			t.Fatalf("what can be read was stored again: %d bytes, then %d", u.Stored, now.Stored)
		}
		must(s.Prune(t.Context(), state.Ref{}, state.Retention{Last: 1}, false))(t)
		check(t, open(t, dir), second)
	}
}

// The copies that are to be used need each other in no circle.
func TestFoundedCopiesAreNoCircle(t *testing.T) {
	x, y, z := digest{1}, digest{2}, digest{3}
	one := &pack{name: "1", entries: []entry{{name: x, kind: kindDelta, depth: 2, bases: []digest{y}}}}
	two := &pack{name: "2", entries: []entry{{name: y, kind: kindDelta, depth: 4, bases: []digest{x}}, {name: z}}}
	three := &pack{name: "3", entries: []entry{{name: x, kind: kindDelta, depth: 3, bases: []digest{z}}}}
	made := founded([]*pack{one, two, three})
	if made[x] != three || made[y] != two || made[z] != two {
		t.Fatalf("%v", made)
	}
	if dead := orphans([]*pack{one, two, three}); len(dead) > 0 {
		t.Fatalf("%v", dead)
	}
	if dead := orphans([]*pack{one, two}); len(dead) != 2 || dead["1"][0] != 1 || dead["2"][0] != 1 {
		t.Fatalf("%v", dead)
	}
}
