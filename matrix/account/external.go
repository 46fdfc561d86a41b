package account

import (
	"context"
	"fmt"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// External is the user who logs in by an account elsewhere.
func (a *Accounts) External(ctx context.Context, provider, subject string) (id string, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		e, ok, err := store.Externals.Get(tx, provider, subject)
		if err == nil && !ok {
			err = fmt.Errorf("user of %s at %s is %w", subject, provider, ErrNotFound)
		}
		if err != nil {
			return err
		}
		id = e.User
		return active(tx, id)
	})
	return id, err
}

// HasExternal says whether a user logs in by an account elsewhere.
func (a *Accounts) HasExternal(ctx context.Context, id string) (has bool, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		_, has, err = store.Externals.First(tx, table.Range{Index: "user", Prefix: []any{id}})
		return err
	})
	return has, err
}
