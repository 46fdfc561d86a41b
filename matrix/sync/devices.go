package sync

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	"orrery/matrix"
	"orrery/matrix/keys"
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
}

// sharing are those who share a room with a user, also the user.
func (s *Syncer) sharing(ctx context.Context, user string) (map[string]bool, error) {
	memberships, err := s.user(ctx, user)
	if err != nil {
		return nil, err
	}
	shared := map[string]bool{user: true}
	for id, m := range memberships {
		if m.is != matrix.Join {
			continue
		}
		r, err := s.rooms.Find(ctx, id)
		if err != nil {
			return nil, err
		}
		for _, other := range r.Joined() {
			shared[other] = true
		}
	}
	return shared, nil
}

// DeviceLists are what changed for a user between two positions.
func (s *Syncer) DeviceLists(ctx context.Context, user string, since, upTo int64) (*DeviceLists, error) {
	lists := &DeviceLists{Changed: []string{}, Left: []string{}}
	var rows []store.DeviceList
	var signed []store.SignedUser
	if err := s.stream.DB().View(ctx, func(tx table.Tx) (err error) {
		if rows, err = store.DeviceLists.All(tx, table.Range{Index: "position", From: since + 1, Before: upTo + 1}); err != nil {
			return err
		}
		signed, err = store.SignedUsers.All(tx, table.Range{Index: "position", Prefix: []any{user}, From: since + 1, Before: upTo + 1})
		return err
	}); err != nil {
		return nil, err
	}
	came, went, err := s.comings(ctx, user, since, upTo)
	if err != nil || len(rows)+len(signed)+len(came)+len(went) == 0 {
		return lists, err
	}
	shared, err := s.sharing(ctx, user)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		came[r.User] = true
	}
	for _, s := range signed { // also those with whom the user shares no room any more
		came[s.User], shared[s.User] = true, true
	}
	for who := range came {
		if shared[who] {
			lists.Changed = append(lists.Changed, who)
		}
	}
	for who := range went {
		if !shared[who] {
			lists.Left = append(lists.Left, who)
		}
	}
	slices.Sort(lists.Changed)
	slices.Sort(lists.Left)
	return lists, nil
}

// recent is how many events of a room are looked through for members who came or went, before all members are.
const recent = 100

// comings are those who came to share a room with a user between two positions, and those who went: others came or went, or the user did.
func (s *Syncer) comings(ctx context.Context, user string, since, upTo int64) (came, went map[string]bool, err error) {
	came, went = map[string]bool{}, map[string]bool{}
	memberships, err := s.user(ctx, user)
	if err != nil {
		return nil, nil, err
	}
	for id, m := range memberships {
		r, err := s.rooms.Find(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		if m.order > since && m.order <= upTo { // the user came or went: all the others did
			to := went
			if m.is == matrix.Join {
				to = came
			}
			for _, other := range r.Joined() {
				if other != user {
					to[other] = true
				}
			}
			continue
		}
		if m.is != matrix.Join || r.Last() <= since {
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
	user, device := a.q.User, a.q.Device
	var messages []json.RawMessage
	old := false
	if err := a.s.stream.DB().View(ctx, func(tx table.Tx) error {
		all, err := store.ToDevices.All(tx, table.Range{Prefix: []any{user, device}, Before: a.upTo + 1})
		if err != nil {
			return err
		}
		for _, m := range all {
			if m.Position <= a.q.Since {
				old = true
				continue
			}
			messages = append(messages, m.JSON)
		}
		if resp.KeyCounts, err = keys.Counts(tx, user, device); err != nil {
			return err
		}
		resp.Fallbacks, err = keys.UnusedFallbacks(tx, user, device)
		return err
	}); err != nil {
		return err
	}
	if len(messages) > 0 {
		resp.ToDevice = &Events{messages}
	}
	if !a.q.Initial {
		lists, err := a.s.DeviceLists(ctx, user, a.q.Since, a.upTo)
		if err != nil {
			return err
		}
		if len(lists.Changed)+len(lists.Left) > 0 {
			resp.DeviceLists = lists
		}
	}
	if !old {
		return nil
	}
	return a.s.stream.DB().Update(ctx, func(tx table.Tx) error {
		return store.ToDevices.DeleteAll(tx, table.Range{Prefix: []any{user, device}, Before: a.q.Since + 1})
	})
}
