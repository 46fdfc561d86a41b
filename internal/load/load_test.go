package load

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"
)

// memory is a store, which is late with some writes.
type memory struct {
	mu     sync.Mutex
	keys   map[string]bool
	missed int
	scans  int
	puts   int
}

func (m *memory) Get(_ context.Context, key string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.keys[key] {
		m.missed++
		return errors.New("no such key")
	}
	return nil
}

func (m *memory) Put(ctx context.Context, key string, _ []byte) error {
	m.mu.Lock()
	late := m.puts%7 == 3
	m.puts++
	m.mu.Unlock()
	if late { // others overtake it
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[key] = true
	return nil
}

func (m *memory) Scan(_ context.Context, from string, limit int) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.scans++
	if !m.keys[from] || limit < 1 {
		return errors.New("scan from a key that is not there")
	}
	return nil
}

// Nobody asks for what is not there, also where the newest is asked for.
func TestRun(t *testing.T) {
	for name, mix := range map[string]Mix{
		"all": {Read: 5, Update: 2, Insert: 1, Scan: 1, Replace: 1}, "latest": {Read: 5, Insert: 5, Latest: true, Zipf: true}, "skewed": {Read: 1, Zipf: true},
	} {
		t.Run(name, func(t *testing.T) {
			m := &memory{keys: map[string]bool{}}
			clients := []Store{m, m, m, m, m, m, m, m}
			l := &Load{Mix: mix, Prefix: "p/", Keys: 50, Value: []byte("v"), Duration: 50 * time.Millisecond}
			if err := l.Fill(t.Context(), clients); err != nil || len(m.keys) != 50 {
				t.Fatalf("%d keys, %v", len(m.keys), err)
			}
			f := l.Run(t.Context(), clients)
			if f.Errors > 0 || f.Err != nil || f.All.Count == 0 || f.Rate(&f.All) <= 0 {
				t.Fatalf("%d operations, %d errors, the first is %v", f.All.Count, f.Errors, f.Err)
			}
			sum := int64(0)
			for o := range f.Each {
				sum += f.Each[o].Count
			}
			if sum != f.All.Count || int64(m.scans) != f.Each[Scan].Count {
				t.Errorf("%d of %d, %d scans", sum, f.All.Count, m.scans)
			}
			for key := range m.keys {
				if !strings.HasPrefix(key, "p/") {
					t.Errorf("key %q", key)
				}
			}
		})
	}
}

// broken is a store that does nothing.
type broken struct{}

var errBroken = errors.New("broken")

func (broken) Get(context.Context, string) error         { return errBroken }
func (broken) Put(context.Context, string, []byte) error { return errBroken }
func (broken) Scan(context.Context, string, int) error   { return errBroken }

func TestErrors(t *testing.T) {
	l := &Load{Mix: Mix{Read: 1}, Keys: 10, Duration: time.Millisecond}
	if err := l.Fill(t.Context(), []Store{broken{}, broken{}}); !errors.Is(err, errBroken) {
		t.Error(err)
	}
	if f := l.Run(t.Context(), []Store{broken{}}); f.Errors == 0 || !errors.Is(f.Err, errBroken) || f.All.Count != 0 || f.All.Quantile(0.5) != 0 {
		t.Errorf("%d errors, %v", f.Errors, f.Err)
	}
}

func TestQuantile(t *testing.T) {
	var h Histogram
	for i := range 1000 {
		h.observe(time.Duration(i+1) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Microsecond, 0.99: 990 * time.Microsecond, 1: time.Millisecond} {
		if got := h.Quantile(q); got < want*95/100 || got > want*105/100 {
			t.Errorf("%v: %v, not about %v", q, got, want)
		}
	}
}

func TestZipf(t *testing.T) {
	for _, n := range []int{1, 2, 3, 1000} {
		z := newZipf(rand.New(rand.NewPCG(1, 2)), n) //nolint:gosec // load
		counts := make([]int, n)
		for range 10000 {
			counts[z.next()]++
		}
		if n == 1000 && (counts[0] < 1000 || counts[0] < counts[1] || counts[1] < counts[500]) {
			t.Errorf("%d, %d, %d", counts[0], counts[1], counts[500])
		}
	}
}
