package account

import (
	"context"

	"orrery/matrix/contact"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Bound keeps that an identity server tells others of a user's address.
func (a *Accounts) Bound(ctx context.Context, id string, of contact.Address, server string) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		return store.Bindings.Put(tx, store.Binding{User: id, Medium: of.Medium, Address: of.Text, Server: server, Bound: a.now()})
	})
}

// Unbound forgets that.
func (a *Accounts) Unbound(ctx context.Context, id string, of contact.Address, server string) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error { return store.Bindings.Delete(tx, id, of.Medium, of.Text, server) })
}

// Bindings are those of a user that are known.
func (a *Accounts) Bindings(ctx context.Context, id string) (all []store.Binding, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		all, err = store.Bindings.All(tx, table.Range{Prefix: []any{id}})
		return err
	})
	return all, err
}
