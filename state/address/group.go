package address

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"orrery/state"
)

// Group returns the generations of the group that a name means, in the order given: latest, its id, a tag (the newest group
// of which a member has it), a time (the newest group that is not younger), or the beginning of its id.
// state.ErrNotFound, ErrAmbiguous.
func Group(all []state.Generation, name string, c Clock) ([]state.Generation, error) {
	groups, err := named(groupsOf(all), name, c)
	if err != nil {
		return nil, err
	}
	if len(groups) == 0 {
		return nil, fmt.Errorf("group %.100q: %w (see orrery snapshot list)", name, state.ErrNotFound)
	}
	return newestGroup(groups), nil
}

// groupsOf gathers the generations that were taken together.
func groupsOf(all []state.Generation) map[string][]state.Generation {
	groups := map[string][]state.Generation{}
	for _, g := range all {
		if g.Group != "" {
			groups[g.Group] = append(groups[g.Group], g)
		}
	}
	return groups
}

// named are the groups that a name may mean, all but the newest of which are of no interest.
func named(groups map[string][]state.Generation, name string, c Clock) (map[string][]state.Generation, error) {
	if name == latest {
		return groups, nil
	}
	if g, ok := groups[name]; ok {
		return map[string][]state.Generation{name: g}, nil
	}
	pick := func(fits func(id string, g []state.Generation) bool) map[string][]state.Generation {
		some := map[string][]state.Generation{}
		for id, g := range groups {
			if fits(id, g) {
				some[id] = g
			}
		}
		return some
	}
	tagged := pick(func(_ string, members []state.Generation) bool {
		return slices.ContainsFunc(members, func(g state.Generation) bool { return slices.Contains(g.Tags, name) })
	})
	if len(tagged) > 0 {
		return tagged, nil
	}
	if when, err := Time(name, c); err == nil {
		return pick(func(_ string, members []state.Generation) bool { return !taken(members).After(when) }), nil
	}
	begun := pick(func(id string, _ []state.Generation) bool { return name != "" && strings.HasPrefix(id, name) })
	if len(begun) > 1 {
		return nil, fmt.Errorf("group %.100q is not the beginning of one id alone (write more of it): %w", name, ErrAmbiguous)
	}
	return begun, nil
}

// taken is when the last of a group was.
func taken(members []state.Generation) (last time.Time) {
	for _, g := range members {
		if g.Time.After(last) {
			last = g.Time
		}
	}
	return last
}

func newestGroup(groups map[string][]state.Generation) (newest []state.Generation) {
	for _, members := range groups {
		if newest == nil || taken(members).After(taken(newest)) {
			newest = members
		}
	}
	return newest
}
