// Package window chooses, for Simplified Sliding Sync (MSC4186), which of a user's rooms a client is told about, and how much of each.
//
// Nothing here reads or waits: rooms come in as Facts, in their order by activity, and what a request wants of them goes out. The two dialects
// in which clients speak (the deployed one and the accepted one) are both read into a Request.
package window

import (
	"slices"
	"strings"

	"orrery/matrix"
)

// Request is which rooms a client wants.
type Request struct {
	Lists         map[string]List
	Subscriptions map[string]Config // by the room's id
}

// List is a rule: rooms that fit a filter, and of those the ones at some places.
type List struct {
	Config

	Ranges [][2]int // of places, both ends included; nil: all
	Filter Filter
}

// Config is how much of a room is told (MSC4186, "room config").
type Config struct {
	Timeline int
	Required []Required // any of them
}

// Required is which state is told (MSC4186, RequiredStateRequest).
type Required struct {
	Include, Exclude []Element
	Lazy             bool // members only as the timeline needs them
}

// Element matches state; what is nil matches everything.
type Element struct{ Type, StateKey *string }

func (x Element) matches(key matrix.Key) bool {
	return (x.Type == nil || *x.Type == key.Type) && (x.StateKey == nil || *x.StateKey == key.StateKey)
}

// wants says whether a piece of state is told because it is asked for. Where members are told lazily, only what names their type asks for them.
func (q Required) wants(key matrix.Key) bool {
	if slices.ContainsFunc(q.Exclude, func(x Element) bool { return x.matches(key) }) {
		return false
	}
	lazy := q.Lazy && key.Type == matrix.TypeMember
	return slices.ContainsFunc(q.Include, func(x Element) bool { return x.matches(key) && (!lazy || x.Type != nil) })
}

// Wants says whether a piece of state is told because it is asked for.
func (c Config) Wants(key matrix.Key) bool {
	return slices.ContainsFunc(c.Required, func(q Required) bool { return q.wants(key) })
}

// Lazy says whether members are told as the timeline needs them.
func (c Config) Lazy() bool {
	return slices.ContainsFunc(c.Required, func(q Required) bool { return q.Lazy })
}

// Keys are the pieces of state that are asked for by type and key; others says that there may be more, by what matches everything.
func (c Config) Keys() (keys []matrix.Key, others bool) {
	for _, q := range c.Required {
		for _, x := range q.Include {
			if x.Type == nil || x.StateKey == nil {
				others = true
				continue
			}
			if key := (matrix.Key{Type: *x.Type, StateKey: *x.StateKey}); !slices.Contains(keys, key) {
				keys = append(keys, key)
			}
		}
	}
	return keys, others
}

// Equal says whether two configs tell the same.
func (c Config) Equal(d Config) bool {
	return c.Timeline == d.Timeline && slices.EqualFunc(c.Required, d.Required, func(a, b Required) bool {
		return a.Lazy == b.Lazy && equal(a.Include, b.Include) && equal(a.Exclude, b.Exclude)
	})
}

func equal(a, b []Element) bool {
	same := func(x, y *string) bool { return x == y || x != nil && y != nil && *x == *y }
	return slices.EqualFunc(a, b, func(x, y Element) bool { return same(x.Type, y.Type) && same(x.StateKey, y.StateKey) })
}

// and is a config that tells what either does (MSC4186, combining room configs).
func (c Config) and(d Config) Config {
	sum := Config{Timeline: max(c.Timeline, d.Timeline), Required: slices.Clone(c.Required)}
	for _, q := range d.Required {
		one := Config{Required: []Required{q}}
		if !slices.ContainsFunc(sum.Required, func(p Required) bool { return one.Equal(Config{Required: []Required{p}}) }) {
			sum.Required = append(sum.Required, q)
		}
	}
	return sum
}

// Filter chooses rooms (MSC4186, SlidingRoomFilter); what is nil chooses all.
type Filter struct {
	Direct, Encrypted, Invited *bool
	Types, NotTypes            []string // "" is a room without type
	Tags, NotTags              []string
	Spaces                     []string
	Name                       string // a part of the room's name, of the deployed dialect
}

// Facts are what is known of a room that may be told.
type Facts struct {
	ID        string
	Direct    bool
	Encrypted bool
	Invited   bool
	Type      string
	Name      string
	Tags      []string
	Spaces    []string // those of which it is a child, as far as the user is a member of them
}

func (f Filter) fits(r Facts) bool {
	is := func(want *bool, have bool) bool { return want == nil || *want == have }
	oneOf := func(some, of []string) bool {
		return slices.ContainsFunc(of, func(s string) bool { return slices.Contains(some, s) })
	}
	return is(f.Direct, r.Direct) && is(f.Encrypted, r.Encrypted) && is(f.Invited, r.Invited) &&
		(f.Types == nil || slices.Contains(f.Types, r.Type)) && !slices.Contains(f.NotTypes, r.Type) &&
		(f.Tags == nil || oneOf(f.Tags, r.Tags)) && !oneOf(f.NotTags, r.Tags) && (f.Spaces == nil || oneOf(f.Spaces, r.Spaces)) &&
		(f.Name == "" || strings.Contains(strings.ToLower(r.Name), strings.ToLower(f.Name)))
}

// Room is a room that a client is to be told about.
type Room struct {
	ID     string
	Config Config
	Lists  []string // those that chose it, by name
}

// Choose are the rooms that a request wants, in the order in which they are given, and how many fit each list.
func Choose(q Request, rooms []Facts) ([]Room, map[string]int) {
	counts := map[string]int{}
	var chosen []Room
	names := make([]string, 0, len(q.Lists))
	for name := range q.Lists {
		names = append(names, name)
		counts[name] = 0
	}
	slices.Sort(names)
	for _, r := range rooms {
		config, wanted := q.Subscriptions[r.ID]
		var lists []string
		for _, name := range names {
			l := q.Lists[name]
			if !l.Filter.fits(r) {
				continue
			}
			place := counts[name]
			counts[name]++
			if l.Ranges == nil || slices.ContainsFunc(l.Ranges, func(x [2]int) bool { return x[0] <= place && place <= x[1] }) {
				config, lists, wanted = config.and(l.Config), append(lists, name), true
			}
		}
		if wanted {
			chosen = append(chosen, Room{r.ID, config, lists})
		}
	}
	return chosen, counts
}
