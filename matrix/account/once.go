package account

import (
	"context"
	"errors"
	"time"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// LoginTokenLifetime is how long a token counts by which somebody logs in once.
const LoginTokenLifetime = 2 * time.Minute

// LoginToken is a token by which a user logs in once, soon.
func (a *Accounts) LoginToken(ctx context.Context, user string) (string, error) {
	token := secret("olt")
	return token, a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		old, err := store.LoginTokens.All(tx, table.Range{Index: "expires", Before: a.now()})
		for _, t := range old {
			err = errors.Join(err, store.LoginTokens.Delete(tx, t.Hash))
		}
		return errors.Join(err, store.LoginTokens.Put(tx, store.LoginToken{Hash: hash(token), User: user, Expires: a.c.Now().Add(LoginTokenLifetime).UnixMilli()}))
	})
}

// UseLoginToken is whose such a token is; it does not count any more afterwards.
func (a *Accounts) UseLoginToken(ctx context.Context, token string) (id string, err error) {
	err = a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		t, ok, err := store.LoginTokens.Get(tx, hash(token))
		if err != nil {
			return err
		}
		if !ok || a.now() >= t.Expires {
			return ErrToken
		}
		id = t.User
		if err := active(tx, id); err != nil {
			return err
		}
		return store.LoginTokens.Delete(tx, t.Hash)
	})
	return id, err
}
