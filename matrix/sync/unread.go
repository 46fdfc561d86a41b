package sync

import (
	"context"
	"encoding/json"

	"orrery/matrix"
	"orrery/matrix/push"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// PushRules is the type of account data with a user's push rules.
const PushRules = "m.push_rules"

// maxUnread is how many events are looked at to count those that were not read; more of them are not counted.
const maxUnread = 1000

// unread is how many events notify a user of a room that were not read, up to an order. They are counted when somebody asks, from where the last count
// ended.
type unread struct {
	read, upTo                int64
	notifications, highlights int
}

// Rules are a user's push rules.
func (s *Syncer) Rules(ctx context.Context, user string) (rules push.Rules, err error) {
	err = s.stream.DB().View(ctx, func(tx table.Tx) error {
		rules, err = ReadRules(tx, user)
		return err
	})
	return rules, err
}

// ReadRules reads a user's push rules.
func ReadRules(tx table.Tx, user string) (push.Rules, error) {
	d, ok, err := store.AllAccountData.Get(tx, user, "", PushRules)
	if err != nil || !ok {
		return push.Defaults(user), err
	}
	var kept struct {
		Global push.Rules `json:"global"`
	}
	if err := json.Unmarshal(d.JSON, &kept); err != nil {
		return nil, err
	}
	return push.With(user, kept.Global), nil
}

// defaultRules are the push rules of a user who has changed none, as account data.
func defaultRules(user string) (json.RawMessage, error) {
	return json.Marshal(map[string]any{"type": PushRules, "content": map[string]any{"global": push.Defaults(user)}})
}

// RulesChanged makes what a user wants to hear of be read again, and all be counted anew.
func (s *Syncer) RulesChanged(user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.tastes, user)
	delete(s.unread, user)
}

// count is how many events of a room notify a user that were not read.
func (s *Syncer) count(ctx context.Context, r *room.Room, user string, upTo int64) (unread, error) {
	e, err := s.ephemeral(ctx, r.ID())
	if err != nil {
		return unread{}, err
	}
	read := e.readUpTo(user)
	m, err := s.membership(ctx, user, r.ID())
	if err != nil {
		return unread{}, err
	}
	read = max(read, m.order) // nobody missed what was before they came
	s.mu.Lock()
	u := s.unread[user][r.ID()]
	s.mu.Unlock()
	if u.read != read || u.upTo > upTo {
		u = unread{read: read, upTo: read}
	}
	taste, err := s.taste(ctx, user)
	if err != nil {
		return u, err
	}
	events, _, err := r.Timeline(ctx, u.upTo, upTo, maxUnread)
	if err != nil {
		return u, err
	}
	for _, n := range notified(r, user, taste, events) {
		u.notifications++
		if n.Outcome.Highlight {
			u.highlights++
		}
	}
	if u.upTo = upTo; len(events) == 0 {
		return u, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unread[user] == nil {
		s.unread[user] = map[string]unread{}
	}
	s.unread[user][r.ID()] = u
	return u, nil
}

// notified are those of some events that notify a user.
func notified(r *room.Room, user string, taste *taste, events []*room.Entry) (found []Notification) {
	facts, levels := facts(r, user), r.Levels()
	for _, e := range taste.hears(events) {
		if e.Redacted != "" {
			continue
		}
		facts.MayNotify = func(key string) bool { return levels.User(e.Sender()) >= levels.Notification(key) }
		if o := taste.Match(e.Event, facts); o.Notify {
			found = append(found, Notification{Room: r, Event: e, Outcome: o})
		}
	}
	return found
}

func facts(r *room.Room, user string) push.Facts {
	f := push.Facts{Members: r.Size()}
	if m := r.State(matrix.Key{Type: matrix.TypeMember, StateKey: user}); m != nil {
		f.Name = m.Content().Get("displayname").String()
	}
	return f
}
