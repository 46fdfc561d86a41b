package store

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"sync"
	"testing"

	"lukechampine.com/blake3"
	"pgregory.net/rapid"

	"orrery/state"
)

// TestMain makes plain runs short: ORRERY_TEST_FULL=1 has the random tests do their usual number of rounds.
func TestMain(m *testing.M) {
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "rapid.checks" })
	if !given && os.Getenv("ORRERY_TEST_FULL") != "1" {
		if err := flag.Set("rapid.checks", "8"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

var ref = state.Ref{Container: "sqlite-database", Component: "notes@blue"}

type tester interface {
	Helper()
	Fatal(args ...any)
	Context() context.Context
	Fatalf(format string, args ...any)
}

func must[T any](v T, err error) func(tester) T {
	return func(t tester) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func open(t tester, dir string) *Store {
	t.Helper()
	return openWith(t, dir, Options{files: hasty{}})
}

// hasty are files that are never synced, which nobody notices without a crash.
type hasty struct{ osFiles }

func (h hasty) Create(name string) (file, error) {
	f, err := h.osFiles.Create(name)
	return hastyFile{f}, err
}
func (hasty) SyncDir(string) error { return nil }

type hastyFile struct{ file }

func (hastyFile) Sync() error { return nil }
func (hastyFile) Pace() error { return nil }

func stream(b []byte) state.Source {
	return state.Source{Write: func(w io.Writer) error {
		_, err := io.Copy(w, struct{ io.Reader }{bytes.NewReader(b)})
		return err
	}}
}

// memoryImage is an image in memory that counts what is read of it.
type memoryImage struct {
	*bytes.Reader
	changed []state.Range
	known   bool
	read    int
}

func (m *memoryImage) ReadAt(b []byte, at int64) (int, error) {
	m.read += len(b)
	return m.Reader.ReadAt(b, at)
}
func (m *memoryImage) Changed() ([]state.Range, bool) { return m.changed, m.known }
func (m *memoryImage) Close() error                   { return nil }

func image(b []byte) state.Source {
	return state.Source{Image: &memoryImage{Reader: bytes.NewReader(b)}}
}

func id(b []byte) state.SnapshotID {
	h := blake3.Sum256(b)
	return digest(h).id()
}

// corpus is what a dump looks like: lines with a random part.
var corpus = sync.OnceValue(func() []byte {
	const digits = "0123456789abcdef"
	r := rand.New(rand.NewPCG(7, 7))
	b := make([]byte, 0, 13<<20)
	for i := 0; len(b) < 13<<20-64; i++ {
		b = append(strconv.AppendInt(b, int64(i), 10), "\tname\t"...)
		for x, n := r.Uint64(), 0; n < 16; n++ {
			b = append(b, digits[x>>(4*n)&15])
		}
		b = append(b, '\n')
	}
	return b
})

// text returns a copy of a piece of the corpus.
func text(n int, seed uint64) []byte {
	all := corpus()
	at := int(seed * 999_983 % uint64(len(all)-n))
	return bytes.Clone(all[at : at+n])
}

func check(t tester, s *Store, want []byte) {
	t.Helper()
	r := must(s.Open(context.Background(), id(want)))(t)
	defer func() { _ = r.Close() }()
	if got := must(io.ReadAll(r))(t); !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes that are not the %d that were saved", len(got), len(want))
	}
	if len(want) > 10 {
		b := make([]byte, len(want)/2)
		if n, err := r.ReadAt(b, int64(len(want)/3)); err != nil || !bytes.Equal(b[:n], want[len(want)/3:][:len(b)]) {
			t.Fatalf("ReadAt: %d bytes, %v", n, err)
		}
	}
	if err := s.Verify(context.Background(), id(want)); err != nil {
		t.Fatal(err)
	}
}

func TestSizes(t *testing.T) {
	s := open(t, t.TempDir())
	for _, n := range []int{0, 1, 1023, 1024, 1025, 16384, 20000, 1 << 20, 1<<20 + 1, 2<<20 + 77777} {
		b := text(n, uint64(n))
		for name, from := range map[string]state.Source{"stream": stream(b), "image": image(b)} {
			r := state.Ref{Container: "c", Component: fmt.Sprint(name, n)}
			g := must(s.Save(t.Context(), r, "m", "manual", from))(t)
			if g.Snapshot != id(b) || g.Size != int64(n) || g.Number != 1 {
				t.Fatalf("%s of %d bytes: %+v", name, n, g)
			}
			check(t, s, b)
		}
	}
}

func TestSameStateAddsNothing(t *testing.T) {
	s := open(t, t.TempDir())
	b := text(3<<20, 1)
	first := must(s.Save(t.Context(), ref, "m", "backup", stream(b)))(t)
	before := must(s.Usage(t.Context()))(t)
	second := must(s.Save(t.Context(), ref, "m", "manual", image(b)))(t)
	if !reflect.DeepEqual(first, second) || before != must(s.Usage(t.Context()))(t) {
		t.Fatalf("%+v, then %+v", first, second)
	}
	other := state.Ref{Container: "c", Component: "other"}
	if g := must(s.Save(t.Context(), other, "m", "manual", stream(b)))(t); g.Stored != 0 || g.Number != 1 {
		t.Fatalf("the same state of another component: %+v", g)
	}
}

func TestSpreadChangesAreSmall(t *testing.T) {
	for name, source := range map[string]func([]byte) state.Source{"stream": stream, "image": image} {
		t.Run(name, func(t *testing.T) {
			s := open(t, t.TempDir())
			b := text(5<<20, 1)
			must(s.Save(t.Context(), ref, "m", "manual", source(b)))(t)
			for at := 20; at < len(b)-20; at += 6000 {
				copy(b[at:], fmt.Sprintf("%08x", at*7))
			}
			g := must(s.Save(t.Context(), ref, "m", "manual", source(b)))(t)
			if g.Stored > int64(len(b))/100 {
				t.Fatalf("stored %d of %d bytes", g.Stored, len(b))
			}
			check(t, s, b)
		})
	}
}

func TestShiftedStreamIsSmall(t *testing.T) {
	s := open(t, t.TempDir())
	b := text(4<<20, 1)
	must(s.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
	b = bytes.Join([][]byte{[]byte("-- a new line\n"), b[:1<<20], text(1<<19, 9), b[1<<20 : 2<<20], b[3<<20:]}, nil)
	g := must(s.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
	if g.Stored > 1<<20 {
		t.Fatalf("stored %d bytes for half a MiB of new ones", g.Stored)
	}
	check(t, s, b)
}

func TestTrackedImageReadsWhatChanged(t *testing.T) {
	s := open(t, t.TempDir())
	b := text(10<<20, 1)
	g := must(s.Save(t.Context(), ref, "m", "manual", image(b)))(t)
	copy(b[5<<20:], "changed")
	b = append(b, "and longer"...)
	i := &memoryImage{Reader: bytes.NewReader(b), known: true, changed: []state.Range{{Offset: 5 << 20, Length: 7}}}
	second := must(s.Save(t.Context(), ref, "m", "manual", state.Source{Image: i, Since: g.Snapshot}))(t)
	if second.Snapshot != id(b) || i.read > 4<<20 || second.Stored > 100_000 {
		t.Fatalf("read %d bytes, stored %d", i.read, second.Stored)
	}
	check(t, s, b)
	r := must(s.Open(t.Context(), second.Snapshot))(t)
	defer func() { _ = r.Close() }()
	differ := must(r.Differs(t.Context(), g.Snapshot))(t)
	want := []state.Range{{Offset: 5 << 20, Length: 1 << 20}, {Offset: 10 << 20, Length: 10}}
	if fmt.Sprint(differ) != fmt.Sprint(want) {
		t.Fatalf("differs in %v, want %v", differ, want)
	}
}

func TestFailedSourcesLeaveNothing(t *testing.T) {
	s := open(t, t.TempDir())
	b, broken := text(2<<20, 1), errors.New("dump broke")
	must(s.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
	before := must(s.Usage(t.Context()))(t)
	_, err := s.Save(t.Context(), ref, "m", "manual", state.Source{Write: func(w io.Writer) error {
		_, _ = w.Write(text(2<<20, 2))
		return broken
	}})
	if !errors.Is(err, broken) {
		t.Fatal(err)
	}
	short := &memoryImage{Reader: bytes.NewReader(b[:1<<20])}
	if _, err := s.Save(t.Context(), ref, "m", "x", state.Source{Image: shortImage{short}}); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatal(err)
	}
	if g := must(s.Generations(t.Context(), state.Ref{}))(t); len(g) != 1 || before != must(s.Usage(t.Context()))(t) {
		t.Fatalf("%d generations", len(g))
	}
	if left := must(os.ReadDir(s.temps()))(t); len(left) != 0 {
		t.Fatalf("left behind: %v", left)
	}
}

type shortImage struct{ *memoryImage }

func (shortImage) Size() int64 { return 5 << 20 }

func TestChainsOfRandomEdits(t *testing.T) {
	parent, round := t.TempDir(), 0
	rapid.Check(t, func(t *rapid.T) {
		round++
		dir := filepath.Join(parent, strconv.Itoa(round))
		defer func() { _ = os.RemoveAll(dir) }()
		s := open(t, dir)
		b := text(rapid.IntRange(0, 3<<19).Draw(t, "size"), rapid.Uint64().Draw(t, "seed"))
		var saved [][]byte
		for range rapid.IntRange(1, 4).Draw(t, "snapshots") {
			for range rapid.IntRange(0, 4).Draw(t, "edits") {
				at := rapid.IntRange(0, len(b)).Draw(t, "at")
				cut := rapid.IntRange(0, min(1<<20, len(b)-at)).Draw(t, "cut")
				put := text(rapid.SampledFrom([]int{0, 1, 100, 1 << 18}).Draw(t, "put"), uint64(at))
				b = bytes.Join([][]byte{b[:at], put, b[at+cut:]}, nil)
			}
			from := stream(b)
			if rapid.Bool().Draw(t, "image") {
				from = image(b)
			}
			if g := must(s.Save(context.Background(), ref, "m", "manual", from))(t); g.Snapshot != id(b) {
				t.Fatalf("id %s", g.Snapshot)
			}
			saved = append(saved, b)
		}
		keep := rapid.IntRange(1, 3).Draw(t, "keep")
		must(s.Prune(context.Background(), ref, state.Retention{Last: keep}, false))(t)
		for _, g := range must(s.Generations(context.Background(), ref))(t) {
			for _, b := range saved {
				if id(b) == g.Snapshot {
					check(t, s, b)
				}
			}
		}
	})
}

func TestDepthIsBounded(t *testing.T) {
	s := open(t, t.TempDir())
	b := text(1<<20+300_000, 1)
	deepest := 0
	for i := range 40 {
		for at := i; at < len(b); at += 100_000 {
			b[at]++
		}
		g := must(s.Save(t.Context(), ref, "m", "manual", image(b)))(t)
		snapshot := must(s.Get(t.Context(), g.Snapshot))(t)
		deepest = max(deepest, snapshot.Depth)
	}
	if deepest > maxDepth || deepest < 8 {
		t.Fatalf("depth %d", deepest)
	}
	check(t, s, b)
}

func TestPrune(t *testing.T) {
	s := open(t, t.TempDir())
	var all [][]byte
	b := text(4<<20, 1)
	for i := range 8 {
		b = bytes.Clone(b)
		copy(b[i*50_000:], text(20_000, uint64(i)+50))
		must(s.Save(t.Context(), ref, "m", "manual", image(b)))(t)
		all = append(all, b)
	}
	reader := must(s.Open(t.Context(), id(all[0])))(t)
	would := must(s.Prune(t.Context(), state.Ref{}, state.Retention{Last: 2}, true))(t)
	did := must(s.Prune(t.Context(), state.Ref{}, state.Retention{Last: 2}, false))(t)
	if len(would.Generations) != 6 || len(did.Generations) != 6 || would.Snapshots != 5 || did.Snapshots != 5 {
		t.Fatalf("would %+v, did %+v", would, did)
	}
	if got := must(io.ReadAll(reader))(t); !bytes.Equal(got, all[0]) {
		t.Fatal("a snapshot that is being read was pruned")
	}
	_ = reader.Close()
	must(s.Prune(t.Context(), state.Ref{}, state.Retention{Last: 1}, false))(t)
	check(t, s, all[7])
	if _, err := s.Open(t.Context(), id(all[0])); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
	g := must(s.Save(t.Context(), ref, "m", "manual", image(all[0])))(t)
	if g.Number != 9 {
		t.Fatalf("number %d was used before", g.Number)
	}
	before := must(s.Usage(t.Context()))(t)
	freed := must(s.Forget(t.Context(), ref, numbers(must(s.Generations(t.Context(), ref))(t)), false))(t)
	after := must(s.Usage(t.Context()))(t)
	if after.Stored != 0 || freed.Bytes != before.Stored || after.Snapshots != 0 {
		t.Fatalf("freed %+v of %+v, left %+v", freed, before, after)
	}
}

func TestExchange(t *testing.T) {
	from, to := open(t, t.TempDir()), open(t, t.TempDir())
	b := text(6<<20, 1)
	for i := range 3 {
		b = bytes.Clone(b)
		copy(b[i*1000:], "changed")
		source := image(b)
		if i == 2 {
			source = stream(b)
		}
		g := must(from.Save(t.Context(), ref, "m", "manual", source))(t)
		names := must(from.Objects(t.Context(), g.Snapshot))(t)
		missing := must(to.Missing(t.Context(), names))(t)
		if _, err := to.Adopt(t.Context(), ref, "move", g.Snapshot); !errors.Is(err, state.ErrCorrupt) {
			t.Fatalf("adopted what is missing: %v", err)
		}
		var wire bytes.Buffer
		if err := from.Export(t.Context(), missing, &wire); err != nil {
			t.Fatal(err)
		}
		if i > 0 && wire.Len() > 100_000 {
			t.Fatalf("sent %d bytes for a small change", wire.Len())
		}
		half := wire.Bytes()[:wire.Len()/2]
		if err := to.Import(t.Context(), bytes.NewReader(half)); !errors.Is(err, state.ErrCorrupt) {
			t.Fatalf("half a stream: %v", err)
		}
		wire.Reset()
		missing = must(to.Missing(t.Context(), names))(t)
		if err := from.Export(t.Context(), missing, &wire); err != nil {
			t.Fatal(err)
		}
		must(to.Prune(t.Context(), state.Ref{}, state.Retention{Last: 5}, false))(t) // keeps what was imported lately
		if err := to.Import(t.Context(), &wire); err != nil {
			t.Fatal(err)
		}
		must(to.Adopt(t.Context(), ref, "move", g.Snapshot))(t)
		check(t, to, b)
	}
}

func TestImportOfBadBytes(t *testing.T) {
	from := open(t, t.TempDir())
	b := text(200_000, 1)
	g := must(from.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
	var wire bytes.Buffer
	if err := from.Export(t.Context(), must(from.Objects(t.Context(), g.Snapshot))(t), &wire); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	to := open(t, t.TempDir())
	for range 200 {
		bad := bytes.Clone(wire.Bytes())
		bad[r.IntN(len(bad))] ^= byte(1 + r.IntN(255))
		if err := to.Import(t.Context(), bytes.NewReader(bad)); err == nil {
			continue // depth and effort are not believed, so they may be anything
		} else if !errors.Is(err, state.ErrCorrupt) {
			t.Fatal(err)
		}
	}
	if err := to.Verify(t.Context(), g.Snapshot); err != nil && !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestCorruptionOfEachByteIsFound(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := text(100_000, 1)
	must(s.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
	b = append(bytes.Clone(b), "more"...)
	must(s.Save(t.Context(), ref, "m", "manual", stream(b)))(t)
	for _, name := range must(filepath.Glob(filepath.Join(dir, "packs", "*")))(t) {
		good := must(os.ReadFile(name))(t)
		for at := rand.IntN(failStride); at < len(good); at += failStride * (1 + len(good)/300) {
			bad := bytes.Clone(good)
			bad[at] ^= 0x41
			if err := os.WriteFile(name, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			again := open(t, dir)
			for _, g := range must(again.Generations(t.Context(), ref))(t) {
				if err := again.Verify(t.Context(), g.Snapshot); err != nil && !errors.Is(err, state.ErrCorrupt) {
					t.Fatalf("byte %d: %v", at, err)
				} else if err == nil && g.Snapshot == id(b) && len(good) > 1000 && at > 8 {
					r := must(again.Open(t.Context(), g.Snapshot))(t)
					if got := must(io.ReadAll(r))(t); !bytes.Equal(got, b) {
						t.Fatalf("byte %d: wrong bytes", at)
					}
					_ = r.Close()
				}
			}
		}
		if err := os.WriteFile(name, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	check(t, s, b)
}
