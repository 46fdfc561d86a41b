package account

import (
	"context"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// seenEvery is how many milliseconds a device is used before that is written again: when it was last seen "may be a few minutes out of date, for efficiency reasons" (clause client-server API,
// device management).
const seenEvery = 5 * 60 * 1000

// Saw notes that a device was used, at an address. An error means only that it is not written, which the request that brought it need not know.
func (a *Accounts) Saw(ctx context.Context, l Login, address string) error {
	of := [2]string{l.User, l.Device}
	if l.Device == "" || !a.unseen(of) {
		return nil
	}
	var old store.Device
	err := a.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		old, err = device(tx, l.User, l.Device)
		return err
	})
	if err != nil || a.now()-old.Seen < seenEvery {
		return err
	}
	return a.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		d, err := device(tx, l.User, l.Device) // it may have been removed, or renamed, meanwhile
		if err != nil {
			return err
		}
		d.Seen, d.Address = a.now(), address
		return store.Devices.Put(tx, d)
	})
}

// unseen says whether it is time to write that a device is used, and takes it for written.
func (a *Accounts) unseen(of [2]string) bool {
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, ok := a.seen[of]; ok && now-at < seenEvery {
		return false
	}
	if len(a.seen) > maxKnown {
		clear(a.seen)
	}
	a.seen[of] = now
	return true
}
