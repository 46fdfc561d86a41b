package store

import "orrery/matrix/table"

// DeviceKey is the keys by which a device is known (clause client-server API, end-to-end encryption).
type DeviceKey struct {
	User   string `col:"user,key"`
	Device string `col:"device,key"`
	JSON   []byte `col:"json"`
}

// OneTimeKey is a key of a device that one other device gets.
type OneTimeKey struct {
	User      string `col:"user,key"`
	Device    string `col:"device,key"`
	Algorithm string `col:"algorithm,key"`
	Order     int64  `col:"order,key"` // in which it came
	ID        string `col:"id"`        // with its algorithm
	JSON      []byte `col:"json"`
}

// FallbackKey is what other devices get when there is no one-time key any more.
type FallbackKey struct {
	User      string `col:"user,key"`
	Device    string `col:"device,key"`
	Algorithm string `col:"algorithm,key"`
	ID        string `col:"id"`
	JSON      []byte `col:"json"`
	Used      bool   `col:"used"`
}

// CrossKey is a user's key for signing: master, self_signing or user_signing.
type CrossKey struct {
	User  string `col:"user,key"`
	Usage string `col:"usage,key"`
	JSON  []byte `col:"json"`
}

// KeySignature is a signature that was made of somebody's key.
type KeySignature struct {
	User      string `col:"user,key"`
	Key       string `col:"key,key"` // a device's id, or a key's name without its algorithm
	Signer    string `col:"signer,key"`
	SignerKey string `col:"signer_key,key"`
	Signature string `col:"signature"`
}

// DeviceList says when a user's devices or keys changed last.
type DeviceList struct {
	User     string `col:"user,key"`
	Position int64  `col:"position"`
}

// SignedUser is a user whose key another one has signed: for that one it is another key since then.
type SignedUser struct {
	Signer   string `col:"signer,key"`
	User     string `col:"user,key"`
	Position int64  `col:"position"`
}

// ToDevice is a message for a device.
type ToDevice struct {
	User     string `col:"user,key"`
	Device   string `col:"device,key"`
	Position int64  `col:"position,key"`
	JSON     []byte `col:"json"`
}

// Tables of keys.
var (
	DeviceKeys    = table.Define[DeviceKey]("device_keys")
	OneTimeKeys   = table.Define[OneTimeKey]("one_time_keys", table.Index{Name: "id", Columns: []string{"user", "device", "id"}, Unique: true})
	FallbackKeys  = table.Define[FallbackKey]("fallback_keys")
	CrossKeys     = table.Define[CrossKey]("cross_keys")
	KeySignatures = table.Define[KeySignature]("key_signatures")
	DeviceLists   = table.Define[DeviceList]("device_lists", table.Index{Name: "position", Columns: []string{"position"}})
	SignedUsers   = table.Define[SignedUser]("signed_users", table.Index{Name: "position", Columns: []string{"signer", "position"}})
	ToDevices     = table.Define[ToDevice]("to_device")

	keySchemas = []*table.Schema{
		DeviceKeys.Schema(), OneTimeKeys.Schema(), FallbackKeys.Schema(), CrossKeys.Schema(), KeySignatures.Schema(), DeviceLists.Schema(), SignedUsers.Schema(), ToDevices.Schema(),
	}
)

// ListChanged notes that a user's devices or keys changed.
func ListChanged(tx table.Tx, user string, position int64) error {
	return DeviceLists.Put(tx, DeviceList{user, position})
}

// DropDevice removes the keys, messages and pushers of a device, and says whether it had keys.
func DropDevice(tx table.Tx, user, device string) (bool, error) {
	had, err := DeviceKeys.Has(tx, user, device)
	if err != nil {
		return had, err
	}
	of := table.Range{Prefix: []any{user, device}}
	for _, drop := range []func() error{
		func() error { return DeviceKeys.Delete(tx, user, device) },
		func() error { return OneTimeKeys.DeleteAll(tx, of) },
		func() error { return FallbackKeys.DeleteAll(tx, of) },
		func() error { return ToDevices.DeleteAll(tx, of) },
		func() error { return KeySignatures.DeleteAll(tx, of) },
		func() error { return dropPushers(tx, user, device) },
	} {
		if err := drop(); err != nil {
			return had, err
		}
	}
	return had, nil
}
