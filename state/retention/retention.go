// Package retention chooses which generations of a component are kept: a pure function of the generations and a
// state.Retention.
//
// A generation is kept if any rule keeps it. The rules hourly, daily, weekly and monthly keep the newest generation
// of each of the newest so many hours, days, ISO weeks and months that have one, by UTC. Within counts from the newest
// generation, not from now: a component that rests for a year does not lose its history. Pinned generations and
// the newest are always kept. No rule at all keeps everything.
package retention

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"orrery/state"
)

// Check says why a retention makes no sense.
func Check(r state.Retention) error {
	if min(r.Last, r.Hourly, r.Daily, r.Weekly, r.Monthly) < 0 || r.Within < 0 {
		return errors.New("a negative number of generations cannot be kept")
	}
	for _, tag := range r.Tags {
		if !state.ValidTag(tag) {
			return fmt.Errorf("tag %.80q: %w: a tag has letters, digits and \"_.:-\", at most 64", tag, state.ErrBadProperty)
		}
	}
	return nil
}

// Choose divides the generations of one component into those that are kept and those that are dropped. Both keep the
// order that they came in. The generations are not changed.
func Choose(generations []state.Generation, r state.Retention) (kept, dropped []state.Generation) {
	keep := Reasons(generations, r)
	for i, g := range generations {
		if len(keep[i]) > 0 {
			kept = append(kept, g)
		} else {
			dropped = append(dropped, g)
		}
	}
	return kept, dropped
}

// Reasons says by generation which rules keep it; none for those that are dropped.
func Reasons(generations []state.Generation, r state.Retention) [][]string {
	reasons := make([][]string, len(generations))
	order := newestFirst(generations)
	all := Empty(r)
	for at, i := range order {
		g := &generations[i]
		if at == 0 {
			reasons[i] = append(reasons[i], "newest")
		}
		if g.Pinned {
			reasons[i] = append(reasons[i], "pinned")
		}
		if all {
			reasons[i] = append(reasons[i], "no rule")
		}
		if r.Within > 0 && generations[order[0]].Time.Sub(g.Time) <= r.Within {
			reasons[i] = append(reasons[i], "within")
		}
		if slices.ContainsFunc(r.Tags, func(tag string) bool { return slices.Contains(g.Tags, tag) }) {
			reasons[i] = append(reasons[i], "tag")
		}
	}
	for _, rule := range rules(r) {
		rule.apply(generations, order, reasons)
	}
	return reasons
}

// Empty says whether a retention has no rule, so that all is kept.
func Empty(r state.Retention) bool {
	return r.Last == 0 && r.Hourly == 0 && r.Daily == 0 && r.Weekly == 0 && r.Monthly == 0 && r.Within == 0 && len(r.Tags) == 0
}

// newestFirst are the indexes of generations by time; of the same time, the higher number is newer.
func newestFirst(generations []state.Generation) []int {
	order := make([]int, len(generations))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		if c := generations[b].Time.Compare(generations[a].Time); c != 0 {
			return c
		}
		if generations[b].Number > generations[a].Number {
			return 1
		}
		return -1
	})
	return order
}

// rule keeps the newest of each of the newest so many periods.
type rule struct {
	name   string
	count  int
	period func(t time.Time, at int) [3]int
}

func rules(r state.Retention) []rule {
	return []rule{
		{"last", r.Last, func(_ time.Time, at int) [3]int { return [3]int{at, 1} }},
		{"hourly", r.Hourly, func(t time.Time, _ int) [3]int { return [3]int{t.Year(), t.YearDay(), t.Hour()} }},
		{"daily", r.Daily, func(t time.Time, _ int) [3]int { return [3]int{t.Year(), t.YearDay()} }},
		{"weekly", r.Weekly, func(t time.Time, _ int) [3]int { year, week := t.ISOWeek(); return [3]int{year, week} }},
		{"monthly", r.Monthly, func(t time.Time, _ int) [3]int { return [3]int{t.Year(), int(t.Month())} }},
	}
}

func (r rule) apply(generations []state.Generation, order []int, reasons [][]string) {
	var last [3]int
	for at, i := range order {
		period := r.period(generations[i].Time.UTC(), at)
		if r.count == 0 {
			return
		}
		if at == 0 || period != last {
			reasons[i] = append(reasons[i], r.name)
			last = period
			r.count--
		}
	}
}
