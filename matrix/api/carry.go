package api

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/push"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

const (
	tagType    = "m.tag"
	directType = "m.direct"
)

// replaced is the room in whose place another one is: both say so.
func (a *API) replaced(ctx context.Context, r *room.Room) *room.Room {
	create := r.State(matrix.Key{Type: matrix.TypeCreate})
	if create == nil {
		return nil
	}
	id := create.Content().Get("predecessor", "room_id").String()
	if id == "" || id == r.ID() {
		return nil
	}
	old, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return nil // of another server, perhaps
	}
	if end := old.State(matrix.Key{Type: typeTombstone}); end == nil || end.Content().Get("replacement_room").String() != r.ID() {
		return nil
	}
	return old
}

// carry gives members of a room what they had set for the one in whose place it is: push rules, tags, whether it is a direct chat (clause client-server
// API, room upgrades, server behaviour).
func (a *API) carry(ctx context.Context, r *room.Room, users ...string) error {
	old := a.replaced(ctx, r)
	if old == nil {
		return nil
	}
	for _, user := range users {
		if !a.Accounts.Local(user) || old.Membership(user) == "" {
			continue
		}
		if err := a.carryOf(ctx, user, old.ID(), r.ID()); err != nil {
			return err
		}
	}
	return nil
}

// carryEnded is carry for those who were in the new room before the old one said that it ends.
func (a *API) carryEnded(ctx context.Context, content canonical.Value) error {
	r, err := a.Rooms.Find(ctx, content.Get("replacement_room").String())
	if err != nil {
		return nil //nolint:nilerr // it is somewhere else
	}
	return a.carry(ctx, r, r.Joined()...)
}

func (a *API) carryOf(ctx context.Context, user, from, to string) error {
	var changed []store.AccountData
	err := a.Stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) (err error) {
		if changed, err = a.carriedData(tx, user, from, to); err != nil || len(changed) == 0 {
			return err
		}
		position, err := advance(len(changed))
		if err != nil {
			return err
		}
		for i, d := range changed {
			d.User, d.Position = user, position+int64(i)
			if err := store.AllAccountData.Put(tx, d); err != nil {
				return err
			}
		}
		return nil
	}, nil)
	if len(changed) > 0 {
		a.Syncer.Wake(user)
	}
	return err
}

// carriedData are the account data of a user that change because one room is in the place of another.
func (a *API) carriedData(tx table.Tx, user, from, to string) (changed []store.AccountData, err error) {
	rules, err := a.Syncer.ReadRules(tx, user)
	if err != nil {
		return nil, err
	}
	if carryRules(rules, from, to) {
		text, err := json.Marshal(map[string]any{"global": rules})
		if err != nil {
			return nil, err
		}
		changed = append(changed, store.AccountData{Type: sync.PushRules, JSON: text})
	}
	tags, ok, err := store.AllAccountData.Get(tx, user, from, tagType)
	if err != nil {
		return nil, err
	}
	if ok && !tags.Deleted() {
		has, err := store.AllAccountData.Has(tx, user, to, tagType)
		if err != nil {
			return nil, err
		}
		if !has {
			changed = append(changed, store.AccountData{Room: to, Type: tagType, JSON: tags.JSON})
		}
	}
	direct, ok, err := store.AllAccountData.Get(tx, user, "", directType)
	if err != nil || !ok {
		return changed, err
	}
	if text, found := carryDirect(direct.JSON, from, to); found {
		changed = append(changed, store.AccountData{Type: directType, JSON: text})
	}
	return changed, nil
}

// carryRules copies the rules about a room, which are of kind room, or override it by a condition, and says whether there were any.
func carryRules(rules push.Rules, from, to string) bool {
	found := false
	for _, kind := range []push.Kind{push.Room, push.Override} {
		for _, r := range slices.Clone(rules[kind]) {
			_, err := rules.Find(kind, to)
			if r.ID != from || err == nil {
				continue
			}
			r.ID, r.Conditions = to, slices.Clone(r.Conditions)
			for i, c := range r.Conditions {
				if c.Key == "room_id" && c.Pattern != nil && *c.Pattern == from {
					r.Conditions[i].Pattern = &to
				}
			}
			enabled := r.Enabled
			err = rules.Put(kind, r, "", "")
			err = cmp.Or(err, rules.Change(kind, to, func(r *push.Rule) { r.Enabled = enabled }))
			found = found || err == nil
		}
	}
	return found
}

// carryDirect puts a room beside another one that is a direct chat with somebody, and says whether there is such.
func carryDirect(text []byte, from, to string) ([]byte, bool) {
	var all map[string]json.RawMessage
	if json.Unmarshal(text, &all) != nil { // clients write what they like
		return nil, false
	}
	found := false
	for who, list := range all {
		var ids []string
		if json.Unmarshal(list, &ids) != nil || !slices.Contains(ids, from) || slices.Contains(ids, to) {
			continue
		}
		all[who], _ = json.Marshal(append(ids, to))
		found = true
	}
	text, err := json.Marshal(all)
	return text, found && err == nil
}
