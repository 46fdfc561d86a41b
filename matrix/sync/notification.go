package sync

import (
	"cmp"
	"context"
	"slices"

	"orrery/matrix"
	"orrery/matrix/push"
	"orrery/matrix/room"
)

// Notification is an event that notifies a user.
type Notification struct {
	Room    *room.Room
	Event   *room.Entry
	Outcome push.Outcome
	Read    bool // the user has read it
}

// lookBack is how many events of each room are looked at at a time for notifications; the times are how often, for one answer.
const (
	lookBack      = 100
	lookBackTimes = 20
)

// Notifications are events that notified a user, newest first, from before a position; next is where others begin, 0 if there are none. They are found by
// looking through the rooms again: nothing is kept for each user.
func (s *Syncer) Notifications(ctx context.Context, user string, before int64, limit int, highlights bool) (found []Notification, next int64, err error) {
	taste, err := s.taste(ctx, user)
	if err != nil {
		return nil, 0, err
	}
	for range lookBackTimes {
		some, reached, err := s.notifications(ctx, user, taste, before)
		if err != nil {
			return nil, 0, err
		}
		slices.SortFunc(some, func(a, b Notification) int { return cmp.Compare(b.Event.Order, a.Event.Order) })
		for _, n := range some {
			if n.Event.Order < reached || highlights && !n.Outcome.Highlight {
				continue
			}
			if found = append(found, n); len(found) == limit {
				return found, n.Event.Order, nil
			}
		}
		if reached == 0 {
			return found, 0, nil
		}
		before = reached
	}
	return found, before, nil
}

// notifications are those of all rooms before a position; all of them that are not before another one, 0 if that is all there are.
func (s *Syncer) notifications(ctx context.Context, user string, taste *taste, before int64) (found []Notification, reached int64, err error) {
	memberships, err := s.user(ctx, user)
	if err != nil {
		return nil, 0, err
	}
	for id, m := range memberships {
		if m.is != matrix.Join || m.order >= before {
			continue
		}
		r, err := s.rooms.Find(ctx, id)
		if err != nil {
			return nil, 0, err
		}
		events, more, err := r.Timeline(ctx, m.order, before-1, lookBack)
		if err != nil {
			return nil, 0, err
		}
		if more && len(events) > 0 {
			reached = max(reached, events[0].Order)
		}
		e, err := s.ephemeral(ctx, id)
		if err != nil {
			return nil, 0, err
		}
		read := e.readBy(user)
		for _, n := range notified(ctx, r, user, taste, events) {
			n.Read = read.has(n.Event, r.Thread(ctx, n.Event))
			found = append(found, n)
		}
	}
	return found, reached, nil
}

// maxCatchUp is how many events of a room are looked at for those of which a user was not notified yet.
const maxCatchUp = 50

// Unpushed are the events after a position that notify a user, and were not read yet, oldest first; upTo is up to where.
func (s *Syncer) Unpushed(ctx context.Context, user string, since int64) (found []Notification, upTo int64, err error) {
	upTo = s.stream.Current()
	taste, err := s.taste(ctx, user)
	if err != nil {
		return nil, 0, err
	}
	memberships, err := s.user(ctx, user)
	if err != nil {
		return nil, 0, err
	}
	for id, m := range memberships {
		if m.is != matrix.Join && m.is != matrix.Invite || m.is == matrix.Invite && m.order <= since {
			continue
		}
		r, err := s.rooms.Find(ctx, id)
		if err != nil {
			return nil, 0, err
		}
		if r.Last() <= since {
			continue
		}
		if m.is == matrix.Invite {
			if !taste.invited(r, user) {
				continue
			}
			if e := r.State(matrix.Key{Type: matrix.TypeMember, StateKey: user}); e != nil && e.Order <= upTo {
				found = append(found, notified(ctx, r, user, taste, []*room.Entry{e})...)
			}
			continue
		}
		e, err := s.ephemeral(ctx, id)
		if err != nil {
			return nil, 0, err
		}
		read := e.readBy(user)
		events, _, err := r.Timeline(ctx, max(since, m.order, read.upTo), upTo, maxCatchUp)
		if err != nil {
			return nil, 0, err
		}
		for _, n := range notified(ctx, r, user, taste, events) {
			if !read.has(n.Event, r.Thread(ctx, n.Event)) {
				found = append(found, n)
			}
		}
	}
	slices.SortFunc(found, func(a, b Notification) int { return cmp.Compare(a.Event.Order, b.Event.Order) })
	return found, upTo, nil
}

// Unread is how many events of all rooms notify a user that were not read.
func (s *Syncer) Unread(ctx context.Context, user string) (int, error) {
	memberships, err := s.user(ctx, user)
	if err != nil {
		return 0, err
	}
	sum, upTo := 0, s.stream.Current()
	for id, m := range memberships {
		if m.is != matrix.Join {
			continue
		}
		r, err := s.rooms.Find(ctx, id)
		if err != nil {
			return 0, err
		}
		u, err := s.count(ctx, r, user, upTo)
		if err != nil {
			return 0, err
		}
		sum += u.notifications
	}
	return sum, nil
}
