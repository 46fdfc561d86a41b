// Package matrixtest makes rooms by chance, with the forks that servers make when they do not hear of one another, for tests of everything that
// works on a room's graph.
package matrixtest

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"orrery/matrix"
	"orrery/matrix/auth"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
	"orrery/matrix/resolve"
	"orrery/matrix/signature"
)

// Server is the one that all users of a Room are on.
const Server = "orrery.test"

// Key is the key of Server.
var Key = signature.Key{ID: "ed25519:test", Private: ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))}

// Room is a room's graph, with the state after each event.
type Room struct {
	Version *matrix.Version
	ID      string
	Users   []string // the first one made the room
	All     []*event.Event
	After   map[string]resolve.State

	tb     testing.TB
	rand   *rand.Rand
	byID   map[string]*event.Event
	time   int64
	serial int
}

// New makes a room with its creator, power levels and a public join rule. The same seed makes the same room.
func New(tb testing.TB, version *matrix.Version, seed uint64, users int) *Room {
	tb.Helper()
	r := &Room{Version: version, After: map[string]resolve.State{}, tb: tb, rand: rand.New(rand.NewPCG(seed, 0)), byID: map[string]*event.Event{}, time: 1000}
	for i := range users {
		r.Users = append(r.Users, fmt.Sprintf("@u%d:%s", i, Server))
	}
	if !version.CreateIsRoom {
		r.ID = fmt.Sprintf("!room%d:%s", seed, Server)
	}
	creator := r.Users[0]
	content := Object("room_version", version.ID)
	if version.CreatorField {
		content = content.With("creator", canonical.Text(creator))
	}
	create := r.Add(nil, matrix.TypeCreate, creator, new(string), content)
	r.ID = create.RoomID()
	joined := r.Add([]*event.Event{create}, matrix.TypeMember, creator, &creator, Object("membership", matrix.Join))
	levels := canonical.Of(canonical.Member{Name: "users", Value: canonical.Of()})
	if !version.CreateIsRoom {
		levels = levels.With("users", canonical.Of(canonical.Member{Name: creator, Value: canonical.Int(100)}))
	}
	set := r.Add([]*event.Event{joined}, matrix.TypePowerLevels, creator, new(string), levels)
	r.Add([]*event.Event{set}, matrix.TypeJoinRules, creator, new(string), Object("join_rule", "public"))
	return r
}

// Object is an object of strings: names and values in turn.
func Object(pairs ...string) canonical.Value {
	v := canonical.Of()
	for i := 0; i+1 < len(pairs); i += 2 {
		v = v.With(pairs[i], canonical.Text(pairs[i+1]))
	}
	return v
}

// Event is that with an id, nil if there is none.
func (r *Room) Event(id string) *event.Event { return r.byID[id] }

// Rejected says that no event of the room was.
func (r *Room) Rejected(string) bool { return false }

// Before is the state after some events, resolved.
func (r *Room) Before(prev []*event.Event) resolve.State {
	states := make([]resolve.State, len(prev))
	for i, e := range prev {
		states[i] = r.After[e.ID()]
	}
	if len(states) == 1 {
		return states[0]
	}
	s, err := resolve.Resolve(r.Version, states, r)
	if err != nil {
		r.tb.Fatal(err)
	}
	return s
}

// Make makes an event after others, without adding it; the auth events are those of the state there.
func (r *Room) Make(prev []*event.Event, kind, sender string, stateKey *string, content canonical.Value) (*event.Event, auth.State) {
	state := resolve.State{}
	if len(prev) > 0 {
		state = r.Before(prev)
	}
	r.serial++
	r.time += r.rand.Int64N(3) // some at the same time
	d := event.Draft{Type: kind, Sender: sender, StateKey: stateKey, Content: content, Timestamp: r.time, RoomID: r.ID}
	if r.Version.IDs == matrix.IDGiven {
		d.ID = fmt.Sprintf("$e%d:%s", r.serial, Server)
	}
	for _, e := range prev {
		d.Prev = append(d.Prev, e.Ref())
		d.Depth = max(d.Depth, e.Depth()+1)
	}
	key := ""
	if stateKey != nil {
		key = *stateKey
	}
	for _, k := range auth.Select(r.Version, kind, sender, key, content) {
		if id, ok := state[k]; ok {
			d.Auth = append(d.Auth, r.byID[id].Ref())
		}
	}
	e, err := event.Make(r.Version, d, Server, Key)
	if err != nil {
		r.tb.Fatal(err)
	}
	return e, func(k matrix.Key) *event.Event { return r.byID[state[k]] }
}

// Add makes an event after others and adds it; it must be allowed there.
func (r *Room) Add(prev []*event.Event, kind, sender string, stateKey *string, content canonical.Value) *event.Event {
	e, state := r.Make(prev, kind, sender, stateKey, content)
	if err := auth.Check(e, state); err != nil {
		r.tb.Fatal(err)
	}
	r.add(e, prev)
	return e
}

func (r *Room) add(e *event.Event, prev []*event.Event) {
	after := resolve.State{}
	if len(prev) > 0 {
		maps.Copy(after, r.Before(prev))
	}
	if _, isState := e.StateKey(); isState {
		after[e.Key()] = e.ID()
	}
	r.byID[e.ID()] = e
	r.All = append(r.All, e)
	r.After[e.ID()] = after
}

// Grow adds some events by chance, each after one to three of the latest; what the rules do not allow is left out.
func (r *Room) Grow(n int) { r.Each(n, func(*event.Event, auth.State) {}) }

// Each is Grow, and calls a function with each event, allowed or not, and the state before it.
func (r *Room) Each(n int, f func(*event.Event, auth.State)) {
	for range n {
		prev := r.latest(1 + r.rand.IntN(3))
		kind, sender, stateKey, content := r.action()
		e, state := r.Make(prev, kind, sender, stateKey, content)
		f(e, state)
		switch err := auth.Check(e, state); {
		case err == nil:
			r.add(e, prev)
		case !errors.Is(err, matrix.ErrForbidden):
			r.tb.Fatal(err)
		}
	}
}

// Branch grows a line of so many events by chance after another event, and is its last one. Of the states on the way only that after the last is kept.
func (r *Room) Branch(from *event.Event, n int) *event.Event {
	last := from
	for n > 0 {
		kind, sender, stateKey, content := r.action()
		e, state := r.Make([]*event.Event{last}, kind, sender, stateKey, content)
		switch err := auth.Check(e, state); {
		case err == nil:
			r.add(e, []*event.Event{last})
			if last != from {
				delete(r.After, last.ID())
			}
			last = e
			n--
		case !errors.Is(err, matrix.ErrForbidden):
			r.tb.Fatal(err)
		}
	}
	return last
}

// latest is some different events among the last ones.
func (r *Room) latest(n int) []*event.Event {
	from := max(4, len(r.All)-6) - 1 // the room's beginning has no forks
	var all []*event.Event
	for _, i := range r.rand.Perm(len(r.All) - from) {
		if len(all) < n {
			all = append(all, r.All[from+i])
		}
	}
	return all
}

// States are the states after a few different events by chance, to be resolved.
func (r *Room) States(n int) []resolve.State {
	var all []resolve.State
	for _, e := range r.latest(n) {
		all = append(all, r.After[e.ID()])
	}
	return all
}

func (r *Room) user() string { return r.Users[r.rand.IntN(len(r.Users))] }

// action is something that somebody might do.
func (r *Room) action() (kind, sender string, stateKey *string, content canonical.Value) {
	sender, target := r.user(), r.user()
	switch n := r.rand.IntN(20); {
	case n < 6:
		return matrix.TypeMember, sender, &sender, Object("membership", matrix.Join)
	case n < 8:
		return matrix.TypeMember, sender, &target, Object("membership", matrix.Invite)
	case n < 10:
		return matrix.TypeMember, sender, &target, Object("membership", matrix.Leave)
	case n < 12:
		return matrix.TypeMember, sender, &target, Object("membership", matrix.Ban)
	case n < 15:
		return matrix.TypePowerLevels, sender, new(string), r.levels()
	case n < 17:
		rules := []string{"public", "invite", "invite"}
		if r.Version.Knock {
			rules = append(rules, matrix.Knock)
		}
		return matrix.TypeJoinRules, sender, new(string), Object("join_rule", rules[r.rand.IntN(len(rules))])
	}
	return "m.room.topic", sender, new(string), Object("topic", fmt.Sprint(r.serial))
}

func (r *Room) levels() canonical.Value {
	users := canonical.Of()
	for i, u := range r.Users {
		if i == 0 && !r.Version.CreateIsRoom {
			users = users.With(u, canonical.Int(100))
		} else if i > 0 && r.rand.IntN(2) == 0 {
			users = users.With(u, canonical.Int(int64(r.rand.IntN(3)*50)))
		}
	}
	v := canonical.Of(canonical.Member{Name: "users", Value: users})
	if r.rand.IntN(3) == 0 {
		v = v.With("state_default", canonical.Int(int64(r.rand.IntN(2)*50)))
	}
	return v
}
