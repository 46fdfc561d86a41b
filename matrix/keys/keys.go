// Package keys keeps the public keys of users' devices, by which clients encrypt for one another, and passes messages between devices (clauses client-server
// API, end-to-end encryption and send-to-device messaging). It never sees a secret.
package keys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

var (
	// ErrConflict says that a one-time key is there with another content.
	ErrConflict = errors.New("exists already")
	// ErrNotFound says that there is no such key.
	ErrNotFound = errors.New("no such key")
)

// Waker lets answers to users be made again.
type Waker interface {
	Wake(users ...string)
	// WakeSharing wakes a user and all who share a room.
	WakeSharing(ctx context.Context, user string)
}

// Keys are those of a server's users.
type Keys struct {
	stream   *store.Stream
	waker    Waker
	follower Follower // nil: there is none
}

// New is the keys in a stream's database.
func New(stream *store.Stream, waker Waker) *Keys { return &Keys{stream: stream, waker: waker} }

// Upload takes keys of a device: its own, which are of that user and device, further one-time keys, and fallback keys in place of those of the same
// algorithm. Any may be missing (kind None).
func (k *Keys) Upload(ctx context.Context, user, device string, own, oneTime, fallback canonical.Value) error {
	if own.Kind() != canonical.None && (own.Get("user_id").String() != user || own.Get("device_id").String() != device) {
		return fmt.Errorf("device_keys are %w: of another user or device", matrix.ErrMalformed)
	}
	if err := validDevice(own); err != nil {
		return err
	}
	isNew := false
	err := k.stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) error {
		isNew = false
		if own.Kind() == canonical.Object {
			old, ok, err := store.DeviceKeys.Get(tx, user, device)
			if err != nil {
				return err
			}
			if isNew = !ok || string(old.JSON) != string(own.JSON()); isNew {
				if err := errors.Join(store.DeviceKeys.Put(tx, store.DeviceKey{User: user, Device: device, JSON: own.JSON()}), changed(tx, advance, user)); err != nil {
					return err
				}
			}
		}
		if err := putOneTime(tx, user, device, oneTime); err != nil {
			return err
		}
		if err := putFallback(tx, user, device, fallback); err != nil || oneTime.Len()+fallback.Len() == 0 {
			return err
		}
		return k.counted(tx, user, device)
	}, nil)
	k.committed(err, user)
	if err == nil && isNew {
		k.waker.WakeSharing(ctx, user)
	}
	return err
}

// validDevice is nil if device keys have what others need of them, or there are none (clause client-server API, device keys).
func validDevice(own canonical.Value) error {
	if own.Kind() != canonical.Object {
		return nil
	}
	for name, kind := range map[string]canonical.Kind{"algorithms": canonical.Array, "keys": canonical.Object, "signatures": canonical.Object} {
		if own.Get(name).Kind() != kind {
			return fmt.Errorf("device_keys are %w: %s is missing, or of another type", matrix.ErrMalformed, name)
		}
	}
	return nil
}

// changed notes that a user's devices or keys changed.
func changed(tx table.Tx, advance func(int) (int64, error), user string) error {
	position, err := advance(1)
	if err != nil {
		return err
	}
	return store.ListChanged(tx, user, position)
}

func putOneTime(tx table.Tx, user, device string, keys canonical.Value) error {
	for id, key := range keys.Members {
		algorithm, _, ok := strings.Cut(id, ":")
		if !ok {
			return fmt.Errorf("one-time key %q is %w: it is algorithm:name", id, matrix.ErrMalformed)
		}
		old, ok, err := store.OneTimeKeys.First(tx, table.Range{Index: "id", Prefix: []any{user, device, id}})
		if err != nil {
			return err
		}
		if ok {
			if string(old.JSON) != string(key.JSON()) {
				return fmt.Errorf("one-time key %s %w, with another content", id, ErrConflict)
			}
			continue
		}
		last, _, err := store.OneTimeKeys.First(tx, table.Range{Prefix: []any{user, device, algorithm}, Descending: true})
		if err != nil {
			return err
		}
		if err := store.OneTimeKeys.Put(tx, store.OneTimeKey{User: user, Device: device, Algorithm: algorithm, Order: last.Order + 1, ID: id, JSON: key.JSON()}); err != nil {
			return err
		}
	}
	return nil
}

func putFallback(tx table.Tx, user, device string, keys canonical.Value) error {
	for id, key := range keys.Members {
		algorithm, _, ok := strings.Cut(id, ":")
		if !ok {
			return fmt.Errorf("fallback key %q is %w: it is algorithm:name", id, matrix.ErrMalformed)
		}
		if err := store.FallbackKeys.Put(tx, store.FallbackKey{User: user, Device: device, Algorithm: algorithm, ID: id, JSON: key.JSON()}); err != nil {
			return err
		}
	}
	return nil
}

// Counts are how many one-time keys a device has, by algorithm.
func Counts(tx table.Tx, user, device string) (map[string]int, error) {
	counts := map[string]int{}
	for key, err := range store.OneTimeKeys.Scan(tx, table.Range{Prefix: []any{user, device}}) {
		if err != nil {
			return nil, err
		}
		counts[key.Algorithm]++
	}
	return counts, nil
}

// UnusedFallbacks are the algorithms of a device's fallback keys that nobody got yet.
func UnusedFallbacks(tx table.Tx, user, device string) ([]string, error) {
	unused := []string{}
	for key, err := range store.FallbackKeys.Scan(tx, table.Range{Prefix: []any{user, device}}) {
		if err != nil {
			return nil, err
		}
		if !key.Used {
			unused = append(unused, key.Algorithm)
		}
	}
	return unused, nil
}

// Claim gives a one-time key of a device away, the one that came first; or its fallback key if there is none. ErrNotFound says that there is neither.
func (k *Keys) Claim(ctx context.Context, user, device, algorithm string) (id string, key canonical.Value, err error) {
	var text []byte
	err = k.stream.DB().Update(ctx, func(tx table.Tx) error {
		first, ok, err := store.OneTimeKeys.First(tx, table.Range{Prefix: []any{user, device, algorithm}})
		if err != nil {
			return err
		}
		if ok {
			id, text = first.ID, first.JSON
			return errors.Join(store.OneTimeKeys.Delete(tx, user, device, algorithm, first.Order), k.counted(tx, user, device))
		}
		fallback, ok, err := store.FallbackKeys.Get(tx, user, device, algorithm)
		if err != nil {
			return err
		}
		if !ok {
			return ErrNotFound
		}
		id, text = fallback.ID, fallback.JSON
		fallback.Used = true
		return errors.Join(store.FallbackKeys.Put(tx, fallback), k.counted(tx, user, device))
	})
	k.committed(err, user)
	if err != nil {
		return "", key, err
	}
	key, err = canonical.Parse(text, canonical.Lax)
	return id, key, err
}

// Devices are a user's devices with their keys, as asker may see them; nil wants all.
func (k *Keys) Devices(ctx context.Context, user string, wanted []string, asker string) (map[string]canonical.Value, error) {
	found := map[string]canonical.Value{}
	err := k.stream.DB().View(ctx, func(tx table.Tx) error {
		all, err := store.DeviceKeys.All(tx, table.Range{Prefix: []any{user}})
		if err != nil {
			return err
		}
		for _, d := range all {
			if len(wanted) > 0 && !slices.Contains(wanted, d.Device) {
				continue
			}
			v, err := canonical.Parse(d.JSON, canonical.Lax)
			if err != nil {
				return err
			}
			if v, err = withSignatures(tx, v, user, d.Device, asker); err != nil {
				return err
			}
			named, _, err := store.Devices.Get(tx, user, d.Device)
			if err != nil {
				return err
			}
			if named.Name != "" {
				v = v.With("unsigned", canonical.Of(canonical.Member{Name: "device_display_name", Value: canonical.Text(named.Name)}))
			}
			found[d.Device] = v
		}
		return nil
	})
	return found, err
}

// Send puts a message of a type into the queues of devices: of a user's device by its id, or of all by *.
func (k *Keys) Send(ctx context.Context, sender, kind string, messages canonical.Value) error {
	var users []string
	err := k.stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) error {
		users = nil
		for user, to := range messages.Members {
			users = append(users, user)
			for device, content := range to.Members {
				devices, err := named(tx, user, device)
				if err != nil {
					return err
				}
				message := canonical.Of(
					canonical.Member{Name: "type", Value: canonical.Text(kind)}, canonical.Member{Name: "sender", Value: canonical.Text(sender)},
					canonical.Member{Name: "content", Value: content},
				)
				if err := k.queue(tx, advance, user, devices, message.JSON()); err != nil {
					return err
				}
			}
		}
		return nil
	}, nil)
	if err == nil {
		k.waker.Wake(users...)
	}
	k.committed(err, users...)
	return err
}

// named are the devices of a user that a message's address means: one that there is, or by * all.
func named(tx table.Tx, user, device string) ([]string, error) {
	all, err := store.Devices.All(tx, table.Range{Prefix: []any{user}})
	var found []string
	for _, d := range all {
		if device == "*" || device == d.ID {
			found = append(found, d.ID)
		}
	}
	return found, err
}

func (k *Keys) queue(tx table.Tx, advance func(int) (int64, error), user string, devices []string, message []byte) error {
	if len(devices) == 0 {
		return nil
	}
	position, err := advance(1)
	for _, d := range devices {
		err = errors.Join(err, store.ToDevices.Put(tx, store.ToDevice{User: user, Device: d, Position: position, JSON: message}), k.message(tx, user, d, position, message))
	}
	return err
}
