package resolve_test

import (
	"errors"
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
