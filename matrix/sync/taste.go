package sync

import (
	"context"
	"encoding/json"
	"slices"

	"orrery/matrix"
	"orrery/matrix/push"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Types of account data by which a user says of whom they want to hear, and which rooms are direct chats.
const (
	Ignored = "m.ignored_user_list"        // clause client-server API, ignoring users
	Invites = "m.invite_permission_config" // clause client-server API, invite permission; MSC4380
	Direct  = "m.direct"                   // clause client-server API, direct messaging
)

// taste is what a user wants to hear of.
type taste struct {
	*push.Matcher

	ignored   map[string]bool
	uninvited bool // no invitations

	threads map[string]bool // by their roots, those that the user is subscribed to; nil: nobody subscribes
}

// taste is a user's, read from the store the first time.
func (s *Syncer) taste(ctx context.Context, user string) (*taste, error) {
	return s.news.tastes.get(user, func() (*taste, error) { return s.readTaste(ctx, user) })
}

func (s *Syncer) readTaste(ctx context.Context, user string) (*taste, error) {
	found := &taste{ignored: map[string]bool{}}
	err := s.stream.DB().View(ctx, func(tx table.Tx) error {
		rules, err := s.ReadRules(tx, user)
		if err != nil {
			return err
		}
		found.Matcher = push.Compile(user, rules)
		d, _, err := store.AllAccountData.Get(tx, user, "", Ignored)
		if err != nil {
			return err
		}
		var list struct {
			Users map[string]json.RawMessage `json:"ignored_users"`
		}
		_ = json.Unmarshal(d.JSON, &list) // clients write what they like
		for who := range list.Users {
			found.ignored[who] = who != user
		}
		if found.uninvited, err = BlocksInvites(tx, user); err != nil || !s.subscriptions {
			return err
		}
		found.threads, err = subscribed(tx, user)
		return err
	})
	return found, err
}

// BlocksInvites says whether a user wants no invitations.
func BlocksInvites(tx table.Tx, user string) (bool, error) {
	d, _, err := store.AllAccountData.Get(tx, user, "", Invites)
	var content struct {
		Default string `json:"default_action"`
	}
	_ = json.Unmarshal(d.JSON, &content)
	return content.Default == "block", err
}

// hearsOf says whether a user wants to hear of an event: of state, and of what others sent whom the user does not ignore.
func (t *taste) hearsOf(e *room.Entry) bool {
	if !t.ignored[e.Sender()] {
		return true
	}
	_, isState := e.StateKey()
	return isState
}

// hears are those of some events that a user wants to hear of.
func (t *taste) hears(events []*room.Entry) []*room.Entry {
	if len(t.ignored) == 0 {
		return events
	}
	return slices.DeleteFunc(slices.Clone(events), func(e *room.Entry) bool { return !t.hearsOf(e) })
}

// Ignored are the users of whom somebody does not want to hear (clause client-server API, ignoring users).
func (s *Syncer) Ignored(ctx context.Context, user string) (map[string]bool, error) {
	t, err := s.taste(ctx, user)
	if err != nil {
		return nil, err
	}
	return t.ignored, nil
}

// Hears are those of some events that a user wants to hear of.
func (s *Syncer) Hears(ctx context.Context, user string, events []*room.Entry) ([]*room.Entry, error) {
	t, err := s.taste(ctx, user)
	if err != nil {
		return nil, err
	}
	return t.hears(events), nil
}

// invited says whether a user wants to hear of an invitation to a room.
func (t *taste) invited(r *room.Room, user string) bool {
	m := r.State(matrix.Key{Type: matrix.TypeMember, StateKey: user})
	return !t.uninvited && (m == nil || !t.ignored[m.Sender()])
}
