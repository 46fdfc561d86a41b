package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

var base = time.UnixMilli(1_000_000_000_000)

// opened is what Open told.
type opened struct {
	*Journal
	state   string
	records []Record
}

func mustOpen(t *testing.T, c Config) *opened {
	t.Helper()
	o, err := tryOpen(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = o.Close() })
	return o
}

func tryOpen(c Config) (*opened, error) {
	o := &opened{}
	var err error
	if c.State == nil {
		c.State = func() []byte { return []byte("state") }
	}
	o.Journal, err = Open(c, func(state []byte) error { o.state = string(state); return nil }, func(r Record) { o.records = append(o.records, r) })
	return o, err
}

func add(t *testing.T, j *Journal, now time.Time, head, body string) Record {
	t.Helper()
	r, err := j.Append(now, []byte(head), []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestModel compares a journal, that is opened anew now and then, with a slice.
func TestModel(t *testing.T) {
	for seed := range uint64(10) {
		r := rand.New(rand.NewPCG(seed, 2))
		c := Config{Directory: t.TempDir(), MaxBytes: 20_000, MaxRecords: 64, Keep: time.Hour, State: func() []byte { return []byte("s") }}
		j := mustOpen(t, c)
		id := j.ID()
		now := base
		type entry struct {
			head, body string
			at         time.Time
		}
		var all []entry
		for i := range 400 {
			now = now.Add(time.Duration(r.Int64N(int64(4 * time.Minute)))).Truncate(time.Millisecond)
			e := entry{fmt.Sprint("head", i), string(bytes.Repeat([]byte{byte(i)}, r.IntN(2)*r.IntN(3000))), now}
			if got := add(t, j.Journal, now, e.head, e.body); got.Position != uint64(i+1) || got.Size() != int64(len(e.body)) {
				t.Fatalf("position %d", got.Position)
			}
			if all = append(all, e); r.IntN(20) == 0 {
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
				j = mustOpen(t, c)
				j.Expire(now)
			}
			if j.ID() != id || j.Next() != uint64(i+2) {
				t.Fatalf("seed %d: log %s ends at %d", seed, j.ID(), j.Next())
			}
			after := uint64(r.IntN(i + 1))
			records, first := j.After(after, 10)
			if first == 0 || first > j.Next() || now.Sub(all[first-1].at) >= c.Keep {
				t.Fatalf("seed %d: the first of %d is %d", seed, j.Next(), first)
			}
			if want := min(10, int(j.Next()-max(after+1, first))); len(records) != want {
				t.Fatalf("seed %d: %d records after %d, first %d, end %d", seed, len(records), after, first, j.Next())
			}
			for k, got := range records {
				want := all[got.Position-1]
				body, err := j.Body(got)
				if err != nil || string(got.Head) != want.head || string(body) != want.body || !got.Time.Equal(want.at) || k > 0 && got.Position != records[k-1].Position+1 {
					t.Fatalf("seed %d: record %d is %q, %v", seed, got.Position, got.Head, err)
				}
			}
		}
		files, err := filepath.Glob(filepath.Join(c.Directory, "*"))
		if err != nil {
			t.Fatal(err)
		}
		var size int64
		for _, f := range files {
			info, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			size += info.Size()
		}
		if size > c.MaxBytes+5000 || len(files) > 2*parts {
			t.Errorf("seed %d: %d bytes in %d files", seed, size, len(files))
		}
	}
}

// TestState opens a log whose oldest records have expired: the state says what was before the first one.
func TestState(t *testing.T) {
	count := 0
	c := Config{Directory: t.TempDir(), MaxRecords: 32, State: func() []byte { return fmt.Append(nil, count) }}
	j := mustOpen(t, c)
	for count = range 100 {
		add(t, j.Journal, base, "x", "")
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	again := mustOpen(t, c)
	if len(again.records) == 0 || again.state != fmt.Sprint(again.records[0].Position-1) || again.Next() != 101 {
		t.Errorf("state %q, first record %d, next %d", again.state, again.records[0].Position, again.Next())
	}
}

// TestTorn cuts a log off at each byte: what is whole stays, and goes on.
func TestTorn(t *testing.T) {
	c := Config{Directory: t.TempDir()}
	j := mustOpen(t, c)
	var ends []int64
	for i := range 5 {
		add(t, j.Journal, base, fmt.Sprint("head", i), "body")
		ends = append(ends, j.segments[0].size)
	}
	path := j.segments[0].path
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range whole {
		for _, damage := range []bool{false, true} { // cut off, or a byte is another one
			content := whole[:n]
			if damage {
				content = slices.Clone(whole)
				content[n] ^= 0x10
			}
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			again, err := tryOpen(c)
			if err != nil {
				t.Fatal(n, err)
			}
			want := 0
			for want < len(ends) && ends[want] <= int64(n) {
				want++
			}
			if len(again.records) != want {
				t.Fatalf("damage at %d: %d records, want %d", n, len(again.records), want)
			}
			r := add(t, again.Journal, base, "new", "new body")
			body, err := again.Body(r)
			if err != nil || string(body) != "new body" {
				t.Fatal(n, err)
			}
			if err := again.Close(); err != nil {
				t.Fatal(err)
			}
			if again, err = tryOpen(c); err != nil || len(again.records) != want+1 {
				t.Fatalf("damage at %d: %d records after one more, want %d, %v", n, len(again.records), want+1, err)
			}
			if err := errors.Join(again.Close(), os.Remove(again.segments[0].path)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestClosedAndGone(t *testing.T) {
	c := Config{Directory: t.TempDir(), MaxRecords: 16}
	j := mustOpen(t, c)
	old := add(t, j.Journal, base, "a", "body")
	for range 64 {
		add(t, j.Journal, base, "b", "")
	}
	if _, err := j.Body(old); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Append(base, nil, nil); !errors.Is(err, os.ErrClosed) {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(c.Directory, "0.log"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.Directory, "ffffffffffffffff.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if again := mustOpen(t, c); again.Next() != 66 {
		t.Errorf("next is %d", again.Next())
	}
}

func FuzzSegment(f *testing.F) {
	dir := f.TempDir()
	s, err := createSegment(dir, 1, [8]byte{1}, []byte("state"))
	if err != nil {
		f.Fatal(err)
	}
	if err := errors.Join(s.write(appendRecord(nil, Record{Position: 1, Time: base, Head: []byte("head")}, []byte("body"))), s.close()); err != nil {
		f.Fatal(err)
	}
	sample, err := os.ReadFile(s.path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(sample)
	f.Add(sample[:30])
	f.Add([]byte(magic))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "0000000000000001.log")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		s, _, records, err := loadSegment(path)
		if err != nil {
			return
		}
		defer func() { _ = s.close() }()
		for i, r := range records {
			if r.Position != uint64(i)+1 || r.offset+r.size > int64(len(content)) || r.size < 0 {
				t.Errorf("%+v", r)
			}
			if _, err := s.read(r.offset, r.size); err != nil {
				t.Error(err)
			}
		}
	})
}
