package extsort

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// fill adds random records, some of them equal in what is compared, and returns them in the order that is to come out.
func fill(t *testing.T, s *Sorter, count, long int) []string {
	t.Helper()
	random := rand.New(rand.NewPCG(7, uint64(count)))
	all := make([]string, count)
	for i := range all {
		all[i] = fmt.Sprintf("%03d-%d%s", random.IntN(100), i, strings.Repeat("x", random.IntN(long)))
		if err := s.Add([]byte(all[i][:3]), nil, []byte(all[i][3:])); err != nil {
			t.Fatal(err)
		}
	}
	slices.SortStableFunc(all, func(a, b string) int { return strings.Compare(a[:3], b[:3]) })
	return all
}

func byPrefix(a, b []byte) int { return bytes.Compare(a[:3], b[:3]) }

// Records come out in order, equal ones as they came, however little fits into memory, and as often as they are read.
func TestSorter(t *testing.T) {
	for memory, count := range map[int]int{1: fanIn*2 + 3, 1000: 500, 1 << 20: 500, 1 << 10: 0} {
		folder := t.TempDir()
		s := New(memory, File(folder), byPrefix)
		want := fill(t, s, count, 400)
		for range 2 {
			var got []string
			if err := s.Each(t.Context(), func(record []byte) error { got = append(got, string(record)); return nil }); err != nil || !slices.Equal(got, want) {
				t.Errorf("memory %d: %d records of %d, %v", memory, len(got), len(want), err)
			}
		}
		if spilled := len(s.runs) > 0; spilled != (memory <= 1000) {
			t.Errorf("memory %d: %d runs", memory, len(s.runs))
		}
		if len(s.runs) > fanIn {
			t.Errorf("%d runs are merged at once", len(s.runs))
		}
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Errorf("%v, %v", left, err)
		}
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestTwoCursors(t *testing.T) {
	for _, memory := range []int{500, 1 << 20} {
		s := New(memory, File(t.TempDir()), byPrefix)
		want := fill(t, s, 100, 10)
		a, err := s.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.Read(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, record := range want {
			if string(a.Record()) != record || string(b.Record()) != record {
				t.Fatalf("%q and %q, not %q", a.Record(), b.Record(), record)
			}
			if err := errors.Join(a.Next(), b.Next()); err != nil {
				t.Fatal(err)
			}
		}
		if a.Record() != nil || a.Next() != nil || a.Record() != nil {
			t.Error("something comes after the last")
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	stop := errors.New("stop")
	for _, memory := range []int{500, 1 << 20} {
		s := New(memory, File(t.TempDir()), byPrefix)
		fill(t, s, 100, 10)
		if err := s.Each(ctx, func([]byte) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("memory %d: %v", memory, err)
		}
		if err := s.Each(t.Context(), func([]byte) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("memory %d: %v", memory, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

// limited is a scratch with little room.
type limited struct {
	Scratch
	room int
}

var errFull = errors.New("full")

func (l *limited) Write(b []byte) (int, error) {
	if l.room -= len(b); l.room < 0 {
		return 0, errFull
	}
	return l.Scratch.Write(b)
}

func TestNoRoom(t *testing.T) {
	folder := t.TempDir()
	s := New(500, func() (Scratch, error) {
		f, err := File(folder)()
		return &limited{f, 1000}, err
	}, byPrefix)
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		err = s.Add([]byte("same"), make([]byte, 50))
	}
	if !errors.Is(err, errFull) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	s = New(500, File("/nowhere"), byPrefix)
	err = errors.Join(s.Add(make([]byte, 400)), s.Add(make([]byte, 400)))
	if !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func BenchmarkSorter(b *testing.B) {
	record := make([]byte, 40)
	for b.Loop() {
		s := New(1<<20, File(b.TempDir()), bytes.Compare)
		random := rand.New(rand.NewPCG(1, 1))
		for range 100_000 {
			for i := range record[:8] {
				record[i] = byte(random.Uint32())
			}
			if err := s.Add(record); err != nil {
				b.Fatal(err)
			}
		}
		if err := s.Each(b.Context(), func([]byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
