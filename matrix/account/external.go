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

// Reactivate lets an account be used again that was deactivated, and has its events shown again if they were not. It has no password, and no device.
func (a *Accounts) Reactivate(ctx context.Context, id string) error {
	err := a.change(ctx, id, func(u *store.User) { u.Deactivated, u.Erased = false, false })
	a.mu.Lock()
	defer a.mu.Unlock()
	a.erased = nil // to be read again
	return err
}

// PutDevice makes a device of a user, and says whether it did; one that is there gets the name, nil leaves it the one that it has.
func (a *Accounts) PutDevice(ctx context.Context, user, id string, name *string) (made bool, err error) {
	err = a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if err := active(tx, user); err != nil {
			return err
		}
		d, known, err := store.Devices.Get(tx, user, id)
		if err != nil || known && name == nil {
			return err
		}
		if made = !known; made {
			d = store.Device{User: user, ID: id, Created: a.now()}
		}
		if name != nil {
			d.Name = *name
		}
		return store.Devices.Put(tx, d)
	})
	return made, err
}
