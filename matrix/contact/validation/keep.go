package validation

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"orrery/matrix/contact"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// session is what a row says.
func session(r store.Validation) contact.Session {
	return contact.Session{
		Purpose: contact.Purpose(r.Purpose), Address: contact.Address{Medium: r.Medium, Text: r.Address}, User: r.User, Secret: r.Secret,
		Attempt: r.Attempt, Tokens: r.Tokens, NextLink: r.NextLink, Tries: r.Tries, Changed: r.Changed, Validated: r.Validated,
	}
}

// put writes a session.
func put(tx table.Tx, id string, s contact.Session) error {
	return store.Validations.Put(tx, store.Validation{
		ID: id, Key: s.Key(), Purpose: string(s.Purpose), Medium: s.Address.Medium, Address: s.Address.Text, User: s.User, Secret: s.Secret,
		Attempt: s.Attempt, Tokens: s.Tokens, NextLink: s.NextLink, Tries: s.Tries, Changed: s.Changed, Validated: s.Validated,
	})
}

func get(tx table.Tx, id string) (store.Validation, error) {
	row, ok, err := store.Validations.Get(tx, id)
	if err == nil && !ok {
		err = contact.ErrSession
	}
	return row, err
}

// find is the session that is under way for the same, if there is one, and whose the address is.
func (v *Validations) find(ctx context.Context, s contact.Session) (row store.Validation, owner string, err error) {
	err = v.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		if row, err = v.same(tx, s); err != nil {
			return err
		}
		c, _, err := store.Contacts.Get(tx, s.Address.Medium, s.Address.Text)
		owner = c.User
		return err
	})
	return row, owner, err
}

// same is the session for the same that counts; its id is "" if there is none.
func (v *Validations) same(tx table.Tx, s contact.Session) (store.Validation, error) {
	row, ok, err := store.Validations.First(tx, table.Range{Index: "session", Prefix: []any{s.Key()}})
	if err != nil || !ok || session(row).Expired(v.c.Now().UnixMilli()) {
		return store.Validation{}, err
	}
	return row, nil
}

// keep writes that a token is about to be sent, if there is one, in the session for the same or a new one. Sessions that are over are removed.
func (v *Validations) keep(ctx context.Context, s contact.Session, counts bool, token string) (id string, err error) {
	now := v.c.Now().UnixMilli()
	err = v.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if err := store.Validations.DeleteAll(tx, table.Range{Index: "changed", Before: now - contact.Lifetime.Milliseconds() + 1}); err != nil {
			return err
		}
		row, err := v.same(tx, s)
		if err != nil {
			return err
		}
		with := s
		if id = row.ID; id == "" {
			id = rand.Text()
		} else {
			with = session(row)
			with.NextLink = s.NextLink
		}
		if counts {
			with = with.WithToken(token, now)
		}
		return errors.Join(v.count(tx, s.Address.Medium), put(tx, id, with))
	})
	return id, err
}

// count counts a message that is about to be sent in this day, if one more may be. It is in the store so that a server that begins again goes on to count; one
// that is not sent in the end counts, too, for it may have cost.
func (v *Validations) count(tx table.Tx, medium string) error {
	if medium != contact.MSISDN || v.c.Daily == 0 {
		return nil
	}
	const day = 24 * time.Hour
	now := v.c.Now()
	today := now.UnixMilli() / day.Milliseconds()
	row, ok, err := store.Posteds.Get(tx, today)
	switch {
	case err != nil:
		return err
	case !ok: // and those of earlier days are not needed any more
		err = store.Posteds.DeleteAll(tx, table.Range{})
	case row.Count >= v.c.Daily:
		return &TooMany{time.UnixMilli((today + 1) * day.Milliseconds()).Sub(now)}
	}
	return errors.Join(err, store.Posteds.Put(tx, store.Posted{Day: today, Count: row.Count + 1}))
}

// undo removes a session of which nothing was ever sent.
func (v *Validations) undo(ctx context.Context, id string) error {
	return v.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		row, ok, err := store.Validations.Get(tx, id)
		if err != nil || !ok || row.Attempt > 0 {
			return err
		}
		return store.Validations.Delete(tx, id)
	})
}

// change makes something else of a session, and keeps that also if it says what is wrong.
func (v *Validations) change(ctx context.Context, id string, f func(contact.Session) (contact.Session, error)) error {
	var wrong error
	err := v.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		row, err := get(tx, id)
		if err != nil {
			return err
		}
		var after contact.Session
		after, wrong = f(session(row))
		return put(tx, id, after)
	})
	return errors.Join(err, wrong)
}

// check is the address that a proof is about.
func (p Proof) check(tx table.Tx, now int64) (contact.Address, int64, error) {
	row, err := get(tx, p.ID)
	if err != nil {
		return contact.Address{}, 0, err
	}
	s := session(row)
	return s.Address, s.Validated, s.Prove(p.Purpose, p.User, p.Secret, now)
}

// Use uses a proof up: it is the address, and when it was validated.
func (p Proof) Use(tx table.Tx, now int64) (contact.Address, int64, error) {
	a, at, err := p.check(tx, now)
	if err != nil {
		return a, at, err
	}
	return a, at, store.Validations.Delete(tx, p.ID)
}
