package notice

import (
	"context"
	"errors"

	"orrery/matrix/canonical"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// typeTags is the account data that has a room's tags.
const typeTags = "m.tag"

// tag sees to it that a user's room has the tag by which clients know it.
func (n *Notices) tag(ctx context.Context, user, roomID string) error {
	return n.retag(ctx, user, roomID, func(tags canonical.Value) canonical.Value {
		if _, ok := tags.Find(Tag); ok {
			return tags
		}
		return tags.With(Tag, canonical.Of())
	})
}

// untag takes the tag from a room that is a user's no more: there is one at most.
func (n *Notices) untag(ctx context.Context, user, roomID string) error {
	return n.retag(ctx, user, roomID, func(tags canonical.Value) canonical.Value { return tags.Without(Tag) })
}

// errNothing ends an update in which there is nothing to do.
var errNothing = errors.New("nothing to do")

// retag changes a user's tags of a room, and tells the user's devices if something changed.
func (n *Notices) retag(ctx context.Context, user, roomID string, with func(canonical.Value) canonical.Value) error {
	err := n.c.Stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) error {
		old, ok, err := store.AllAccountData.Get(tx, user, roomID, typeTags)
		if err != nil {
			return err
		}
		v := canonical.Of()
		if ok {
			if v, err = canonical.Parse(old.JSON, canonical.Lax); err != nil {
				return err
			}
		}
		tags := v.Get("tags")
		if tags.Kind() != canonical.Object {
			tags = canonical.Of()
		}
		changed := with(tags)
		if changed.Equal(tags) {
			return errNothing
		}
		position, err := advance(1)
		if err != nil {
			return err
		}
		return store.AllAccountData.Put(tx, store.AccountData{User: user, Room: roomID, Type: typeTags, Position: position, JSON: v.With("tags", changed).JSON()})
	}, nil)
	if errors.Is(err, errNothing) {
		return nil
	}
	n.c.Syncer.Wake(user)
	return err
}
