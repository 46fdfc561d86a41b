package account

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"orrery/matrix/contact"
	"orrery/matrix/contact/validation"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// maxContacts is how many addresses an account may have.
const maxContacts = 20

// ErrContacts says that an account has too many addresses.
var ErrContacts = fmt.Errorf("account has %d addresses already, which is the most", maxContacts)

// Contacts are the addresses of a user.
func (a *Accounts) Contacts(ctx context.Context, user string) (all []store.Contact, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		all, err = store.Contacts.All(tx, table.Range{Index: "user", Prefix: []any{user}})
		return err
	})
	return all, err
}

// ByContact is whose account has an address. The error is contact.ErrUnknown.
func (a *Accounts) ByContact(ctx context.Context, of contact.Address) (id string, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		c, err := owned(tx, of)
		id = c.User
		return err
	})
	return id, err
}

func owned(tx table.Tx, of contact.Address) (store.Contact, error) {
	c, ok, err := store.Contacts.Get(tx, of.Medium, of.Text)
	if err == nil && !ok {
		err = contact.ErrUnknown
	}
	return c, err
}

// AddContact adds an address to an account, which its user has shown to be theirs.
func (a *Accounts) AddContact(ctx context.Context, id string, p validation.Proof) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if err := active(tx, id); err != nil {
			return err
		}
		return a.addProved(tx, id, p)
	})
}

func (a *Accounts) addProved(tx table.Tx, id string, p validation.Proof) error {
	of, validated, err := p.Use(tx, a.now())
	if err != nil {
		return err
	}
	return a.putContact(tx, id, of, validated)
}

func (a *Accounts) putContact(tx table.Tx, id string, of contact.Address, validated int64) error {
	c, ok, err := store.Contacts.Get(tx, of.Medium, of.Text)
	switch {
	case err != nil:
		return err
	case ok && c.User == id:
		return nil
	case ok:
		return contact.ErrInUse
	}
	all, err := store.Contacts.All(tx, table.Range{Index: "user", Prefix: []any{id}, Limit: maxContacts})
	if err == nil && len(all) == maxContacts {
		err = ErrContacts
	}
	return errors.Join(err, store.Contacts.Put(tx, store.Contact{Medium: of.Medium, Address: of.Text, User: id, Validated: validated, Added: a.now()}))
}

// SetContact adds an address to an account by the word of an administrator.
func (a *Accounts) SetContact(ctx context.Context, id string, of contact.Address) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if err := active(tx, id); err != nil {
			return err
		}
		return a.putContact(tx, id, of, a.now())
	})
}

// SetContacts makes addresses those of an account, and no others.
func (a *Accounts) SetContacts(ctx context.Context, id string, all []contact.Address) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if err := active(tx, id); err != nil {
			return err
		}
		had, err := store.Contacts.All(tx, table.Range{Index: "user", Prefix: []any{id}})
		if err != nil {
			return err
		}
		stays := map[contact.Address]bool{}
		for _, of := range all {
			stays[of] = true
		}
		for _, c := range had {
			if !stays[contact.Address{Medium: c.Medium, Text: c.Address}] {
				err = errors.Join(err, store.Contacts.Delete(tx, c.Medium, c.Address))
			}
		}
		for of := range stays {
			err = errors.Join(err, a.putContact(tx, id, of, a.now()))
		}
		return err
	})
}

// TakeContacts makes addresses those of a medium in an account, by the word of an issuer, who knows whose they are: they are taken from whoever has them.
func (a *Accounts) TakeContacts(ctx context.Context, id, medium string, all []contact.Address) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		had, err := store.Contacts.All(tx, table.Range{Index: "user", Prefix: []any{id}})
		if err != nil {
			return err
		}
		for _, c := range had {
			if c.Medium == medium && !slices.Contains(all, contact.Address{Medium: c.Medium, Text: c.Address}) {
				err = errors.Join(err, store.Contacts.Delete(tx, c.Medium, c.Address))
			}
		}
		for _, of := range all {
			c, ok, e := store.Contacts.Get(tx, of.Medium, of.Text)
			if ok && c.User != id {
				e = store.Contacts.Delete(tx, of.Medium, of.Text)
			}
			err = errors.Join(err, e, a.putContact(tx, id, of, a.now()))
		}
		return err
	})
}

// RemoveContact takes an address from an account. The error is contact.ErrUnknown if it is not there.
func (a *Accounts) RemoveContact(ctx context.Context, id string, of contact.Address) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		c, err := owned(tx, of)
		if err == nil && c.User != id {
			err = contact.ErrUnknown
		}
		if err != nil {
			return err
		}
		return store.Contacts.Delete(tx, of.Medium, of.Text)
	})
}

// ResetPassword gives an account a new password, whose user has shown that one of its addresses is theirs, and is whose it is.
func (a *Accounts) ResetPassword(ctx context.Context, p validation.Proof, password string) (id string, err error) {
	hash, err := a.hasher.hash(ctx, password)
	if err != nil {
		return "", err
	}
	return id, a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		of, _, err := p.Use(tx, a.now())
		if err != nil {
			return err
		}
		c, err := owned(tx, of)
		if err != nil {
			return err
		}
		id = c.User
		return errors.Join(active(tx, id), setPassword(tx, id, hash))
	})
}
