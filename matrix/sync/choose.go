package sync

import (
	"context"
	"slices"

	"orrery/matrix"
	"orrery/matrix/room"
)

// How many events are looked at for those that somebody wants to hear of: of each room, and for a whole answer. What is beyond that clients find by GET messages; the
// newest ones of a room are looked at in any case.
const (
	maxLook    = 1000
	maxLookAll = 5000
	minLook    = 100
)

// chooser finds the events of timelines that somebody wants to hear of (clause client-server API, filtering).
type chooser struct {
	taste  *taste
	filter *EventFilter

	looked int // for the answer, beyond what is looked at in any case
}

// all says whether no events are left out.
func (c *chooser) all() bool { return len(c.taste.ignored) == 0 && !c.filter.chooses() }

// wants says whether an event is wanted.
func (c *chooser) wants(e *room.Entry) bool { return c.taste.hearsOf(e) && c.filter.Wants(e.Event) }

// timeline is the newest events of a room that are wanted, after one position and up to another, oldest first, at most some. limited says that there are others of
// them before, as far as was looked.
func (c *chooser) timeline(ctx context.Context, r *room.Room, after, upTo int64, limit int) (events []*room.Entry, limited bool, err error) {
	if c.all() {
		return r.Timeline(ctx, after, upTo, limit)
	}
	if c.filter.wantsNothing(r.ID()) {
		return nil, false, nil
	}
	most := max(minLook, min(maxLook, maxLookAll-c.looked))
	events, limited, looked, err := r.Chosen(ctx, after, upTo, limit, room.Choice{Of: c.filter.wantsOf, Is: c.wants, Most: most})
	c.looked += max(looked-minLook, 0)
	return events, limited, err
}

// notifies says whether anything that came after a position lets the counts of a room be others, although nothing of it is wanted.
func (a *answer) notifies(ctx context.Context, r *room.Room, since int64) (bool, error) {
	if a.chooser.all() || r.Last() <= since {
		return false, nil
	}
	events, err := r.Received(ctx, a.q.User, since, a.upTo, maxUnread)
	return err == nil && (slices.ContainsFunc(events, func(e *room.Entry) bool { return e.Type() == matrix.TypeRedaction }) ||
		len(notified(ctx, r, a.q.User, a.chooser.taste, events)) > 0), err
}

// chooses says whether a filter leaves out any events.
func (f *EventFilter) chooses() bool {
	return f.Types != nil || f.Senders != nil || f.Rooms != nil || f.Rels != nil || f.ContainsURL != nil || len(f.NotTypes)+len(f.NotSenders)+len(f.NotRooms)+len(f.NotRels) > 0
}

// wantsNothing says whether it can be seen without looking that no events of a room are wanted.
func (f *EventFilter) wantsNothing(id string) bool {
	empty := func(list []string) bool { return list != nil && len(list) == 0 }
	return !f.WantsRoom(id) || empty(f.Types) || empty(f.Senders) || empty(f.Rels) || slices.Contains(f.NotTypes, "*")
}
