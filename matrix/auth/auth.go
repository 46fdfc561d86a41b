// Package auth holds the rules by which events are allowed into a room (clause room versions, authorisation rules), for every room version.
//
// Check tests an event against a state: the one that its auth events make, the one before it, or the room's current one. CheckSelection tests
// whether it names the right auth events. An event that is not allowed gets a Rejection, which names the rule by its number in the clause of
// its room version. The signatures that rules speak of are checked before, by event.CheckSignatures.
package auth

import (
	"fmt"
	"slices"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
)

// Rejection says which rule does not allow an event. It is a matrix.ErrForbidden.
type Rejection struct {
	Event   string // its id
	Version string // the room version
	Rule    string // as numbered in the clause of the room version, as in 5.3.1
	Reason  string
}

// Error names the rule.
func (r *Rejection) Error() string {
	return fmt.Sprintf("event %s is not allowed by rule %s of room version %s: %s", r.Event, r.Rule, r.Version, r.Reason)
}

// Unwrap is matrix.ErrForbidden.
func (r *Rejection) Unwrap() error { return matrix.ErrForbidden }

// State is the event of a room's state at a key, nil if there is none. For a room version whose rooms are named by their create event it must
// know that event too, although auth events never name it.
type State func(matrix.Key) *event.Event

// List is a state of a few events; of several with the same key the last one counts.
func List(events ...*event.Event) State {
	return func(key matrix.Key) *event.Event {
		for _, e := range slices.Backward(events) {
			if e.Is(key.Type, key.StateKey) {
				return e
			}
		}
		return nil
	}
}

// Selection is the keys of the state that must be among an event's auth events, where the state has them (clause server-server API, auth events
// selection).
func Selection(e *event.Event) []matrix.Key {
	return Select(e.Version(), e.Type(), e.Sender(), e.Key().StateKey, e.Content())
}

// Select is the same for an event that is not made yet.
func Select(version *matrix.Version, kind, sender, stateKey string, content canonical.Value) []matrix.Key {
	if kind == matrix.TypeCreate {
		return nil
	}
	var keys []matrix.Key
	add := func(kind, stateKey string) {
		if key := (matrix.Key{Type: kind, StateKey: stateKey}); !slices.Contains(keys, key) {
			keys = append(keys, key)
		}
	}
	if !version.CreateIsRoom {
		add(matrix.TypeCreate, "")
	}
	add(matrix.TypePowerLevels, "")
	add(matrix.TypeMember, sender)
	if kind != matrix.TypeMember {
		return keys
	}
	add(matrix.TypeMember, stateKey)
	membership := content.Get("membership").String()
	if membership == matrix.Join || membership == matrix.Invite || membership == matrix.Knock {
		add(matrix.TypeJoinRules, "")
	}
	if token, ok := content.Get("third_party_invite", "signed").Find("token"); membership == matrix.Invite && ok {
		add(matrix.TypeThirdPartyInvite, token.String())
	}
	if by := content.Get("join_authorised_via_users_server").String(); membership == matrix.Join && by != "" && version.Restricted {
		add(matrix.TypeMember, by)
	}
	return keys
}

// CheckSelection tests the rule about an event's auth events, given all of them; rejected says which of them were themselves rejected.
func CheckSelection(e *event.Event, authEvents []*event.Event, rejected func(id string) bool) error {
	if e.Type() == matrix.TypeCreate {
		return nil // its rule says all
	}
	n := numbersOf(e.Version())
	c := &check{e: e}
	allowed := Selection(e)
	seen := map[matrix.Key]bool{}
	for _, a := range authEvents {
		_, isState := a.StateKey()
		if seen[a.Key()] {
			c.reject(n.authEvents, 1, "%s %q is twice among its auth events", a.Type(), a.Key().StateKey)
		}
		seen[a.Key()] = true
		if !isState || !slices.Contains(allowed, a.Key()) {
			c.reject(n.authEvents, 2, "its auth event %s is a %s %q, which does not authorise it", a.ID(), a.Type(), a.Key().StateKey)
		}
		if rejected(a.ID()) {
			c.reject(n.authEvents, 3, "its auth event %s was rejected", a.ID())
		}
		if a.RoomID() != e.RoomID() {
			c.reject(n.authEvents, 5, "its auth event %s is of another room, %s", a.ID(), a.RoomID())
		}
	}
	if !e.Version().CreateIsRoom && !seen[matrix.Key{Type: matrix.TypeCreate}] {
		c.reject(n.authEvents, 4, "no create event is among its auth events")
	}
	return c.result()
}

// Check tests an event against a state by all rules but that about its auth events.
func Check(e *event.Event, state State) error {
	c := &check{e: e, v: e.Version(), n: numbersOf(e.Version()), state: state}
	if e.Type() == matrix.TypeCreate {
		c.createEvent()
		return c.result()
	}
	c.create = state(matrix.Key{Type: matrix.TypeCreate})
	if c.create == nil || c.create.RoomID() != e.RoomID() {
		if c.v.CreateIsRoom {
			c.reject(c.n.room, 0, "its room %s is not that of an accepted create event", e.RoomID())
		} else {
			c.reject(c.n.authEvents, 4, "the room has no create event")
		}
		return c.result()
	}
	c.levels = ReadLevels(c.v, c.create, state(matrix.Key{Type: matrix.TypePowerLevels}))
	c.rules()
	return c.result()
}

// check is one event being tested. Rules call reject or allow, and return right after it.
type check struct {
	e      *event.Event
	v      *matrix.Version
	n      numbers
	state  State
	create *event.Event
	levels Levels
	why    *Rejection
}

func (c *check) result() error {
	if c.why == nil {
		return nil
	}
	return c.why
}

// reject notes the first rule that does not allow the event. A number of 0 is not written.
func (c *check) reject(rule int, sub int, format string, args ...any) {
	c.rejectAt(fmt.Sprint(rule), sub, format, args...)
}

func (c *check) rejectAt(rule string, sub int, format string, args ...any) {
	if c.why != nil {
		return
	}
	if sub > 0 {
		rule = fmt.Sprintf("%s.%d", rule, sub)
	}
	c.why = &Rejection{Event: c.e.ID(), Version: c.e.Version().ID, Rule: rule, Reason: fmt.Sprintf(format, args...)}
}

// membership is a user's in the state; "" if there is none.
func (c *check) membership(user string) string {
	if m := c.state(matrix.Key{Type: matrix.TypeMember, StateKey: user}); m != nil {
		return m.Membership()
	}
	return ""
}

// joinRule is the room's; it is invite where none is set (clause client-server API, m.room.join_rules).
func (c *check) joinRule() string {
	if e := c.state(matrix.Key{Type: matrix.TypeJoinRules}); e != nil {
		return e.Content().Get("join_rule").String()
	}
	return matrix.Invite
}

// rules are those that follow the checks of the create event and of auth events.
func (c *check) rules() {
	e, v, n := c.e, c.v, c.n
	sender := matrix.Domain(e.Sender())
	if c.create.Content().Get("m.federate").IsFalse() && sender != matrix.Domain(c.create.Sender()) {
		c.reject(n.federate, 0, "the room does not federate, and %s is not the server that made it", sender)
		return
	}
	stateKey, isState := e.StateKey()
	if v.Aliases && e.Type() == matrix.TypeAliases {
		if !isState {
			c.reject(n.aliases, 1, "it has no state key")
		} else if stateKey != sender {
			c.reject(n.aliases, 2, "its state key %q is not its sender's server", stateKey)
		}
		return
	}
	if e.Type() == matrix.TypeMember {
		c.member()
		return
	}
	if m := c.membership(e.Sender()); m != matrix.Join {
		c.reject(n.joined, 0, "its sender has not joined (%s)", orNone(m))
		return
	}
	power := c.levels.User(e.Sender())
	if e.Type() == matrix.TypeThirdPartyInvite {
		if power < c.levels.Invite() {
			c.reject(n.thirdParty, 1, "its sender's power level %s is below that for invitations, %d", Level(power), c.levels.Invite())
		}
		return
	}
	if need := c.levels.Event(e.Type(), isState); power < need {
		c.reject(n.required, 0, "its sender's power level %s is below that of its type, %d", Level(power), need)
		return
	}
	if isState && len(stateKey) > 0 && stateKey[0] == '@' && stateKey != e.Sender() {
		c.reject(n.ownKey, 0, "its state key is the user id of somebody else")
		return
	}
	switch {
	case e.Type() == matrix.TypePowerLevels:
		c.powerLevels()
	case v.RedactionRule && e.Type() == matrix.TypeRedaction:
		if power < c.levels.Redact() && matrix.Domain(e.Redacts()) != matrix.Domain(e.ID()) {
			c.reject(n.redaction, 3, "its sender's power level %s is below that for redactions, %d, and what it redacts is another server's", Level(power), c.levels.Redact())
		}
	}
}

func orNone(membership string) string {
	if membership == "" {
		return "no membership"
	}
	return membership
}
