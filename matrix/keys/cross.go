package keys

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
	"orrery/matrix/signature"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Uses of a user's keys for signing (clause client-server API, cross-signing).
const (
	Master      = "master"
	SelfSigning = "self_signing" // signs the user's devices
	UserSigning = "user_signing" // signs other users' master keys
)

// Usages are all of them.
var Usages = []string{Master, SelfSigning, UserSigning}

// Cross is a user's key for signing, with the signatures that asker may see; of kind None if there is none. Only the user sees the user-signing key.
func (k *Keys) Cross(ctx context.Context, user, usage, asker string) (v canonical.Value, err error) {
	if usage == UserSigning && user != asker {
		return v, nil
	}
	err = k.stream.DB().View(ctx, func(tx table.Tx) error {
		if v, err = cross(tx, user, usage); err != nil || v.Kind() == canonical.None {
			return err
		}
		name, _ := publicKey(v)
		v, err = withSignatures(tx, v, user, name, asker)
		return err
	})
	return v, err
}

func cross(tx table.Tx, user, usage string) (canonical.Value, error) {
	row, ok, err := store.CrossKeys.Get(tx, user, usage)
	if err != nil || !ok {
		return canonical.Value{}, err
	}
	return canonical.Parse(row.JSON, canonical.Lax)
}

// publicKey is the one key in a key object, and its name, which is the same in base64.
func publicKey(v canonical.Value) (string, ed25519.PublicKey) {
	for id, key := range v.Get("keys").Members {
		if name, ok := strings.CutPrefix(id, signature.Algorithm+":"); ok {
			public, err := signature.Decode(key.String())
			if err == nil && len(public) == ed25519.PublicKeySize {
				return name, public
			}
		}
	}
	return "", nil
}

// withSignatures is a key object with those of the signatures that others made that asker may see: the user's own, and what asker made.
func withSignatures(tx table.Tx, v canonical.Value, user, key, asker string) (canonical.Value, error) {
	all, err := store.KeySignatures.All(tx, table.Range{Prefix: []any{user, key}})
	for _, s := range all {
		if s.Signer == user || s.Signer == asker {
			signatures := v.Get("signatures")
			v = v.With("signatures", signatures.With(s.Signer, signatures.Get(s.Signer).With(s.SignerKey, canonical.Text(s.Signature))))
		}
	}
	return v, err
}

// HasCross says whether a user has a master key, and whether keys that are to be set are those that are there.
func (k *Keys) HasCross(ctx context.Context, user string, set map[string]canonical.Value) (has, same bool, err error) {
	err = k.stream.DB().View(ctx, func(tx table.Tx) error {
		same = true
		for _, usage := range Usages {
			old, err := cross(tx, user, usage)
			if err != nil {
				return err
			}
			has = has || usage == Master && old.Kind() != canonical.None
			if v, ok := set[usage]; ok && !v.Without("signatures").Equal(old.Without("signatures")) {
				same = false
			}
		}
		return nil
	})
	return has, same, err
}

// SetCross sets keys for signing. Those that are not the master key are signed by it.
func (k *Keys) SetCross(ctx context.Context, user string, set map[string]canonical.Value) error {
	err := k.stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) error {
		master, ok := set[Master]
		if !ok {
			var err error
			if master, err = cross(tx, user, Master); err != nil {
				return err
			}
		}
		name, public := publicKey(master)
		for _, usage := range Usages {
			v, ok := set[usage]
			if !ok {
				continue
			}
			if err := checkCross(v, user, usage, name, public); err != nil {
				return err
			}
			if err := store.CrossKeys.Put(tx, store.CrossKey{User: user, Usage: usage, JSON: v.JSON()}); err != nil {
				return err
			}
		}
		return changed(tx, advance, user)
	}, nil)
	if err == nil {
		k.waker.WakeSharing(ctx, user)
	}
	return err
}

func checkCross(v canonical.Value, user, usage, masterName string, master ed25519.PublicKey) error {
	bad := func(why string) error { return fmt.Errorf("%s key is %w: %s", usage, matrix.ErrMalformed, why) }
	if v.Get("user_id").String() != user {
		return bad("of another user")
	}
	uses := false
	for u := range v.Get("usage").Elements {
		uses = uses || u.String() == usage
	}
	if _, public := publicKey(v); public == nil || v.Get("keys").Len() != 1 {
		return bad("it has not one key")
	}
	if !uses {
		return bad("it is for another use")
	}
	if usage == Master {
		return nil
	}
	if master == nil {
		return fmt.Errorf("%w: there is no master key to sign the %s key", matrix.ErrSignature, usage)
	}
	return signature.Check(v, user, one(masterName, master))
}

// one is a single key by its name.
func one(name string, public ed25519.PublicKey) signature.Keys {
	return func(_, id string) (ed25519.PublicKey, bool) { return public, id == signature.Algorithm+":"+name }
}

// Sign takes a signature that a user made of a key: of an own device, of the own master key, or of another user's master key. signed is the key object with
// it.
func (k *Keys) Sign(ctx context.Context, signer, user, key string, signed canonical.Value) error {
	err := k.stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) error {
		kept, err := target(tx, user, key)
		if err != nil {
			return err
		}
		if !kept.Without("signatures", "unsigned").Equal(signed.Without("signatures", "unsigned")) {
			return fmt.Errorf("what is signed is %w: not the key that is known", matrix.ErrMalformed)
		}
		keys, err := signers(tx, signer, user)
		if err != nil {
			return err
		}
		if err := signature.Check(signed, signer, keys); err != nil {
			return err
		}
		for id, s := range signed.Get("signatures", signer).Members {
			if _, known := keys(signer, id); !known {
				continue
			}
			if err := store.KeySignatures.Put(tx, store.KeySignature{User: user, Key: key, Signer: signer, SignerKey: id, Signature: s.String()}); err != nil {
				return err
			}
		}
		if signer == user {
			return changed(tx, advance, user)
		}
		position, err := advance(1)
		if err != nil {
			return err
		}
		return store.SignedUsers.Put(tx, store.SignedUser{Signer: signer, User: user, Position: position}) // only the signer sees it
	}, nil)
	if err == nil {
		k.waker.WakeSharing(ctx, signer)
	}
	return err
}

// target is the device's keys or the master key that a signature is of.
func target(tx table.Tx, user, key string) (canonical.Value, error) {
	row, ok, err := store.DeviceKeys.Get(tx, user, key)
	if err != nil {
		return canonical.Value{}, err
	}
	if ok {
		return canonical.Parse(row.JSON, canonical.Lax)
	}
	master, err := cross(tx, user, Master)
	if err != nil {
		return master, err
	}
	if name, public := publicKey(master); public == nil || name != key {
		return master, fmt.Errorf("%w: %s of %s", ErrNotFound, key, user)
	}
	return master, nil
}

// signers are the keys by which a user signs keys of their own, or of somebody else.
func signers(tx table.Tx, signer, user string) (signature.Keys, error) {
	known := map[string]ed25519.PublicKey{}
	usages := []string{UserSigning}
	if signer == user {
		usages = []string{SelfSigning}
		devices, err := store.DeviceKeys.All(tx, table.Range{Prefix: []any{user}})
		if err != nil {
			return nil, err
		}
		for _, d := range devices {
			v, err := canonical.Parse(d.JSON, canonical.Lax)
			if err != nil {
				return nil, err
			}
			id := signature.Algorithm + ":" + d.Device
			if public, err := signature.Decode(v.Get("keys", id).String()); err == nil && len(public) == ed25519.PublicKeySize {
				known[id] = public
			}
		}
	}
	for _, usage := range usages {
		v, err := cross(tx, signer, usage)
		if err != nil {
			return nil, err
		}
		if name, public := publicKey(v); public != nil {
			known[signature.Algorithm+":"+name] = public
		}
	}
	if len(known) == 0 {
		return nil, errors.Join(matrix.ErrSignature, ErrNotFound)
	}
	return func(_, id string) (ed25519.PublicKey, bool) { public, ok := known[id]; return public, ok }, nil
}
