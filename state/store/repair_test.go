package store

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"orrery/state"
)

// damagedStore is a store with everything that a store can have: aligned and cut snapshots, chains of deltas, several
// components, two copies of the same objects, a prune behind it.
func damagedStore(t *testing.T, dir string) (contents map[state.SnapshotID][]byte) {
	t.Helper()
	s := open(t, dir)
	other := state.Ref{Container: "files", Component: "docs"}
	contents = map[state.SnapshotID][]byte{}
	save := func(r state.Ref, from func([]byte) state.Source, b []byte) {
		g := must(s.Save(t.Context(), r, "m", "manual", from(b)))(t)
		contents[g.Snapshot] = bytes.Clone(b)
	}
	a, b := text(1_100_000, 1), text(200_000, 9)
	for i := range 4 {
		copy(a[i*300_000:], text(2000, uint64(70+i)))
		copy(b[i*40_000:], text(2000, uint64(80+i)))
		save(ref, image, a)
		save(other, stream, b)
	}
	for _, r := range []state.Ref{ref, other} {
		must(s.Prune(t.Context(), r, state.Retention{Last: 3}, false))(t)
	}
	save(state.Ref{Container: "files", Component: "tiny"}, stream, []byte("a few bytes"))
	kept := map[state.SnapshotID][]byte{}
	for _, g := range must(s.Generations(t.Context(), state.Ref{}))(t) {
		kept[g.Snapshot] = contents[g.Snapshot]
	}
	return kept
}

// readable are the snapshots that a fresh look at the folder yields, each with the right bytes.
func readable(t *testing.T, dir string, contents map[state.SnapshotID][]byte) []state.SnapshotID {
	t.Helper()
	s := open(t, dir)
	var ids []state.SnapshotID
	for id, want := range contents {
		r, err := s.Open(t.Context(), id)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(r)
			_ = r.Close()
		}
		if err == nil && !bytes.Equal(got, want) {
			t.Fatalf("snapshot %s reads as something else", id)
		}
		if err != nil && !errors.Is(err, state.ErrCorrupt) && !errors.Is(err, state.ErrNotFound) {
			t.Fatalf("snapshot %s: %v", id, err)
		}
		if err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

func lostIDs(a state.Audit) []state.SnapshotID {
	ids := []state.SnapshotID{}
	for _, l := range a.Lost {
		ids = append(ids, l.Snapshot)
	}
	slices.Sort(ids)
	return ids
}

func flip(at func(size int) int) func(string) error {
	return func(name string) error {
		b, err := os.ReadFile(name)
		if err != nil || len(b) == 0 {
			return err
		}
		b[at(len(b))] ^= 0x55
		return os.WriteFile(name, b, 0o600)
	}
}

func cutTo(length func(size int64) int64) func(string) error {
	return func(name string) error {
		info, err := os.Stat(name)
		if err != nil {
			return err
		}
		return os.Truncate(name, length(info.Size()))
	}
}

var damages = []struct {
	name string
	do   func(string) error
}{
	{"first byte", flip(func(int) int { return 0 })},
	{"middle", flip(func(n int) int { return n / 2 })},
	{"last byte", flip(func(n int) int { return n - 1 })},
	{"two thirds", flip(func(n int) int { return n * 2 / 3 })},
	{"emptied", cutTo(func(int64) int64 { return 0 })},
	{"halved", cutTo(func(n int64) int64 { return n / 2 })},
	{"one shorter", cutTo(func(n int64) int64 { return n - 1 })},
	{"removed", os.Remove},
}

// Whatever happens to any one file: an audit names the snapshots that cannot be read any more and only those, with
// the file where it is still there, and a repair leaves a store that is whole and has all others.
func TestAnyFileDamaged(t *testing.T) {
	before := filepath.Join(t.TempDir(), "store")
	contents := damagedStore(t, before)
	var names []string
	err := filepath.WalkDir(before, func(name string, d fs.DirEntry, err error) error {
		key := strings.HasPrefix(name, filepath.Join(before, "keys")) // nobody opens the store without it
		if err == nil && d.Type().IsRegular() && !key {
			names = append(names, must(filepath.Rel(before, name))(t))
		}
		return err
	})
	if err != nil || len(names) < 10 {
		t.Fatal(names, err)
	}
	skip := rand.IntN(damageStride)
	for i, how := range damages {
		for j, name := range names {
			info := must(os.Stat(filepath.Join(before, name)))(t)
			if info.Size() == 0 && how.name != "removed" || (i*len(names)+j+skip)%damageStride != 0 {
				continue
			}
			t.Run(name+" "+how.name, func(t *testing.T) {
				t.Parallel()
				dir := filepath.Join(t.TempDir(), "store")
				copyFolder(t, dir, before)
				must(true, how.do(filepath.Join(dir, name)))(t)
				afterDamage(t, dir, name, contents)
			})
		}
	}
}

func afterDamage(t *testing.T, dir, name string, contents map[state.SnapshotID][]byte) {
	t.Helper()
	intact := readable(t, dir, contents)
	s := open(t, dir)
	found := must(s.Audit(t.Context(), nil, true))(t)
	touched := lostIDs(found)
	var left []state.SnapshotID
	for id := range contents {
		if !slices.Contains(touched, id) {
			left = append(left, id)
		}
	}
	slices.Sort(left)
	if !slices.Equal(left, intact) {
		t.Fatalf("an audit finds %v whole, %v can be read", left, intact)
	}
	if !strings.HasPrefix(name, "packs/") && len(touched) > 0 {
		t.Fatalf("snapshots were lost: %+v", found)
	}
	if len(touched) > 0 {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil && !slices.ContainsFunc(found.Files, func(d state.Damage) bool { return d.File == name }) {
			t.Fatalf("the file is not named: %+v", found.Files)
		}
	}
	would := must(s.Repair(t.Context(), true, true))(t)
	if again := must(s.Audit(t.Context(), nil, true))(t); len(again.Files) != len(found.Files) || len(again.Lost) != len(found.Lost) {
		t.Fatal("a dry run changed something")
	}
	must(s.Repair(t.Context(), false, false))(t)
	half := must(open(t, dir).Audit(t.Context(), nil, true))(t)
	if !slices.Equal(lostIDs(half), touched) || len(half.Files) > 0 {
		t.Fatalf("after a repair that drops nothing: %+v", half)
	}
	did := must(s.Repair(t.Context(), true, false))(t)
	if len(did.Dropped) != len(would.Dropped) || len(did.Dropped) != len(touched) {
		t.Fatalf("dropped %d, would drop %d, lost are %d", len(did.Dropped), len(would.Dropped), len(touched))
	}
	whole := must(open(t, dir).Audit(t.Context(), nil, true))(t)
	if !whole.Whole() {
		t.Fatalf("a repaired store is not whole: %+v", whole)
	}
	if got := readable(t, dir, contents); !slices.Equal(got, intact) {
		t.Fatalf("after the repair %v can be read, before it %v", got, intact)
	}
	again := open(t, dir)
	for _, id := range touched {
		must(again.Save(t.Context(), ref, "m", "manual", image(contents[id])))(t)
		check(t, again, contents[id])
	}
	must(again.Prune(t.Context(), state.Ref{}, state.Retention{Last: 2}, false))(t)
	if a := must(again.Audit(t.Context(), nil, true))(t); !a.Whole() {
		t.Fatalf("after a prune: %+v", a)
	}
}

// A damaged object takes the snapshots with it that need it, whatever pack they are in, and no other.
func TestDamagedObjectTouchesWhatNeedsIt(t *testing.T) {
	before := filepath.Join(t.TempDir(), "store")
	contents := damagedStore(t, before)
	s := open(t, before)
	needs := map[digest]map[state.SnapshotID]bool{}
	c := must(s.catalog(t.Context()))(t)
	for id := range contents {
		m := must(c.manifest(id))(t)
		add := func(name digest) {
			if needs[name] == nil {
				needs[name] = map[state.SnapshotID]bool{}
			}
			needs[name][id] = true
		}
		add(manifestName(m.ID))
		must(true, c.walk(m, func(e *entry) { add(e.name) }))(t)
	}
	c.close()
	tried := 0
	for _, p := range c.packs {
		for i := range p.entries {
			e := &p.entries[i]
			if p.dies(i) || needs[e.name] == nil {
				continue
			}
			tried++
			dir := filepath.Join(t.TempDir(), "store")
			copyFolder(t, dir, before)
			must(true, flip(func(int) int { return int(e.offset + e.stored/2) })(filepath.Join(dir, "packs", p.name)))(t)
			got := lostIDs(must(open(t, dir).Audit(t.Context(), nil, true))(t))
			if want := slices.Sorted(maps.Keys(needs[e.name])); !slices.Equal(got, want) {
				t.Errorf("object %s: lost %v, it is needed by %v", e, got, want)
			}
			if cheap := must(open(t, dir).Audit(t.Context(), nil, false))(t); e.kind != kindManifest && !cheap.Whole() {
				t.Errorf("object %s: found without reading it: %+v", e, cheap)
			}
		}
	}
	if tried < 10 {
		t.Fatalf("%d objects", tried)
	}
}

// Where two packs have an object, the damage of one copy costs nothing.
func TestOtherCopyServes(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := text(1_500_000, 3)
	must(s.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
	packs := must(filepath.Glob(filepath.Join(dir, "packs", "*.pack")))(t)
	copied := filepath.Join(dir, "packs", "save-copy.pack")
	must(true, os.WriteFile(copied, must(os.ReadFile(packs[0]))(t), 0o600))(t)
	for at := 100; at < 300_000; at += 50_000 {
		must(true, flip(func(int) int { return at })(packs[0]))(t)
	}
	check(t, open(t, dir), b)
	a := must(open(t, dir).Audit(t.Context(), nil, true))(t)
	if len(a.Lost) > 0 {
		t.Fatalf("%+v", a)
	}
	did := must(s.Repair(t.Context(), false, false))(t)
	if len(did.Aside) != 1 || len(did.Lost) > 0 {
		t.Fatalf("%+v", did)
	}
	check(t, open(t, dir), b)
	if a := must(s.Audit(t.Context(), nil, true))(t); !a.Whole() {
		t.Fatalf("%+v", a)
	}
}

func TestAuditNotesWhatItVerified(t *testing.T) {
	s := open(t, t.TempDir())
	for i := range 2 {
		must(s.Save(t.Context(), ref, "m", "manual", stream(text(3000, uint64(i)))))(t)
	}
	a := must(s.Audit(t.Context(), nil, false))(t)
	if all := must(s.Generations(t.Context(), ref))(t); !a.Whole() || a.Bytes != 0 || a.Snapshots != 2 || !all[0].Verified.IsZero() {
		t.Fatalf("%+v, %+v", a, all)
	}
	a = must(s.Audit(t.Context(), []state.SnapshotID{id(text(3000, 1))}, true))(t)
	all := must(s.Generations(t.Context(), ref))(t)
	if a.Snapshots != 1 || a.Bytes != 3000 || !all[0].Verified.IsZero() || all[1].Verified.IsZero() {
		t.Fatalf("%+v, %+v", a, all)
	}
}

// The history and its copy are the same, in every kind of store.
func TestHistoryHasItsCopy(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	must(s.Save(t.Context(), ref, "m", "manual", stream(text(100, 1))))(t)
	h := must(s.readHistory(s.historyFile(ref), ref))(t)
	if c := must(s.readHistory(s.historyCopy(ref), ref))(t); c.Next != h.Next || len(c.Generations) != 1 {
		t.Fatalf("%+v", c)
	}
}

func TestEachFailingOperationOfRepair(t *testing.T) {
	before := filepath.Join(t.TempDir(), "store")
	contents := damagedStore(t, before)
	packs := must(filepath.Glob(filepath.Join(before, "packs", "*.pack")))(t)
	must(true, flip(func(n int) int { return n / 3 })(packs[0]))(t)
	histories := must(filepath.Glob(filepath.Join(before, "components", "*", "*"+historySuffix)))(t)
	must(true, flip(func(n int) int { return n / 3 })(histories[0]))(t)
	must(true, flip(func(n int) int { return n - 1 })(filepath.Join(before, "dead")))(t)
	intact := readable(t, before, contents)
	for n := rand.IntN(failStride); ; n += failStride {
		dir := filepath.Join(t.TempDir(), "store")
		copyFolder(t, dir, before)
		f := &failing{left: -1, unsynced: map[string]bool{}}
		s := openWith(t, dir, Options{files: f})
		f.left = n
		_, err := s.Repair(t.Context(), true, false)
		f.left = -1
		f.crash(t)
		if got := readable(t, dir, contents); !slices.Equal(got, intact) {
			t.Fatalf("operation %d: %v can be read, before %v", n, got, intact)
		}
		must(open(t, dir).Repair(t.Context(), true, false))(t)
		if a := must(open(t, dir).Audit(t.Context(), nil, true))(t); !a.Whole() {
			t.Fatalf("operation %d: %+v", n, a)
		}
		if err == nil {
			if n < 10 {
				t.Fatalf("a repair took %d operations", n)
			}
			return
		}
	}
}

// A history of which both files are damaged is moved aside only where what is lost may be dropped.
func TestLostHistoryIsMovedAside(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	damagedStore(t, dir)
	of := map[string]bool{}
	for _, ending := range []string{historySuffix, historyCopy} {
		files := must(filepath.Glob(filepath.Join(dir, "components", "*", "*"+ending)))(t)
		must(true, flip(func(n int) int { return n - 1 })(files[0]))(t)
		of[strings.TrimSuffix(files[0], ending)] = true
	}
	if len(of) != 1 {
		t.Fatalf("files of %d components were damaged", len(of))
	}
	found := must(open(t, dir).Audit(t.Context(), nil, false))(t)
	kept := must(open(t, dir).Repair(t.Context(), false, false))(t)
	if len(kept.Left) != 2 || len(kept.Aside) > 0 {
		t.Fatalf("%+v", kept)
	}
	if again := must(open(t, dir).Audit(t.Context(), nil, false))(t); len(found.Files) != 2 || len(again.Files) != 2 {
		t.Fatalf("%+v, then %+v", found, again)
	}
	did := must(open(t, dir).Repair(t.Context(), true, false))(t)
	left := must(filepath.Glob(filepath.Join(dir, "damaged", "*")))(t)
	if a := must(open(t, dir).Audit(t.Context(), nil, false))(t); !a.Whole() || len(did.Aside) != 2 || len(left) != 2 {
		t.Fatalf("%+v, %+v, %v", a, did, left)
	}
	for _, r := range []state.Ref{ref, {Container: "files", Component: "docs"}} {
		for _, name := range left {
			if encrypted && (strings.Contains(name, r.Container) || strings.Contains(name, r.Component)) {
				t.Fatalf("%s tells a name", name)
			}
		}
	}
}
