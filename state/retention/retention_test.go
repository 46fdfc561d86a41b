package retention

import (
	"errors"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orrery/state"
)

func at(s string) time.Time {
	t, err := time.Parse("2006-01-02T15:04", s)
	if err != nil {
		panic(err)
	}
	return t
}

func history(times ...string) []state.Generation {
	var all []state.Generation
	for i, s := range times {
		all = append(all, state.Generation{Number: uint64(i + 1), Time: at(s)})
	}
	return all
}

func numbers(all []state.Generation) []uint64 {
	n := []uint64{}
	for _, g := range all {
		n = append(n, g.Number)
	}
	return n
}

func TestRules(t *testing.T) {
	all := history(
		"2025-10-30T08:00", // 1
		"2025-11-02T08:00", // 2: a Sunday, ISO week 44
		"2025-11-03T08:00", // 3: week 45
		"2025-11-24T08:00", // 4: week 48
		"2025-11-24T09:10", // 5
		"2025-11-24T09:50", // 6
		"2025-11-25T00:10", // 7
	)
	all[1].Pinned = true
	all[3].Tags = []string{"release"}
	for _, c := range []struct {
		name string
		keep state.Retention
		want []uint64
	}{
		{"nothing said keeps all", state.Retention{}, []uint64{1, 2, 3, 4, 5, 6, 7}},
		{"last", state.Retention{Last: 2}, []uint64{2, 6, 7}},
		{"more than there are", state.Retention{Last: 100}, []uint64{1, 2, 3, 4, 5, 6, 7}},
		{"hourly", state.Retention{Hourly: 3}, []uint64{2, 4, 6, 7}},
		{"daily", state.Retention{Daily: 2}, []uint64{2, 6, 7}},
		{"weekly", state.Retention{Weekly: 3}, []uint64{2, 3, 7}},
		{"monthly", state.Retention{Monthly: 2}, []uint64{1, 2, 7}},
		{"within", state.Retention{Within: 15 * time.Hour}, []uint64{2, 5, 6, 7}},
		{"tag", state.Retention{Tags: []string{"other", "release"}}, []uint64{2, 4, 7}},
		{"several rules", state.Retention{Last: 1, Monthly: 2, Tags: []string{"release"}}, []uint64{1, 2, 4, 7}},
	} {
		kept, dropped := Choose(all, c.keep)
		if !slices.Equal(numbers(kept), c.want) {
			t.Errorf("%s: kept %v, want %v", c.name, numbers(kept), c.want)
		}
		if len(kept)+len(dropped) != len(all) {
			t.Errorf("%s: %d kept and %d dropped of %d", c.name, len(kept), len(dropped), len(all))
		}
	}
}

func TestCheck(t *testing.T) {
	if err := Check(state.Retention{Last: 3, Tags: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	if Check(state.Retention{Weekly: -1}) == nil || Check(state.Retention{Within: -1}) == nil {
		t.Fatal("a negative number is accepted")
	}
	if err := Check(state.Retention{Tags: []string{"a b"}}); !errors.Is(err, state.ErrBadProperty) {
		t.Fatal(err)
	}
}

// naive keeps what the rules say, one generation at a time.
func naive(all []state.Generation, i int, r state.Retention) bool {
	g := all[i]
	newer := func(same func(a, b time.Time) bool) (inPeriod, periods int) {
		var seen []time.Time
		for j, other := range all {
			if j == i || other.Time.Before(g.Time) || (other.Time.Equal(g.Time) && other.Number < g.Number) {
				continue
			}
			if same(other.Time, g.Time) {
				inPeriod++
			} else if !slices.ContainsFunc(seen, func(t time.Time) bool { return same(t, other.Time) }) {
				seen = append(seen, other.Time)
				periods++
			}
		}
		return inPeriod, periods
	}
	by := func(layout string) func(a, b time.Time) bool {
		return func(a, b time.Time) bool { return a.UTC().Format(layout) == b.UTC().Format(layout) }
	}
	week := func(a, b time.Time) bool {
		ya, wa := a.ISOWeek()
		yb, wb := b.ISOWeek()
		return ya == yb && wa == wb
	}
	all0, _ := newer(func(time.Time, time.Time) bool { return true })
	if g.Pinned || all0 == 0 || all0 < r.Last || Empty(r) {
		return true
	}
	for _, c := range []struct {
		count int
		same  func(a, b time.Time) bool
	}{{r.Hourly, by("2006010215")}, {r.Daily, by("20060102")}, {r.Weekly, week}, {r.Monthly, by("200601")}} {
		if in, periods := newer(c.same); in == 0 && periods < c.count {
			return true
		}
	}
	newest := slices.MaxFunc(all, func(a, b state.Generation) int { return a.Time.Compare(b.Time) })
	if r.Within > 0 && newest.Time.Sub(g.Time) <= r.Within {
		return true
	}
	return slices.ContainsFunc(g.Tags, func(tag string) bool { return slices.Contains(r.Tags, tag) })
}

func TestChooseIsWhatTheRulesSay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := make([]state.Generation, rapid.IntRange(0, 30).Draw(t, "generations"))
		now := at("2026-01-02T03:04")
		for i := range all {
			now = now.Add(time.Duration(rapid.IntRange(0, 200_000).Draw(t, "minutes")) * time.Minute / 10)
			all[i] = state.Generation{Number: uint64(i + 1), Time: now}
			all[i].Pinned = rapid.IntRange(0, 9).Draw(t, "pinned") == 0
			if rapid.IntRange(0, 4).Draw(t, "tagged") == 0 {
				all[i].Tags = []string{"a"}
			}
		}
		few := rapid.IntRange(0, 4)
		r := state.Retention{
			Last: few.Draw(t, "last"), Hourly: few.Draw(t, "hourly"), Daily: few.Draw(t, "daily"), Weekly: few.Draw(t, "weekly"),
			Monthly: few.Draw(t, "monthly"), Within: time.Duration(rapid.IntRange(0, 100).Draw(t, "within")) * time.Hour,
		}
		if rapid.Bool().Draw(t, "tags") {
			r.Tags = []string{"a"}
		}
		kept, dropped := Choose(all, r)
		for i, g := range all {
			want := naive(all, i, r)
			if got := slices.Contains(numbers(kept), g.Number); got != want {
				t.Fatalf("generation %d is kept: %v, want %v (%+v)", g.Number, got, want, r)
			}
		}
		if len(kept)+len(dropped) != len(all) {
			t.Fatalf("%d and %d of %d", len(kept), len(dropped), len(all))
		}
		again, more := Choose(kept, r)
		if len(more) > 0 || len(again) != len(kept) { // pruning twice is pruning once
			t.Fatalf("a second time drops %v", numbers(more))
		}
		wider := r
		wider.Last += 3
		if more, _ := Choose(all, wider); !Empty(r) {
			for _, g := range kept {
				if !slices.Contains(numbers(more), g.Number) {
					t.Fatalf("a wider rule drops %d", g.Number)
				}
			}
		}
	})
}
