package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

var (
	// ErrInvitation says that a token to make an account by is not known, used up, or too old; it does not say which.
	ErrInvitation = errors.New("registration token does not count")
	// ErrInvitationForm says that something cannot be such a token.
	ErrInvitationForm = errors.New("cannot be a registration token")
)

// maxInvitation is how long such a token may be.
const maxInvitation = 64

// Invite makes a token by which accounts can be made: so many at most, until a time; 0 and the zero time are without limit. An empty token makes one up.
func (a *Accounts) Invite(ctx context.Context, token string, uses int64, until time.Time) (store.Invitation, error) {
	v := store.Invitation{Token: cmp.Or(token, secret("oit")), Uses: uses, Created: a.now()}
	if !until.IsZero() {
		v.Expires = until.UnixMilli()
	}
	if len(v.Token) > maxInvitation || strings.ContainsFunc(v.Token, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("._~-", r)
	}) {
		return v, fmt.Errorf("%.80q %w (it has at most %d of a to z, A to Z, 0 to 9 and ._~-)", v.Token, ErrInvitationForm, maxInvitation)
	}
	if uses < 0 {
		return v, fmt.Errorf("%w: it cannot be used %d times", ErrInvitationForm, uses)
	}
	return v, a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		taken, err := store.Invitations.Has(tx, v.Token)
		if err == nil && taken {
			err = fmt.Errorf("registration token %s %w", v.Token, ErrTaken)
		}
		return errors.Join(err, store.Invitations.Put(tx, v))
	})
}

// Invitations are all those tokens.
func (a *Accounts) Invitations(ctx context.Context) (all []store.Invitation, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		all, err = store.Invitations.All(tx, table.Range{})
		return err
	})
	return all, err
}

// Invitation is one of those tokens.
func (a *Accounts) Invitation(ctx context.Context, token string) (v store.Invitation, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		v, err = known(tx, token)
		return err
	})
	return v, err
}

func known(tx table.Tx, token string) (store.Invitation, error) {
	v, ok, err := store.Invitations.Get(tx, token)
	if err == nil && !ok {
		err = fmt.Errorf("registration token %s is %w", token, ErrNotFound)
	}
	return v, err
}

// Reinvite changes such a token.
func (a *Accounts) Reinvite(ctx context.Context, token string, with func(*store.Invitation) error) (v store.Invitation, err error) {
	err = a.c.Stream.DB().Update(ctx, func(tx table.Tx) (err error) {
		if v, err = known(tx, token); err != nil {
			return err
		}
		if err := with(&v); err != nil {
			return err
		}
		return store.Invitations.Put(tx, v)
	})
	return v, err
}

// Uninvite removes such a token.
func (a *Accounts) Uninvite(ctx context.Context, token string) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if _, err := known(tx, token); err != nil {
			return err
		}
		return store.Invitations.Delete(tx, token)
	})
}

// Invited is nil if an account can be made by a token now.
func (a *Accounts) Invited(ctx context.Context, token string) error {
	return a.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		_, err := a.invitation(tx, token)
		return err
	})
}

func (a *Accounts) invitation(tx table.Tx, token string) (store.Invitation, error) {
	v, ok, err := store.Invitations.Get(tx, token)
	if err == nil && (!ok || !v.Counts(a.c.Now())) {
		err = ErrInvitation
	}
	return v, err
}

// takeInvitation counts an account that is made by a token.
func (a *Accounts) takeInvitation(tx table.Tx, token string) error {
	v, err := a.invitation(tx, token)
	if err != nil {
		return err
	}
	v.Used++
	return store.Invitations.Put(tx, v)
}
