package sync

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

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
	counts

	taste   *taste            // by which they were counted
	read    int64             // up to here in all threads
	reads   int64             // position of the user's newest receipt
	upTo    int64             // what was looked at
	threads map[string]counts // those that are not the main timeline; never changed
}

// counts are how many events notify, and how many of these are highlights.
type counts struct {
	notifications, highlights int
}

func (c counts) plus(highlight bool) counts {
	if c.notifications++; highlight {
		c.highlights++
	}
	return c
}

// main is what is unread in the main timeline.
func (u unread) main() counts {
	c := u.counts
	for _, t := range u.threads {
		c.notifications -= t.notifications
		c.highlights -= t.highlights
	}
	return c
}

// show is what clients are told: all that is unread, or the main timeline and each thread by itself (clause client-server API, receiving notifications).
func (u unread) show(byThread bool) (all Counts, threads map[string]Counts) {
	if !byThread {
		return Counts{u.highlights, u.notifications}, nil
	}
	c := u.main()
	threads = map[string]Counts{}
	for root, t := range u.threads {
		threads[root] = Counts{t.highlights, t.notifications}
	}
	return Counts{c.highlights, c.notifications}, threads
}

// mainThread is the name of the main timeline in receipts.
const mainThread = "main"

// Rules are a user's push rules.
func (s *Syncer) Rules(ctx context.Context, user string) (rules push.Rules, err error) {
	err = s.stream.DB().View(ctx, func(tx table.Tx) error {
		rules, err = s.ReadRules(tx, user)
		return err
	})
	return rules, err
}

// ReadRules reads a user's push rules.
func (s *Syncer) ReadRules(tx table.Tx, user string) (push.Rules, error) {
	d, ok, err := store.AllAccountData.Get(tx, user, "", PushRules)
	if err != nil || !ok {
		return s.rules(user), err
	}
	var kept struct {
		Global push.Rules `json:"global"`
	}
	if err := json.Unmarshal(d.JSON, &kept); err != nil {
		return nil, err
	}
	return push.With(s.rules(user), kept.Global), nil
}

// rules are the push rules of a user who has changed none.
func (s *Syncer) rules(user string) push.Rules {
	all := push.Defaults(user)
	if s.subscriptions {
		all.AddThreads()
	}
	return all
}

// defaultRules are the push rules of a user who has changed none, as account data.
func (s *Syncer) defaultRules(user string) (json.RawMessage, error) {
	return json.Marshal(map[string]any{"type": PushRules, "content": map[string]any{"global": s.rules(user)}})
}

// count is how many events of a room notify a user that were not read.
func (s *Syncer) count(ctx context.Context, r *room.Room, user string, upTo int64) (unread, error) {
	e, err := s.ephemeral(ctx, r.ID())
	if err != nil {
		return unread{}, err
	}
	had := e.readBy(user)
	m, err := s.membership(ctx, user, r.ID())
	if err != nil {
		return unread{}, err
	}
	read := max(had.upTo, m.order) // nobody missed what was before they came
	taste, err := s.taste(ctx, user)
	if err != nil {
		return unread{}, err
	}
	s.mu.Lock()
	u := s.unread[user][r.ID()]
	s.mu.Unlock()
	anew := unread{taste: taste, read: read, reads: had.newest, upTo: read}
	if u.taste != taste || u.read != read || u.reads != had.newest || u.upTo > upTo {
		u = anew
	}
	before := u.upTo
	events, err := r.Received(ctx, user, before, upTo, maxUnread)
	if before > read && slices.ContainsFunc(events, func(e *room.Entry) bool { return e.Type() == matrix.TypeRedaction }) { // what was counted may be redacted
		u = anew
		events, err = r.Received(ctx, user, read, upTo, maxUnread)
	}
	if err != nil {
		return u, err
	}
	threads := maps.Clone(u.threads)
	for _, n := range notified(ctx, r, user, taste, events) {
		thread := r.Thread(ctx, n.Event)
		if had.has(n.Event, thread) {
			continue
		}
		u.counts = u.plus(n.Outcome.Highlight)
		if thread != "" {
			if threads == nil {
				threads = map[string]counts{}
			}
			threads[thread] = threads[thread].plus(n.Outcome.Highlight)
		}
	}
	u.threads = threads
	if u.upTo = max(upTo, before); r.Last() <= before { // nothing was looked at
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
func notified(ctx context.Context, r *room.Room, user string, taste *taste, events []*room.Entry) (found []Notification) {
	facts, levels := facts(r, user), r.Levels()
	for _, e := range taste.hears(events) {
		if e.Redacted != "" {
			continue
		}
		facts.MayNotify = func(key string) bool { return levels.User(e.Sender()) >= levels.Notification(key) }
		if taste.threads != nil {
			facts.Subscribed = func() (subscribed, inThread bool) {
				thread := r.Thread(ctx, e)
				return taste.threads[thread], thread != ""
			}
		}
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
