// Package push decides which events notify a user (clause client-server API, push notifications): rules, in the order in which they count, of which the
// first that matches an event says what happens.
package push

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"orrery/matrix"
)

// ErrNotFound says that there is no such rule.
var ErrNotFound = errors.New("no such rule")

// Kind is a kind of rules.
type Kind string

// The kinds, in the order in which they count.
const (
	Override    Kind = "override"
	Content     Kind = "content"
	Postcontent Kind = "postcontent" // of which users have none of their own (MSC4306)
	Room        Kind = "room"
	Sender      Kind = "sender"
	Underride   Kind = "underride"
)

// Kinds are all of them.
var Kinds = []Kind{Override, Content, Postcontent, Room, Sender, Underride}

// Rule is one rule.
type Rule struct {
	ID         string            `json:"rule_id"`
	Default    bool              `json:"default"`
	Enabled    bool              `json:"enabled"`
	Conditions []Condition       `json:"conditions,omitempty"`
	Pattern    *string           `json:"pattern,omitempty"` // of content rules
	Actions    []json.RawMessage `json:"actions"`
}

// Condition is what must be so for a rule to match.
type Condition struct {
	Kind    string          `json:"kind"`
	Key     string          `json:"key,omitempty"`
	Pattern *string         `json:"pattern,omitempty"`
	Value   json.RawMessage `json:"value,omitempty"`
	Is      string          `json:"is,omitempty"`

	Subscribed *bool `json:"subscribed,omitempty"` // to the event's thread (MSC4306)
}

// Rules are a user's, by kind, each in the order in which they count.
type Rules map[Kind][]Rule

func actions(all ...string) []json.RawMessage {
	out := []json.RawMessage{}
	for _, a := range all {
		out = append(out, json.RawMessage(a))
	}
	return out
}

const (
	notify    = `"notify"`
	sound     = `{"set_tweak":"sound","value":"default"}`
	ring      = `{"set_tweak":"sound","value":"ring"}`
	highlight = `{"set_tweak":"highlight"}`
)

func match(key, pattern string) Condition {
	return Condition{Kind: "event_match", Key: key, Pattern: &pattern}
}

func quote(s string) json.RawMessage {
	b, _ := json.Marshal(s)
	return b
}

// master turns all notifications off, before any other rule.
const master = ".m.rule.master"

// Defaults are the rules that a user of whom nothing else is known has (clause client-server API, predefined rules).
func Defaults(user string) Rules {
	rule := func(id string, actions []json.RawMessage, conditions ...Condition) Rule {
		return Rule{ID: ".m.rule." + id, Default: true, Enabled: ".m.rule."+id != master, Conditions: conditions, Actions: actions}
	}
	two := Condition{Kind: "room_member_count", Is: "2"}
	poll := func(id string, actions []json.RawMessage, event string, more ...Condition) Rule { // polls, as clients send them (MSC3381, MSC3930)
		return Rule{ID: ".org.matrix.msc3930.rule.poll_" + id, Default: true, Enabled: true, Actions: actions, Conditions: append(more, match("type", "org.matrix.msc3381.poll."+event))}
	}
	return Rules{
		Override: {
			rule("master", actions()),
			rule("suppress_notices", actions(), match("content.msgtype", "m.notice")),
			rule("invite_for_me", actions(notify, sound), match("type", matrix.TypeMember), match("content.membership", matrix.Invite), match("state_key", user)),
			rule("member_event", actions(), match("type", matrix.TypeMember)),
			rule("is_user_mention", actions(notify, sound, highlight), Condition{Kind: "event_property_contains", Key: `content.m\.mentions.user_ids`, Value: quote(user)}),
			rule("is_room_mention", actions(notify, highlight), Condition{Kind: "event_property_is", Key: `content.m\.mentions.room`, Value: json.RawMessage("true")},
				Condition{Kind: "sender_notification_permission", Key: "room"}),
			rule("tombstone", actions(notify, highlight), match("type", "m.room.tombstone"), match("state_key", "")),
			rule("reaction", actions(), match("type", "m.reaction")),
			rule("room.server_acl", actions(), match("type", "m.room.server_acl"), match("state_key", "")),
			rule("suppress_edits", actions(), Condition{Kind: "event_property_is", Key: `content.m\.relates_to.rel_type`, Value: quote("m.replace")}),
			poll("response", actions(), "response"),
		},
		Content: {}, Room: {}, Sender: {},
		Underride: {
			rule("call", actions(notify, ring), match("type", "m.call.invite")),
			rule("encrypted_room_one_to_one", actions(notify, sound), two, match("type", "m.room.encrypted")),
			rule("room_one_to_one", actions(notify, sound), two, match("type", "m.room.message")),
			rule("message", actions(notify), match("type", "m.room.message")),
			rule("encrypted", actions(notify), match("type", "m.room.encrypted")),
			poll("start_one_to_one", actions(notify, sound), "start", two),
			poll("start", actions(notify), "start"),
			poll("end_one_to_one", actions(notify, sound), "end", two),
			poll("end", actions(notify), "end"),
		},
	}
}

// AddThreads adds the default rules of subscriptions to threads: messages in those notify, whatever is set for the room, and in others they do not (MSC4306).
func (rs Rules) AddThreads() {
	rule := func(id string, subscribed bool, actions []json.RawMessage) Rule {
		return Rule{ID: ".io.element.msc4306.rule." + id, Default: true, Enabled: true, Actions: actions, Conditions: []Condition{{Kind: subscription, Subscribed: &subscribed}}}
	}
	rs[Postcontent] = []Rule{rule("unsubscribed_thread", false, actions()), rule("subscribed_thread", true, actions(notify, sound))}
}

// With are default rules with what a user changed: own rules, and which of the default ones do what. Own rules count before the default ones of
// their kind, but for the master rule. It changes the default ones, and returns them.
func With(all, changed Rules) Rules {
	for _, kind := range Kinds {
		if _, served := all[kind]; !served {
			continue
		}
		var own []Rule
		for _, r := range changed[kind] {
			if !r.Default {
				own = append(own, r)
			} else if i := find(all[kind], r.ID); i >= 0 {
				all[kind][i].Enabled, all[kind][i].Actions = r.Enabled, r.Actions
			}
		}
		first := 0
		if kind == Override {
			first = 1
		}
		all[kind] = slices.Insert(all[kind], first, own...)
	}
	return all
}

func find(rules []Rule, id string) int {
	return slices.IndexFunc(rules, func(r Rule) bool { return r.ID == id })
}

// Find is a rule.
func (rs Rules) Find(kind Kind, id string) (Rule, error) {
	i := find(rs[kind], id)
	if i < 0 {
		return Rule{}, fmt.Errorf("%w: %s %s", ErrNotFound, kind, id)
	}
	return rs[kind][i], nil
}

// Change changes a rule.
func (rs Rules) Change(kind Kind, id string, with func(*Rule)) error {
	i := find(rs[kind], id)
	if i < 0 {
		return fmt.Errorf("%w: %s %s", ErrNotFound, kind, id)
	}
	with(&rs[kind][i])
	return nil
}

// Remove removes one of the user's own rules.
func (rs Rules) Remove(kind Kind, id string) error {
	i := find(rs[kind], id)
	if i < 0 || rs[kind][i].Default {
		return fmt.Errorf("%w of the user's own: %s %s", ErrNotFound, kind, id)
	}
	rs[kind] = slices.Delete(rs[kind], i, i+1)
	return nil
}

// Put sets one of the user's own rules: before or after another one if those are named, otherwise where it was, or first of the own ones (clause
// client-server API, PUT pushrules).
func (rs Rules) Put(kind Kind, r Rule, before, after string) error {
	if r.ID == "" || strings.HasPrefix(r.ID, ".") || strings.ContainsAny(r.ID, `/\`) {
		return fmt.Errorf("rule id %q is %w: it is empty, begins with a dot, or has a slash", r.ID, matrix.ErrMalformed)
	}
	list := rs[kind]
	at := find(list, r.ID)
	r.Enabled = true
	if at >= 0 {
		r.Enabled = list[at].Enabled
		list = slices.Delete(slices.Clone(list), at, at+1)
	}
	switch {
	case before != "" || after != "":
		other, more := before, 0
		if before == "" {
			other, more = after, 1
		}
		i := find(list, other)
		if i < 0 || list[i].Default {
			return fmt.Errorf("%w of the user's own, to put it beside: %s %s", ErrNotFound, kind, other)
		}
		at = i + more
	case at < 0:
		if at = 0; kind == Override {
			at = 1
		}
	}
	rs[kind] = slices.Insert(list, at, r)
	return nil
}
