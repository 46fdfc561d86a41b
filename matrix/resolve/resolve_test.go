package resolve_test

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orrery/matrix"
	"orrery/matrix/event"
	"orrery/matrix/matrixtest"
	"orrery/matrix/resolve"
)

// TestLikeTheSpecification compares with a literal transcription, over rooms made by chance.
func TestLikeTheSpecification(t *testing.T) {
	for _, version := range matrix.Versions {
		t.Run(version.ID, func(t *testing.T) {
			t.Parallel()
			conflicts := 0
			for seed := range uint64(25) {
				r := matrixtest.New(t, version, seed, 5)
				for range 12 {
					r.Grow(5)
					states := r.States(2 + int(seed%3))
					got, err := resolve.Resolve(version, states, r)
					if err != nil {
						t.Fatal(err)
					}
					want := literal{version, r}.resolve(states)
					if d := cmp.Diff(want, got); d != "" {
						t.Fatalf("seed %d, %d events: %s", seed, len(r.All), d)
					}
					for _, s := range states {
						if !maps.Equal(s, got) {
							conflicts++
							break
						}
					}
				}
			}
			if conflicts < 50 {
				t.Errorf("only %d of 300 had anything to resolve", conflicts)
			}
		})
	}
}

// TestAnyOrder: what comes out does not depend on the order of the states.
func TestAnyOrder(t *testing.T) {
	for _, version := range matrix.Versions {
		r := matrixtest.New(t, version, 99, 6)
		for range 20 {
			r.Grow(6)
			states := r.States(3)
			a, err := resolve.Resolve(version, states, r)
			if err != nil {
				t.Fatal(err)
			}
			states[0], states[2] = states[2], states[0]
			b, err := resolve.Resolve(version, states, r)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(a, b); d != "" {
				t.Fatalf("version %s: %s", version.ID, d)
			}
		}
	}
}

// without is a room some of whose events are not known, or rejected.
type without struct {
	*matrixtest.Room
	missing  string
	rejected map[string]bool
}

func (w without) Event(id string) *event.Event {
	if id == w.missing {
		return nil
	}
	return w.Room.Event(id)
}

func (w without) Rejected(id string) bool { return w.rejected[id] }

func TestUnknownEvent(t *testing.T) {
	version := matrix.Versions[len(matrix.Versions)-1]
	r := matrixtest.New(t, version, 1, 5)
	r.Grow(200)
	states := r.States(3)
	for id := range maps.Values(states[0]) {
		_, err := resolve.Resolve(version, states, without{Room: r, missing: id})
		if err == nil || !strings.Contains(err.Error(), id) || errors.Is(err, matrix.ErrForbidden) {
			t.Errorf("without %s: %v", id, err)
		}
	}
}

// TestRejectedAuthEvents: the state of a room does not come from events that were rejected, only because others name them.
func TestRejectedAuthEvents(t *testing.T) {
	for _, version := range matrix.Versions[1:] {
		r := matrixtest.New(t, version, 3, 5)
		r.Grow(150)
		w := without{Room: r, rejected: map[string]bool{}}
		for i, e := range r.All {
			w.rejected[e.ID()] = i > 4 && i%3 == 0
		}
		for range 10 {
			states := r.States(3)
			got, err := resolve.Resolve(version, states, w)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(literal{version, w}.resolve(states), got); d != "" {
				t.Fatalf("version %s: %s", version.ID, d)
			}
		}
	}
}

// split is a room whose two halves did not hear of each other for so many events.
func split(tb testing.TB, version *matrix.Version, events int) (*matrixtest.Room, []resolve.State) {
	tb.Helper()
	r := matrixtest.New(tb, version, 5, 60)
	r.Grow(100)
	from := r.All[len(r.All)-1]
	var states []resolve.State
	for range 2 {
		states = append(states, r.After[r.Branch(from, events/2).ID()])
	}
	return r, states
}

// BenchmarkConflict resolves a conflict by the algorithm and by the literal transcription. The latter looks for all paths between events of room version 12,
// which takes hours for so many: there it gets fewer. So many events make a conflict of some fewer, of 5,000 and more where there are 7,000.
func BenchmarkConflict(b *testing.B) {
	for _, c := range []struct {
		version string
		events  int
		literal bool
	}{{"10", 7000, true}, {"12", 1400, true}, {"12", 6200, false}} {
		v, err := matrix.FindVersion(c.version)
		if err != nil {
			b.Fatal(err)
		}
		r, states := split(b, v, c.events)
		_, conflicting := literal{v, r}.split(states)
		maps.Copy(conflicting, literal{v, r}.authDifference(states))
		var got resolve.State
		name := fmt.Sprintf("version=%s/events=%d", c.version, c.events)
		b.Run(name+"/algorithm", func(b *testing.B) {
			for b.Loop() {
				if got, err = resolve.Resolve(v, states, r); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(len(conflicting)), "conflicting")
		})
		if !c.literal {
			continue
		}
		b.Run(name+"/literal", func(b *testing.B) {
			for b.Loop() {
				if d := cmp.Diff(literal{v, r}.resolve(states), got); d != "" && got != nil {
					b.Errorf("they differ: %s", d)
				}
			}
		})
	}
}
