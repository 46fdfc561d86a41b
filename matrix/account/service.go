package account

import (
	"context"
	"errors"
	"fmt"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// ErrReserved says that a name is an application service's.
var ErrReserved = errors.New("is reserved for an application service")

// Adopt makes the account of an application service's own user, unless it is there. One by which a person logs in is not taken.
func (a *Accounts) Adopt(ctx context.Context, service, localpart string) error {
	id := a.Full(localpart)
	var there bool
	if err := a.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		u, ok, err := store.Users.Get(tx, id)
		if there = ok; err != nil || !ok {
			return err
		}
		_, own, err := store.ServiceUsers.Get(tx, id)
		if err != nil || own {
			return err
		}
		_, elsewhere, err := store.Externals.First(tx, table.Range{Index: "user", Prefix: []any{id}})
		if err == nil && (u.Password != "" || u.Admin || u.Guest || elsewhere) {
			err = fmt.Errorf("%s is the account of a person (choose another name)", id)
		}
		return err
	}); err != nil || there {
		return err
	}
	_, err := a.Make(ctx, NewUser{Name: localpart, Service: service})
	return err
}

// Act is a user of an application service, on one of their devices or, for "", on none. The errors are ErrNotFound, also of a device, and ErrDeactivated.
func (a *Accounts) Act(ctx context.Context, id, deviceID string) (Login, error) {
	if err := a.lets(id); err != nil {
		return Login{}, err
	}
	key := [2]string{id, deviceID}
	a.mu.Lock()
	l, ok := a.acting[key]
	forgotten := a.forgotten
	a.mu.Unlock()
	if ok {
		return l, nil
	}
	if err := a.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		u, err := user(tx, id)
		if err == nil && u.Deactivated {
			err = ErrDeactivated
		}
		if err == nil && deviceID != "" {
			_, err = device(tx, id, deviceID)
		}
		l = Login{User: id, Device: deviceID, Guest: u.Guest, Locked: u.Locked, Suspended: u.Suspended}
		return err
	}); err != nil {
		return l, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.acting) > maxKnown || a.acting == nil {
		a.acting = map[[2]string]Login{}
	}
	if forgotten == a.forgotten {
		a.acting[key] = l
	}
	return l, nil
}

// MakeDevice makes a device of a user without a token, or gives the one that there is a name if that is not nil. It says whether it is new.
func (a *Accounts) MakeDevice(ctx context.Context, id, deviceID string, name *string, address string) (made bool, err error) {
	err = a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		if err := active(tx, id); err != nil {
			return err
		}
		d, there, err := store.Devices.Get(tx, id, deviceID)
		if err != nil {
			return err
		}
		if made = !there; made {
			d = store.Device{User: id, ID: deviceID, Created: a.now(), Seen: a.now(), Address: address}
		}
		if name != nil {
			d.Name = *name
		}
		return store.Devices.Put(tx, d)
	})
	return made, err
}
