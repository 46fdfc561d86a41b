// Package address says which generation a name means. A name is one of
//
//	3f9a2c                            the beginning of a snapshot's id, if it is that of one alone
//	CONTAINER/COMPONENT               the newest generation of a component; @latest says the same
//	CONTAINER/COMPONENT@12            its generation number 12
//	CONTAINER/COMPONENT@release-7     its newest generation with that tag
//	CONTAINER/COMPONENT@2026-11-25T10:00  its newest generation that is not younger
//	@release-7                        the newest generation with that tag, if it is on one component alone
//
// A session's component has an @ in its own name; where a name could mean that or a tag, it is refused.
package address

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/state"
)

// ErrAmbiguous says that a name means more than one thing.
var ErrAmbiguous = errors.New("the name is not clear")

// latest is the selector of the newest generation.
const latest = "latest"

// Clock is what times in names are relative to.
type Clock struct {
	Now      time.Time
	Location *time.Location // of times that do not say it; nil: UTC
}

// Find returns the generation that name means among the given ones, the generations of all components, oldest first. With
// a Before that is not zero, younger ones do not count. A whole id that no generation has is returned as a
// generation of which nothing but the snapshot is known. state.ErrNotFound, ErrAmbiguous.
func Find(all []state.Generation, name string, before time.Time, c Clock) (state.Generation, error) {
	if !before.IsZero() {
		all = slices.DeleteFunc(slices.Clone(all), func(g state.Generation) bool { return g.Time.After(before) })
	}
	switch {
	case strings.HasPrefix(name, "@"):
		return byTag(all, name[1:])
	case strings.Contains(name, "/"):
		return byRef(all, name, c)
	case hex(name):
		return byID(all, name)
	}
	return state.Generation{}, fmt.Errorf("%.100q: %w: it is no beginning of an id, CONTAINER/COMPONENT, CONTAINER/COMPONENT@NUMBER, "+
		"…@TAG, …@TIME or @TAG", name, state.ErrNotFound)
}

func hex(s string) bool {
	return s != "" && len(s) <= 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func byID(all []state.Generation, prefix string) (state.Generation, error) {
	var found state.Generation
	for _, g := range all {
		if !strings.HasPrefix(string(g.Snapshot), prefix) {
			continue
		}
		if found.Snapshot != "" && found.Snapshot != g.Snapshot {
			return state.Generation{}, fmt.Errorf("snapshot %s is not the beginning of one id alone (write more of it): %w", prefix, ErrAmbiguous)
		}
		if !found.Time.After(g.Time) {
			found = g
		}
	}
	switch {
	case found.Snapshot != "":
		return found, nil
	case len(prefix) == 64:
		return state.Generation{Snapshot: state.SnapshotID(prefix)}, nil
	}
	return found, fmt.Errorf("snapshot %s: %w (see orrery snapshot list)", prefix, state.ErrNotFound)
}

func byTag(all []state.Generation, tag string) (state.Generation, error) {
	var found state.Generation
	for _, g := range all {
		if !slices.Contains(g.Tags, tag) {
			continue
		}
		if found.Number > 0 && ref(found) != ref(g) {
			return state.Generation{}, fmt.Errorf("tag %q is on %s and %s (write CONTAINER/COMPONENT@%s): %w", tag, ref(found), ref(g), tag, ErrAmbiguous)
		}
		found = g
	}
	if found.Number == 0 {
		return found, fmt.Errorf("tag %.100q: %w on any generation (see orrery snapshot list)", tag, state.ErrNotFound)
	}
	return found, nil
}

func ref(g state.Generation) state.Ref {
	return state.Ref{Container: g.Container, Component: g.Component}
}

func of(all []state.Generation, r state.Ref) []state.Generation {
	return slices.DeleteFunc(slices.Clone(all), func(g state.Generation) bool { return ref(g) != r })
}

// Ref reads CONTAINER/COMPONENT.
func Ref(s string) (state.Ref, bool) {
	container, component, ok := strings.Cut(s, "/")
	r := state.Ref{Container: container, Component: component}
	return r, ok && state.ValidName(container) && state.ValidName(component)
}

func byRef(all []state.Generation, name string, c Clock) (found state.Generation, err error) {
	whole, ok := Ref(name)
	asWhole := ok && len(of(all, whole)) > 0
	at := strings.LastIndexByte(name, '@')
	if at < 0 {
		if asWhole {
			return newest(of(all, whole)), nil
		}
		return found, fmt.Errorf("%.200q: %w: there is no generation of it (see orrery snapshot list)", name, state.ErrNotFound)
	}
	base, ok := Ref(name[:at])
	if ok {
		found, err = Select(of(all, base), name[at+1:], c)
	}
	switch {
	case ok && err == nil && asWhole:
		return state.Generation{}, fmt.Errorf("%q is a session's component and a generation of %s too (write %s@latest for the one, "+
			"or the number of the other): %w", name, base, name, ErrAmbiguous)
	case asWhole:
		return newest(of(all, whole)), nil
	case !ok:
		return found, fmt.Errorf("%.200q: %w: it is not CONTAINER/COMPONENT@NUMBER, @TAG or @TIME", name, state.ErrNotFound)
	case err != nil:
		return found, fmt.Errorf("%s: %w (see orrery snapshot list %s)", name, err, base)
	}
	return found, nil
}

func newest(all []state.Generation) state.Generation { return all[len(all)-1] }

// Select returns the generation of one component that a selector means: empty or latest, a number, a tag, a time.
func Select(all []state.Generation, selector string, c Clock) (state.Generation, error) {
	if len(all) == 0 {
		return state.Generation{}, fmt.Errorf("%w: there is no generation", state.ErrNotFound)
	}
	if selector == "" || selector == latest {
		return newest(all), nil
	}
	if number, err := strconv.ParseUint(selector, 10, 64); err == nil {
		for _, g := range all {
			if g.Number == number {
				return g, nil
			}
		}
		return state.Generation{}, fmt.Errorf("generation %d: %w", number, state.ErrNotFound)
	}
	for _, g := range slices.Backward(all) {
		if slices.Contains(g.Tags, selector) {
			return g, nil
		}
	}
	when, err := Time(selector, c)
	if err != nil {
		return state.Generation{}, fmt.Errorf("%.100q: %w: no generation has that tag, and it is no time", selector, state.ErrNotFound)
	}
	for _, g := range slices.Backward(all) {
		if !g.Time.After(when) {
			return g, nil
		}
	}
	return state.Generation{}, fmt.Errorf("%w: no generation is as old as %s", state.ErrNotFound, selector)
}

// ReservedTag says whether a tag would be read as something else in a name.
func ReservedTag(tag string) bool {
	if _, err := strconv.ParseUint(tag, 10, 64); err == nil {
		return true
	}
	_, err := Time(tag, Clock{})
	return tag == latest || err == nil
}

// layouts of times; those without a zone are in the clock's location. A day alone is its beginning.
var layouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05", "2006-01-02T15:04",
	time.DateTime, "2006-01-02 15:04", time.DateOnly,
}

// Time reads a time: 2026-11-25, 2026-11-25T10:00, 2026-11-25T10:00:30+01:00, or a span before now such as 36h or 7d.
func Time(s string, c Clock) (time.Time, error) {
	location := c.Location
	if location == nil {
		location = time.UTC
	}
	for _, layout := range layouts {
		if t, err := time.ParseInLocation(layout, s, location); err == nil {
			return t, nil
		}
	}
	span, err := Span(s)
	if err != nil {
		return time.Time{}, fmt.Errorf("%.100q is no time (write 2026-11-25, 2026-11-25T10:00, or a span before now such as 36h or 7d)", s)
	}
	return c.Now.Add(-span), nil
}

// Span reads a length of time: what Go writes (90m, 36h), or days and weeks (7d, 2w).
func Span(s string) (time.Duration, error) {
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return d, nil
	}
	day := 24 * time.Hour
	for unit, length := range map[string]time.Duration{"d": day, "w": 7 * day, "y": 365 * day} {
		number, ok := strings.CutSuffix(s, unit)
		if n, err := strconv.ParseUint(number, 10, 16); ok && err == nil {
			return time.Duration(n) * length, nil
		}
	}
	return 0, fmt.Errorf("%.100q is no length of time (write 90m, 36h, 7d or 2w)", s)
}
