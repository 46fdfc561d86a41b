package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"orrery/state"
)

// failing are files whose n-th operation from now, and each one after it, fails as a full disk does. What was not
// synced is known, so that a crash can forget it.
type failing struct {
	osFiles
	mu       sync.Mutex
	left     int // operations before the failure; negative: none fails
	did      int
	unsynced map[string]bool
}

func (f *failing) step() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.did++
	if f.left--; f.left == -1 {
		f.left = 0
		return syscall.ENOSPC
	}
	return nil
}

func (f *failing) Create(name string) (file, error) {
	if err := f.step(); err != nil {
		return nil, err
	}
	opened, err := f.osFiles.Create(name)
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	f.unsynced[name] = true
	f.mu.Unlock()
	return &failingFile{opened, f, name}, nil
}

func (f *failing) Rename(from, to string) error {
	if err := f.step(); err != nil {
		return err
	}
	f.mu.Lock()
	if f.unsynced[from] {
		f.unsynced[to] = true
	}
	delete(f.unsynced, from)
	f.mu.Unlock()
	return f.osFiles.Rename(from, to)
}

func (f *failing) SyncDir(string) error {
	return f.step()
}

// crash empties every file that was not synced.
func (f *failing) crash(t *testing.T) {
	t.Helper()
	for name := range f.unsynced {
		if err := os.Truncate(name, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
}

type failingFile struct {
	file
	files *failing
	name  string
}

func (f *failingFile) Write(b []byte) (int, error) {
	if err := f.files.step(); err != nil {
		n, _ := f.file.Write(b[:len(b)/2])
		return n, err
	}
	return f.file.Write(b)
}

func (f *failingFile) Pace() error { return f.files.step() }

func (f *failingFile) Sync() error {
	if err := f.files.step(); err != nil {
		return err
	}
	f.files.mu.Lock()
	delete(f.files.unsynced, f.name)
	f.files.mu.Unlock()
	return nil // a real sync costs time and shows nothing here
}

func TestEachFailingOperationLeavesTheStateBefore(t *testing.T) {
	first, second := text(500_000, 1), text(500_000, 1)
	random := rand.NewChaCha8([32]byte{5})
	_, _ = random.Read(second[100_000:400_000]) // never fails; so much that it takes more than one write
	before := t.TempDir()
	must(open(t, before).Save(t.Context(), ref, "m", "manual", image(first)))(t)
	for n := rand.IntN(failStride); ; n += failStride {
		dir := filepath.Join(t.TempDir(), "store")
		copyFolder(t, dir, before)
		f := &failing{left: -1, unsynced: map[string]bool{}}
		s := openWith(t, dir, Options{files: f})
		f.left = n
		_, err := s.Save(t.Context(), ref, "m", "manual", image(second))
		if err == nil {
			if n < 5 {
				t.Fatalf("a save took %d operations", n)
			}
			return
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
		f.left = -1
		f.crash(t)
		again := open(t, dir)
		check(t, again, first)
		all := must(again.Generations(t.Context(), ref))(t)
		if last := len(all) - 1; last > 0 { // only the sync of the folder was missing
			check(t, again, second)
		}
		must(again.Prune(t.Context(), state.Ref{}, state.Retention{Last: 5}, false))(t)
		check(t, again, first)
		if left := must(os.ReadDir(again.temps()))(t); len(left) > 0 {
			t.Fatalf("operation %d left %v", n, left)
		}
		must(again.Save(t.Context(), ref, "m", "manual", image(second)))(t)
		check(t, again, second)
	}
}

func TestEachFailingOperationOfPrune(t *testing.T) {
	before := t.TempDir()
	s := open(t, before)
	var last []byte
	for i := range 4 {
		last = text(600_000+i*1000, uint64(i/2))
		must(s.Save(t.Context(), ref, "m", "manual", stream(last)))(t)
	}
	for n := rand.IntN(failStride); ; n += failStride {
		dir := filepath.Join(t.TempDir(), "store")
		copyFolder(t, dir, before)
		f := &failing{left: -1, unsynced: map[string]bool{}}
		s := openWith(t, dir, Options{files: f})
		f.left = n
		_, err := s.Prune(t.Context(), ref, state.Retention{Last: 1}, false)
		f.left = -1
		f.crash(t)
		again := open(t, dir)
		check(t, again, last)
		for _, g := range must(again.Generations(t.Context(), ref))(t) {
			if err := again.Verify(t.Context(), g.Snapshot); err != nil {
				t.Fatalf("operation %d: %v", n, err)
			}
		}
		must(again.Prune(t.Context(), ref, state.Retention{Last: 1}, false))(t)
		if u := must(again.Usage(t.Context()))(t); u.Snapshots != 1 {
			t.Fatalf("%d snapshots left", u.Snapshots)
		}
		check(t, again, last)
		if err == nil {
			return
		}
	}
}

func copyFolder(t *testing.T, to, from string) {
	t.Helper()
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// unsynced are files of which no folder can be made durable while broken is set.
type unsynced struct {
	hasty
	broken *bool
}

func (u unsynced) SyncDir(string) error {
	if *u.broken {
		return syscall.EIO
	}
	return nil
}

// Who repeats what failed at the very last step is not told that it is done before it is.
func TestRepeatedSaveIsDurable(t *testing.T) {
	broken := false
	s := openWith(t, t.TempDir(), Options{files: unsynced{broken: &broken}})
	first, second := text(2000, 1), text(2000, 2)
	must(s.Save(t.Context(), ref, "m", "manual", stream(first)))(t)
	broken = true
	for range 3 {
		if g, err := s.Save(t.Context(), ref, "m", "manual", stream(second)); !errors.Is(err, syscall.EIO) {
			t.Fatalf("%+v, %v", g, err)
		}
		if g, err := s.Adopt(t.Context(), ref, "move", id(first)); !errors.Is(err, syscall.EIO) {
			t.Fatalf("%+v, %v", g, err)
		}
	}
	broken = false
	must(s.Save(t.Context(), ref, "m", "manual", stream(second)))(t)
	check(t, s, second)
}

// A pack that is damaged or gone takes the snapshots with it that need it, and no later one.
func TestSavesAfterALostPack(t *testing.T) {
	for name, source := range map[string]func([]byte) state.Source{"stream": stream, "image": image} {
		for what, lose := range map[string]func(string) error{
			"removed": os.Remove,
			"damaged": func(name string) error { return os.Truncate(name, 1000) },
		} {
			t.Run(name+" "+what, func(t *testing.T) {
				s := open(t, t.TempDir())
				first := text(1<<20+5, 1)
				must(s.Save(t.Context(), ref, "m", "manual", source(first)))(t)
				packs := must(filepath.Glob(filepath.Join(s.packs(), "*")))(t)
				second := changed(first, 1)
				must(s.Save(t.Context(), ref, "m", "manual", source(second)))(t)
				if err := lose(packs[0]); err != nil {
					t.Fatal(err)
				}
				s.known = nil // as in another process
				s.sound = nil
				if err := s.Verify(t.Context(), id(second)); !errors.Is(err, state.ErrCorrupt) {
					t.Fatalf("what the lost pack held is not missing: %v", err)
				}
				g := must(s.Save(t.Context(), ref, "m", "manual", source(second)))(t)
				check(t, s, second)
				if all := must(s.Generations(t.Context(), ref))(t); g.Number != 2 || len(all) != 2 {
					t.Fatalf("generation %d of %d", g.Number, len(all))
				}
				third := changed(first, 2)
				must(s.Save(t.Context(), ref, "m", "manual", source(third)))(t)
				check(t, s, third)
				_, err := s.Prune(t.Context(), ref, state.Retention{Last: 2}, false)
				if what == "damaged" {
					if err == nil || !strings.Contains(err.Error(), packs[0]) || !strings.Contains(err.Error(), "snapshot repair") {
						t.Fatalf("prune: %v", err)
					}
					t.Log(err)
					must(true, os.Remove(packs[0]))(t)
					_, err = s.Prune(t.Context(), ref, state.Retention{Last: 2}, false)
				}
				must(true, err)(t)
				check(t, s, second)
				check(t, s, third)
			})
		}
	}
}

func TestPrunedSnapshotIsNotHalfThere(t *testing.T) {
	s := open(t, t.TempDir())
	a := text(2<<20, 1)
	b := bytes.Clone(a)
	copy(b, text(1<<20, 3))
	must(s.Save(t.Context(), ref, "m", "manual", image(a)))(t)
	must(s.Save(t.Context(), ref, "m", "manual", image(b)))(t)
	must(s.Prune(t.Context(), ref, state.Retention{Last: 1}, false))(t)
	if _, err := s.Get(t.Context(), id(a)); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
	must(s.Save(t.Context(), ref, "m", "manual", image(a)))(t)
	check(t, s, a)
	check(t, s, b)
}

func TestConcurrentUse(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	for i := range 4 {
		all.Go(func() {
			s := openWith(t, dir, Options{}) // as another process would
			for k := range 4 {
				r := state.Ref{Container: "c", Component: fmt.Sprint("n", i%2)}
				b := text(100_000+k*1000+i, uint64(i))
				g := must(s.Save(t.Context(), r, "m", "manual", stream(b)))(t)
				reader, err := s.Open(t.Context(), g.Snapshot)
				if errors.Is(err, state.ErrNotFound) {
					continue // pruned by another one
				}
				got := must(io.ReadAll(must(reader, err)(t)))(t)
				if !bytes.Equal(got, b) {
					t.Error("read something else")
				}
				_ = reader.Close()
				must(s.Prune(t.Context(), state.Ref{}, state.Retention{Last: 2}, false))(t)
			}
		})
	}
	all.Wait()
	s := open(t, dir)
	for _, g := range must(s.Generations(t.Context(), state.Ref{}))(t) {
		if err := s.Verify(t.Context(), g.Snapshot); err != nil {
			t.Fatal(err)
		}
	}
}

func TestNewerFormatAndBadNamesAreRefused(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	for _, r := range []state.Ref{{}, {Container: "..", Component: "x"}, {Container: "c", Component: "a/b"}} {
		if _, err := s.Save(t.Context(), r, "m", "manual", stream(nil)); !errors.Is(err, state.ErrBadProperty) {
			t.Fatalf("%v: %v", r, err)
		}
	}
	for _, bad := range []state.SnapshotID{"", "../../etc/passwd", state.SnapshotID(strings.Repeat("Z", 64))} {
		if _, err := s.Open(t.Context(), bad); !errors.Is(err, state.ErrNotFound) {
			t.Fatal(err)
		}
	}
	if _, err := s.Missing(t.Context(), []string{"s-../x"}); !errors.Is(err, state.ErrBadProperty) {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "version"), []byte("orrery snapshot store 3\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), dir, Options{}); err == nil || !strings.Contains(err.Error(), "store 3") {
		t.Fatal(err)
	}
}

func FuzzIndex(f *testing.F) {
	e := entry{kind: kindDelta, name: sum([]byte("x"), free), position: free, size: 3, stored: 3, bases: []digest{{1}}}
	f.Add(e.append([]byte{1}))
	f.Fuzz(func(_ *testing.T, b []byte) { _, _ = decodeEntries(b, 1<<20) })
}

func FuzzManifest(f *testing.F) {
	name := sum([]byte("x"), free)
	m := &manifest{ID: name, Size: 1, Layout: layoutContent, Segments: []digest{name}, ends: []int64{1}, keys: []uint64{0}}
	b, _ := m.encode()
	f.Add(b[:len(b)-32])
	f.Fuzz(func(t *testing.T, b []byte) {
		check := sum(b, free)
		m, err := decodeManifest(append(bytes.Clone(b), check[:]...))
		if err != nil {
			return
		}
		for at := int64(0); at < m.Size; at += 1 + m.Size/7 {
			if i := m.find(at); i >= len(m.Segments) {
				t.Fatalf("no segment at %d of %d", at, m.Size)
			}
		}
	})
}

func FuzzImport(f *testing.F) {
	s := open(f, f.TempDir())
	g := must(s.Save(f.Context(), ref, "m", "manual", stream([]byte("some content"))))(f)
	var wire bytes.Buffer
	if err := s.Export(f.Context(), must(s.Objects(f.Context(), g.Snapshot))(f), &wire); err != nil {
		f.Fatal(err)
	}
	f.Add(wire.Bytes())
	f.Add(wire.Bytes()[:wire.Len()-3])
	f.Fuzz(func(t *testing.T, b []byte) {
		to := must(Open(t.Context(), t.TempDir(), Options{files: &failing{left: -1, unsynced: map[string]bool{}}}))(t)
		_ = to.Import(t.Context(), bytes.NewReader(b))
	})
}
