package notice

import (
	"context"

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

// retag changes a user's tags of a room, and tells the user's devices if something changed.
func (n *Notices) retag(ctx context.Context, user, roomID string, with func(canonical.Value) canonical.Value) error {
	var wrote bool
	err := n.c.Stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) (err error) {
		wrote, err = store.ChangeAccountData(tx, advance, user, roomID, typeTags, func(v canonical.Value) (canonical.Value, bool) {
			tags := store.Tags(v)
			changed := with(tags)
			return v.With("tags", changed), !changed.Equal(tags)
		})
		return err
	}, nil)
	if wrote {
		n.c.Syncer.Wake(user)
	}
	return err
}
