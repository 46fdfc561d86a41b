package fuse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

func newFiles(over vfs.FS) *Files {
	s := New(slog.New(slog.DiscardHandler), "of a test", "restart it").FS(over)
	s.Arm()
	return s
}

func read(t *testing.T, fs vfs.FS, name string) []byte {
	t.Helper()
	f, err := fs.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	return b
}

// TestLogIsAhead: a log has what was written, and then zeros; other files have nothing more.
func TestLogIsAhead(t *testing.T) {
	fs := newFiles(vfs.NewMem())
	for _, c := range []vfs.DiskWriteCategory{logCategory, vfs.WriteCategoryUnspecified} {
		f, err := fs.Create("file", c)
		if err != nil {
			t.Fatal(err)
		}
		var want []byte
		sizes := map[int64]bool{}
		for n := range 300 {
			b := bytes.Repeat([]byte{byte(n%255 + 1)}, 10_000)
			want = append(want, b...)
			if _, err := f.Write(b); err != nil { // which may change b
				t.Fatal(err)
			}
			info, err := f.Stat()
			if err != nil {
				t.Fatal(err)
			}
			sizes[info.Size()] = true
			if more := info.Size() - int64(len(want)); more < 0 || more > ahead || c != logCategory && more > 0 {
				t.Fatalf("%q: after %d bytes there are %d more", c, len(want), more)
			}
		}
		if got := read(t, fs, "file"); !bytes.HasPrefix(got, want) || bytes.Count(got[len(want):], []byte{0}) != len(got)-len(want) {
			t.Fatalf("%q: the file is not what was written and zeros", c)
		}
		if c == logCategory && len(sizes) > 16 {
			t.Errorf("a log of %d bytes grew %d times", len(want), len(sizes))
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReusedLog: a log that takes the place of a longer one keeps that one's length.
func TestReusedLog(t *testing.T) {
	fs := newFiles(vfs.NewMem())
	f, err := fs.Create("old", logCategory)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(bytes.Repeat([]byte{1}, 1000)); err != nil {
		t.Fatal(err)
	}
	size := len(read(t, fs, "old"))
	if f, err = fs.ReuseForWrite("old", "new", logCategory); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if _, err := f.Write([]byte{2}); err != nil {
			t.Fatal(err)
		}
	}
	got := read(t, fs, "new")
	if len(got) != size || !bytes.Equal(got[:1000], append(bytes.Repeat([]byte{2}, 100), bytes.Repeat([]byte{1}, 900)...)) {
		t.Fatalf("the log has %d bytes, had %d, and begins with %v", len(got), size, got[:120])
	}
}

// TestLogSurvivesCrash: what was synced is there after a crash at any time, and nothing that was never written, however much of the rest arrived.
func TestLogSurvivesCrash(t *testing.T) {
	mem := vfs.NewCrashableMem()
	db, err := pebble.Open("db", &pebble.Options{FS: newFiles(mem), MemTableSize: 256 << 10, Logger: New(slog.New(slog.DiscardHandler), "", "restart it")})
	if err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test's choices
	for n := range 160 {
		o := pebble.NoSync
		if n%8 == 7 {
			o = pebble.Sync
		}
		if err := db.Set(fmt.Appendf(nil, "%04d", n), bytes.Repeat([]byte{byte(n)}, 1+random.IntN(5000)), o); err != nil {
			t.Fatal(err)
		}
		if n%40 == 39 {
			checkCrash(t, mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: n % 101, RNG: random}), (n+1)/8*8, n+1)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	checkCrash(t, mem.CrashClone(vfs.CrashCloneCfg{}), 160, 160)
}

// checkCrash opens what a crash left: it has the first of so many keys, least at the least.
func checkCrash(t *testing.T, fs vfs.FS, least, most int) {
	t.Helper()
	db, err := pebble.Open("db", &pebble.Options{FS: newFiles(fs), MemTableSize: 256 << 10, Logger: New(slog.New(slog.DiscardHandler), "", "restart it")})
	if err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(nil)
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for it.First(); it.Valid(); it.Next() {
		if string(it.Key()) != fmt.Sprintf("%04d", count) || bytes.Count(it.Value(), []byte{byte(count)}) != len(it.Value()) {
			t.Fatalf("key %d is %q", count, it.Key())
		}
		count++
	}
	if count < least || count > most {
		t.Fatalf("%d keys are there, %d were synced and %d written", count, least, most)
	}
	if err := errors.Join(it.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
}
