package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"time"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Tokens let a device in.
type Tokens struct {
	Device  string
	Access  string
	Refresh string        // "" if the access token never expires
	Expires time.Duration // of the access token, from now; 0: never
}

// LogIn makes a device of a user, or gives the one with this id new tokens, after which its old ones do not count. An empty id makes a new one.
func (a *Accounts) LogIn(ctx context.Context, user, device, name, address string, refresh bool) (Tokens, error) {
	if device == "" {
		device = rand.Text()[:10]
	}
	t := newTokens(device, refresh)
	err := a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if err := active(tx, user); err != nil {
			return err
		}
		d, ok, err := store.Devices.Get(tx, user, device)
		if err != nil {
			return err
		}
		if !ok {
			d = store.Device{User: user, ID: device, Name: name, Created: a.now()}
		}
		d.Seen, d.Address = a.now(), address
		if err := errors.Join(store.Devices.Put(tx, d), dropTokens(tx, user, device)); err != nil {
			return err
		}
		return a.putTokens(tx, user, t, nil)
	})
	a.forget(user, device)
	return t, err
}

func newTokens(device string, refresh bool) Tokens {
	t := Tokens{Device: device, Access: secret("oat")}
	if refresh {
		t.Refresh, t.Expires = secret("ort"), Lifetime
	}
	return t
}

// putTokens writes tokens of a device, which may replace an older refresh token once they are used.
func (a *Accounts) putTokens(tx table.Tx, user string, t Tokens, replaces []byte) error {
	row := store.Token{Hash: hash(t.Access), User: user, Device: t.Device, Replaces: replaces}
	if t.Refresh == "" {
		return store.Tokens.Put(tx, row)
	}
	row.Expires = a.c.Now().Add(t.Expires).UnixMilli()
	return errors.Join(store.Tokens.Put(tx, row), store.Tokens.Put(tx, store.Token{Hash: hash(t.Refresh), User: user, Device: t.Device, Refresh: true, Replaces: replaces}))
}

func dropTokens(tx table.Tx, user, device string) error {
	return dropRange(tx, table.Range{Index: "device", Prefix: []any{user, device}})
}

func dropRange(tx table.Tx, r table.Range) error {
	all, err := store.Tokens.All(tx, r)
	for _, t := range all {
		err = errors.Join(err, store.Tokens.Delete(tx, t.Hash))
	}
	return err
}

// Refresh gives new tokens for a refresh token. The old access token does not count any more, the old refresh token does until one of the new ones is
// used: their answer may be lost (clause client-server API, POST /refresh).
func (a *Accounts) Refresh(ctx context.Context, refresh string) (t Tokens, err error) {
	var user string
	err = a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		row, ok, err := store.Tokens.Get(tx, hash(refresh))
		if err != nil {
			return err
		}
		if !ok || !row.Refresh {
			return ErrToken
		}
		user, t = row.User, newTokens(row.Device, true)
		row.Replaces = nil
		if err := errors.Join(dropTokens(tx, row.User, row.Device), store.Tokens.Put(tx, row)); err != nil {
			return err
		}
		return a.putTokens(tx, row.User, t, row.Hash)
	})
	if err == nil {
		a.forget(user, t.Device)
	}
	return t, err
}

func hash(token string) []byte {
	h := sha256.Sum256([]byte(token))
	return h[:]
}

// Authenticate is whose access token it is. The errors are ErrToken and ErrExpired.
func (a *Accounts) Authenticate(ctx context.Context, token string) (Login, error) {
	h := sha256.Sum256([]byte(token))
	a.mu.Lock()
	l, ok := a.known[h]
	forgotten := a.forgotten
	a.mu.Unlock()
	if !ok {
		var replaces []byte
		err := a.c.Stream.DB().View(ctx, func(tx table.Tx) error {
			row, ok, err := store.Tokens.Get(tx, h[:])
			if err != nil {
				return err
			}
			if !ok || row.Refresh {
				return ErrToken
			}
			u, err := user(tx, row.User)
			l, replaces = Login{User: row.User, Device: row.Device, Guest: u.Guest, Expires: row.Expires}, row.Replaces
			return err
		})
		if err == nil && len(replaces) > 0 {
			err = a.arrived(ctx, h[:])
		}
		if err != nil {
			return l, err
		}
		a.mu.Lock()
		if len(a.known) > maxKnown {
			clear(a.known)
		}
		if forgotten == a.forgotten { // it may not count any more otherwise
			a.known[h] = l
		}
		a.mu.Unlock()
	}
	if l.Expires != 0 && a.now() >= l.Expires {
		return l, ErrExpired
	}
	return l, nil
}

// arrived gives up the refresh token that a new access token replaces: its client has it.
func (a *Accounts) arrived(ctx context.Context, access []byte) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		row, ok, err := store.Tokens.Get(tx, access)
		if err != nil || !ok || len(row.Replaces) == 0 {
			return err
		}
		old := row.Replaces
		row.Replaces = nil
		return errors.Join(store.Tokens.Delete(tx, old), store.Tokens.Put(tx, row))
	})
}

// forget makes the tokens of a device, or for "" of all the user's, be looked up again.
func (a *Accounts) forget(user, device string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgotten++
	maps.DeleteFunc(a.known, func(_ [sha256.Size]byte, l Login) bool {
		return l.User == user && (device == "" || l.Device == device)
	})
}

// Logout removes a device and its tokens.
func (a *Accounts) Logout(ctx context.Context, user, device string) error {
	err := a.c.Stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) error {
		if err := errors.Join(dropTokens(tx, user, device), store.Devices.Delete(tx, user, device)); err != nil {
			return err
		}
		had, err := store.DropDevice(tx, user, device)
		if err != nil || !had {
			return err
		}
		position, err := advance(1)
		if err != nil {
			return err
		}
		return store.ListChanged(tx, user, position)
	}, nil)
	a.forget(user, device)
	return err
}

// LogoutAll removes all devices of a user but one; "" keeps none.
func (a *Accounts) LogoutAll(ctx context.Context, user, keep string) error {
	all, err := a.Devices(ctx, user)
	for _, d := range all {
		if d.ID != keep {
			err = errors.Join(err, a.Logout(ctx, user, d.ID))
		}
	}
	return err
}

// Devices are those of a user.
func (a *Accounts) Devices(ctx context.Context, user string) (all []store.Device, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		all, err = store.Devices.All(tx, table.Range{Prefix: []any{user}})
		return err
	})
	return all, err
}

// Device is one of a user's.
func (a *Accounts) Device(ctx context.Context, user, id string) (d store.Device, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		d, err = device(tx, user, id)
		return err
	})
	return d, err
}

func device(tx table.Tx, user, id string) (store.Device, error) {
	d, ok, err := store.Devices.Get(tx, user, id)
	if err == nil && !ok {
		err = fmt.Errorf("device %s of %s is %w", id, user, ErrNotFound)
	}
	return d, err
}

// NameDevice gives a device a name for people.
func (a *Accounts) NameDevice(ctx context.Context, user, id, name string) error {
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		d, err := device(tx, user, id)
		if err != nil {
			return err
		}
		d.Name = name
		return store.Devices.Put(tx, d)
	})
}
