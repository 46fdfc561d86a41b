package sync

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// DeviceLists are the users whose devices or keys changed, and those with whom a user shares no room any more.
type DeviceLists struct {
	Changed []string `json:"changed"`
	Left    []string `json:"left"`
}

// WakeSharing wakes a user and all who share a room.
func (s *Syncer) WakeSharing(ctx context.Context, user string) {
	shared, err := s.sharing(ctx, user)
	if err != nil {
		shared = nil // they learn it with the next thing
	}
	s.Wake(append(slices.Collect(maps.Keys(shared)), user)...)
	if s.follower != nil {
		s.follower.Devices(user)
	}
}

// sharing are those who share a room with a user, also the user.
func (s *Syncer) sharing(ctx context.Context, user string) (map[string]bool, error) {
	rooms, err := s.JoinedRooms(ctx, user)
	if err != nil {
		return nil, err
	}
	shared := map[string]bool{user: true}
	for _, r := range rooms {
		for _, other := range r.Joined() {
			shared[other] = true
		}
	}
	return shared, nil
}

// manyOf is of how many it is cheaper to ask who shares a room at all.
const manyOf = 16

// sharingOf are those of some who share a room with a user, who may be one of them; perhaps others, too.
func (s *Syncer) sharingOf(ctx context.Context, user string, some map[string]bool) (map[string]bool, error) {
	if len(some) > manyOf {
		return s.sharing(ctx, user)
	}
	rooms, err := s.JoinedRooms(ctx, user)
	if err != nil {
		return nil, err
	}
	shared := map[string]bool{user: true}
	for _, r := range rooms {
		for who := range some {
			if r.HasJoined(who) {
				shared[who] = true
			}
		}
	}
	return shared, nil
}

// DeviceLists are what changed for a user between two positions.
func (s *Syncer) DeviceLists(ctx context.Context, user string, since, upTo int64) (*DeviceLists, error) {
	lists := &DeviceLists{Changed: []string{}, Left: []string{}}
	changes, err := s.listChanges(ctx, user, since, upTo)
	if err != nil {
		return nil, err
	}
	came, went, err := s.comings(ctx, user, since, upTo)
	if err != nil || len(changes)+len(came)+len(went) == 0 {
		return lists, err
	}
	signed := map[string]bool{} // also those with whom the user shares no room any more
	for _, c := range changes {
		if c.signer != "" && c.signer != user {
			continue
		}
		came[c.user] = true
		signed[c.user] = signed[c.user] || c.signer != ""
	}
	all := maps.Clone(came)
	maps.Copy(all, went)
	shared, err := s.sharingOf(ctx, user, all)
	if err != nil {
		return nil, err
	}
	for who := range came {
		if shared[who] || signed[who] {
			lists.Changed = append(lists.Changed, who)
		}
	}
	for who := range went {
		if !shared[who] && !signed[who] {
			lists.Left = append(lists.Left, who)
		}
	}
	slices.Sort(lists.Changed)
	slices.Sort(lists.Left)
	return lists, nil
}

// listChanges are the users whose devices or keys changed between two positions, for all or for a user who signed them.
func (s *Syncer) listChanges(ctx context.Context, user string, since, upTo int64) (found []listChange, err error) {
	found, ok := s.news.lists.between(since, upTo)
	if ok {
		return found, nil
	}
	err = s.stream.DB().View(ctx, func(tx table.Tx) error {
		rows, err := store.DeviceLists.All(tx, table.Range{Index: "position", From: since + 1, Before: upTo + 1})
		if err != nil {
			return err
		}
		for _, r := range rows {
			found = append(found, listChange{user: r.User})
		}
		signed, err := store.SignedUsers.All(tx, table.Range{Index: "position", Prefix: []any{user}, From: since + 1, Before: upTo + 1})
		for _, x := range signed {
			found = append(found, listChange{user: x.User, signer: user})
		}
		return err
	})
	return found, err
}

// recent is how many events of a room are looked through for members who came or went, before all members are.
const recent = 100

// others adds who is in a room besides a user.
func others(r *room.Room, user string, to map[string]bool) {
	for _, other := range r.Joined() {
		if other != user {
			to[other] = true
		}
	}
}

// comings are those who came to share a room with a user between two positions, and those who went: others came or went, or the user did.
func (s *Syncer) comings(ctx context.Context, user string, since, upTo int64) (came, went map[string]bool, err error) {
	came, went = map[string]bool{}, map[string]bool{}
	memberships, err := s.user(ctx, user)
	if err != nil {
		return nil, nil, err
	}
	for id, m := range memberships {
		moved := m.order > since && m.order <= upTo
		if !moved && m.is != matrix.Join {
			continue
		}
		r, err := s.rooms.Find(ctx, id)
		if errors.Is(err, room.ErrNotFound) { // it was purged since
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if moved { // the user came or went: all the others did
			to := went
			if m.is == matrix.Join {
				to = came
			}
			others(r, user, to)
			continue
		}
		if r.Last() <= since {
			continue
		}
		changes, err := memberEvents(ctx, r, since, upTo)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range changes {
			who, _ := e.StateKey()
			if e.Membership() == matrix.Join {
				came[who] = true
			} else {
				went[who] = true
			}
		}
	}
	return came, went, nil
}

// memberEvents are those of a room between two positions: among its newest events if these are few, otherwise those that are in force.
func memberEvents(ctx context.Context, r *room.Room, since, upTo int64) ([]*room.Entry, error) {
	events, more, err := r.Timeline(ctx, since, upTo, recent)
	if more {
		events = r.States(matrix.TypeMember)
	}
	return slices.DeleteFunc(slices.Clone(events), func(e *room.Entry) bool {
		return e.Type() != matrix.TypeMember || e.Order <= since || e.Order > upTo
	}), err
}

// devices adds what concerns the device to an answer: messages for it, changes of others' keys, how many of its own are left. What was told before
// is forgotten.
func (a *answer) devices(ctx context.Context, resp *Response) error {
	d := device{a.q.User, a.q.Device}
	left, err := a.s.stock(ctx, d)
	if err != nil {
		return err
	}
	resp.KeyCounts, resp.Fallbacks = left.counts, left.fallbacks
	messages, _, err := a.s.messages(ctx, d, a.q.Since, a.upTo, 0)
	if err != nil {
		return err
	}
	if len(messages) > 0 {
		resp.ToDevice = &Events{messages}
	}
	if !a.q.Initial {
		lists, err := a.s.DeviceLists(ctx, a.q.User, a.q.Since, a.upTo)
		if err != nil {
			return err
		}
		if len(lists.Changed)+len(lists.Left) > 0 {
			resp.DeviceLists = lists
		}
	}
	return nil
}

// messages are those to a device between two positions, at most some (0: all), and the position of the last one. Those before them are forgotten: they were told.
func (s *Syncer) messages(ctx context.Context, d device, since, upTo int64, limit int) (found []json.RawMessage, last int64, err error) {
	kept, err := s.queue(ctx, d)
	if err != nil {
		return nil, 0, err
	}
	if kept.newest > since {
		err = s.stream.DB().View(ctx, func(tx table.Tx) error {
			all, err := store.ToDevices.All(tx, table.Range{Prefix: []any{d.user, d.id}, From: since + 1, Before: upTo + 1, Limit: limit})
			for _, m := range all {
				found, last = append(found, m.JSON), m.Position
			}
			return err
		})
	}
	if err != nil || kept.oldest == 0 || kept.oldest > since {
		return found, last, err
	}
	return found, last, s.stream.DB().Update(ctx, func(tx table.Tx) error {
		return store.ToDevices.DeleteAll(tx, table.Range{Prefix: []any{d.user, d.id}, Before: since + 1})
	})
}
