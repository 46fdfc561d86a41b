package agent

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"orrery/state"
)

// Metrics are what a collector wants to know of a store.
type Metrics struct {
	Components []Measured     `json:"components"`
	StoreBytes int64          `json:"storeBytes"`
	Violations map[string]int `json:"violations,omitempty"` // components of which a promise is not kept, by policy
}

// Measured is one component. A zero time is never.
type Measured struct {
	Ref      state.Ref `json:"ref"`
	Active   bool      `json:"active"`         // it is on the machine, in service, with state
	Taken    time.Time `json:"taken,omitzero"` // when its state was last put into a snapshot, or found to be in the newest
	Verified time.Time `json:"verified,omitzero"`
	Tested   time.Time `json:"tested,omitzero"`
	Size     int64     `json:"size"`   // bytes of the newest snapshot's state
	Stored   int64     `json:"stored"` // bytes that it added to the store
}

// Measure looks at a machine's store, and at the schedule of the same machine; nil where the store is another one.
func Measure(ctx context.Context, m Machine, s *Schedule) (Metrics, error) {
	all := map[state.Ref]*Measured{}
	of := func(r state.Ref) *Measured {
		if all[r] == nil {
			all[r] = &Measured{Ref: r}
		}
		return all[r]
	}
	active, err := m.Stateful(ctx)
	if err != nil {
		return Metrics{}, err
	}
	for _, r := range active {
		of(r).Active = true
	}
	generations, err := m.Store.Generations(ctx, state.Ref{})
	if err != nil {
		return Metrics{}, err
	}
	for _, g := range generations { // oldest first
		c := of(state.Ref{Container: g.Container, Component: g.Component})
		c.Taken, c.Size, c.Stored = g.Time, g.Size, g.Stored
		c.Verified, c.Tested = latest(c.Verified, g.Verified), latest(c.Tested, g.Tested)
	}
	out := Metrics{}
	if s != nil {
		if out.Violations, err = s.measure(ctx, m, all); err != nil {
			return Metrics{}, err
		}
	}
	usage, err := m.Store.Usage(ctx)
	out.StoreBytes = usage.Stored
	for _, c := range all {
		out.Components = append(out.Components, *c)
	}
	slices.SortFunc(out.Components, func(a, b Measured) int { return cmp.Compare(a.Ref.String(), b.Ref.String()) })
	return out, err
}

// measure adds what the schedule knows: a snapshot of what had not changed adds no generation.
func (s *Schedule) measure(ctx context.Context, m Machine, all map[state.Ref]*Measured) (map[string]int, error) {
	past, err := s.Past()
	if err != nil {
		return nil, err
	}
	for _, p := range past {
		for _, c := range all {
			if taken := p.Taken[c.Ref.String()]; !c.Taken.IsZero() {
				c.Taken = latest(c.Taken, taken)
			}
		}
	}
	broken, err := s.Broken(ctx, m)
	violations := map[string]int{}
	for name, breaches := range broken {
		violations[name] = len(breaches)
	}
	return violations, err
}

func latest(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// Write writes the metrics as Prometheus reads them. What never happened is infinitely long ago, so that alerts on an age see it.
func (m Metrics) Write(w io.Writer, now time.Time) error {
	b := bufio.NewWriter(w)
	family := func(name, help string) { fmt.Fprintf(b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name) }
	each := func(name, help string, components []Measured, value func(Measured) float64) {
		if len(components) == 0 {
			return
		}
		family(name, help)
		for _, c := range components {
			fmt.Fprintf(b, "%s{container=\"%s\",component=\"%s\"} %s\n", name, escaped(c.Ref.Container), escaped(c.Ref.Component), number(value(c)))
		}
	}
	// What is out of service does not change, and its snapshots need not be younger.
	active := slices.DeleteFunc(slices.Clone(m.Components), func(c Measured) bool { return !c.Active })
	stored := slices.DeleteFunc(slices.Clone(m.Components), func(c Measured) bool { return c.Taken.IsZero() })
	age := func(t time.Time) float64 {
		if t.IsZero() {
			return math.Inf(1)
		}
		return max(0, now.Sub(t).Seconds())
	}
	each("orrery_snapshot_age_seconds", "How long ago the component's state was last put into a snapshot, or by a schedule found to be in the newest.", active,
		func(c Measured) float64 { return age(c.Taken) })
	each("orrery_snapshot_verified_age_seconds", "How long ago one of the component's snapshots was last read whole and found sound.", active,
		func(c Measured) float64 { return age(c.Verified) })
	each("orrery_snapshot_tested_age_seconds", "How long ago one of the component's snapshots was last restored into a scratch component and found the same.", active,
		func(c Measured) float64 { return age(c.Tested) })
	each("orrery_snapshot_size_bytes", "Size of the state in the component's newest snapshot.", stored, func(c Measured) float64 { return float64(c.Size) })
	each("orrery_snapshot_stored_bytes", "What the component's newest snapshot added to the store.", stored, func(c Measured) float64 { return float64(c.Stored) })
	family("orrery_store_bytes", "Size of the snapshot store.")
	fmt.Fprintf(b, "orrery_store_bytes %s\n", number(float64(m.StoreBytes)))
	if len(m.Violations) > 0 {
		family("orrery_schedule_violations", "Components of which the policy's promise is not kept: too old, or the last run failed.")
		for _, name := range slices.Sorted(maps.Keys(m.Violations)) {
			fmt.Fprintf(b, "orrery_schedule_violations{policy=\"%s\"} %d\n", escaped(name), m.Violations[name])
		}
	}
	return b.Flush()
}

// escaped is a label's value as it is written.
func escaped(s string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(s)
}

func number(f float64) string {
	if math.IsInf(f, 1) {
		return "+Inf"
	}
	return fmt.Sprintf("%.15g", f)
}
