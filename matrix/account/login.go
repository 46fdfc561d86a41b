package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"strings"
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

	client, scope string
}

// LogIn makes a device of a user, or gives the one with this id new tokens, after which its old ones do not count. An empty id makes a new one.
func (a *Accounts) LogIn(ctx context.Context, user, device, name, address string, refresh bool) (Tokens, error) {
	if device == "" {
		device = rand.Text()[:10]
	}
	return a.enter(ctx, user, device, name, address, newTokens(device, refresh))
}

// Grant is LogIn for a client that came by OAuth, with what the user allowed it.
func (a *Accounts) Grant(ctx context.Context, user, device, name, address, client, scope string) (Tokens, error) {
	t := newTokens(device, true)
	t.client, t.scope = client, scope
	return a.enter(ctx, user, device, name, address, t)
}

// Identify is a token by which a client that came by OAuth may ask who the user is, and nothing else.
func (a *Accounts) Identify(ctx context.Context, user, client, scope string) (Tokens, error) {
	t := newTokens("", false)
	t.client, t.scope, t.Expires = client, scope, Lifetime
	if err := a.lets(user); err != nil {
		return t, err
	}
	err := a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		old, err := store.Tokens.All(tx, table.Range{Index: "device", Prefix: []any{user, ""}})
		for _, o := range old {
			if o.Expires < a.now() {
				err = errors.Join(err, store.Tokens.Delete(tx, o.Hash))
			}
		}
		return errors.Join(err, active(tx, user), a.putTokens(tx, user, t, nil))
	})
	return t, err
}

func (a *Accounts) enter(ctx context.Context, user, device, name, address string, t Tokens) (Tokens, error) {
	if err := a.lets(user); err != nil {
		return t, err
	}
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
	row := store.Token{Hash: hash(t.Access), User: user, Device: t.Device, Replaces: replaces, Client: t.client, Scope: t.scope}
	if t.Expires != 0 {
		row.Expires = a.c.Now().Add(t.Expires).UnixMilli()
	}
	if err := store.Tokens.Put(tx, row); err != nil || t.Refresh == "" {
		return err
	}
	row.Hash, row.Refresh, row.Expires = hash(t.Refresh), true, 0
	return store.Tokens.Put(tx, row)
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
	return a.RefreshFor(ctx, refresh, "")
}

// RefreshFor is Refresh for a client that came by OAuth, whose token it must be.
func (a *Accounts) RefreshFor(ctx context.Context, refresh, client string) (t Tokens, err error) {
	var user string
	err = a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		row, ok, err := store.Tokens.Get(tx, hash(refresh))
		if err != nil {
			return err
		}
		if !ok || !row.Refresh || row.Client != client {
			return ErrToken
		}
		user, t = row.User, newTokens(row.Device, true)
		t.client, t.scope = row.Client, row.Scope
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
			if !ok || row.Refresh || row.Device == "" {
				return ErrToken
			}
			u, err := user(tx, row.User)
			l, replaces = Login{User: row.User, Device: row.Device, Guest: u.Guest, Locked: u.Locked, Suspended: u.Suspended, Client: row.Client, Expires: row.Expires}, row.Replaces
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

// Inspect is what is known of a token that counts, access or refresh.
func (a *Accounts) Inspect(ctx context.Context, token string) (row store.Token, err error) {
	err = a.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		found, ok, err := store.Tokens.Get(tx, hash(token))
		if err == nil && (!ok || found.Expires != 0 && a.now() >= found.Expires) {
			err = ErrToken
		}
		row = found
		return err
	})
	return row, err
}

// Scope is what the user allowed the client whose tokens these are.
func (t Tokens) Scope() string { return t.scope }

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

// Forgetting has somebody else who knows whose tokens are forget them, too: those of a device, or for "" of all the user's. It is called before anybody logs in.
func (a *Accounts) Forgetting(f func(user, device string)) { a.forgets = f }

// forget makes the tokens of a device, or for "" of all the user's, be looked up again.
func (a *Accounts) forget(user, device string) {
	if a.forgets != nil {
		a.forgets(user, device)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forgotten++
	maps.DeleteFunc(a.acting, func(of [2]string, _ Login) bool { return of[0] == user && (device == "" || of[1] == device) })
	maps.DeleteFunc(a.known, func(_ [sha256.Size]byte, l Login) bool {
		return l.User == user && (device == "" || l.Device == device)
	})
}

// silenced is the type of account data by which one device says whether another one is to be silent, up to that one's id (MSC3890).
const silenced = "org.matrix.msc3890.local_notification_settings."

// Logout removes a device and its tokens, and what others set for it (MSC3890: "when a device is deleted").
func (a *Accounts) Logout(ctx context.Context, user, device string) error {
	err := a.c.Stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) error {
		if err := errors.Join(dropTokens(tx, user, device), store.Devices.Delete(tx, user, device)); err != nil {
			return err
		}
		if _, err := store.DeleteAccountData(tx, advance, user, "", silenced+device); err != nil {
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

// Provide makes the account and the device that a login elsewhere is for, unless they are there, and is the account.
func (a *Accounts) Provide(ctx context.Context, name, shown, device, address string) (u store.User, err error) {
	name = strings.ToLower(name)
	id := a.Full(name)
	if err := a.lets(id); err != nil {
		return u, err
	}
	u, err = a.User(ctx, id)
	if errors.Is(err, ErrNotFound) {
		if _, err = a.Make(ctx, NewUser{Name: name, Shown: shown}); errors.Is(err, ErrTaken) { // another request was faster
			err = nil
		}
	}
	switch {
	case err != nil:
		return u, err
	case u.Deactivated:
		return u, ErrToken
	}
	return u, a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		known, err := store.Devices.Has(tx, id, device)
		if err != nil || known {
			return err
		}
		return store.Devices.Put(tx, store.Device{User: id, ID: device, Created: a.now(), Seen: a.now(), Address: address})
	})
}
