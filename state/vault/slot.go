package vault

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"filippo.io/age"
	"filippo.io/age/agessh"

	"orrery/state"
)

// The kinds of slots.
const (
	KindRecipient  = "recipient"
	KindPassphrase = "passphrase"
)

// Slot is a store's key, wrapped for one recipient or passphrase. It is kept in the clear beside the store.
type Slot struct {
	Version   int       `json:"version"`
	ID        string    `json:"id"`
	Kind      string    `json:"kind"`
	Recipient string    `json:"recipient,omitempty"` // public: age1..., ssh-ed25519 ...
	Note      string    `json:"note,omitempty"`      // of a person; readable without a key
	Created   time.Time `json:"created"`
	Wrapped   []byte    `json:"wrapped"` // an age file that holds wrapMagic and the key
}

const (
	wrapMagic = "ORRKEY\x01"
	maxSlot   = 64 << 10
	maxNote   = 200
)

// WorkFactor is the cost of a passphrase: 2^WorkFactor rounds of scrypt, about a second.
const WorkFactor = 18

// maxWorkFactor bounds the time and memory (1 GiB) that a slot may ask for.
const maxWorkFactor = 20

// WrapRecipient wraps a key for an age or SSH public key.
func WrapRecipient(k Key, recipient, note string, now time.Time) (Slot, error) {
	r, err := parseRecipient(recipient)
	if err != nil {
		return Slot{}, err
	}
	return wrap(k, r, Slot{Kind: KindRecipient, Recipient: strings.TrimSpace(recipient), Note: note, Created: now})
}

func parseRecipient(s string) (age.Recipient, error) {
	s = strings.TrimSpace(s)
	if strings.HasPrefix(s, "AGE-SECRET-KEY-") || strings.Contains(s, "PRIVATE KEY") {
		return nil, fmt.Errorf("%w: a recipient is a public key, and this is a secret one (age-keygen -y prints the public one)", state.ErrBadProperty)
	}
	if strings.HasPrefix(s, "ssh-") {
		r, err := agessh.ParseRecipient(s)
		if err != nil {
			return nil, fmt.Errorf("recipient %.80q: %w: %w", s, state.ErrBadProperty, err)
		}
		return r, nil
	}
	all, err := age.ParseRecipients(strings.NewReader(s))
	if err != nil || len(all) != 1 {
		return nil, fmt.Errorf("recipient %.80q: %w: it is not a public key of age (age1...) or SSH", s, state.ErrBadProperty)
	}
	return all[0], nil
}

// WrapPassphrase wraps a key with a passphrase. Cost is its work factor.
func WrapPassphrase(k Key, passphrase, note string, cost int, now time.Time) (Slot, error) {
	r, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return Slot{}, fmt.Errorf("passphrase: %w: it is empty", state.ErrBadProperty)
	}
	r.SetWorkFactor(cost)
	return wrap(k, r, Slot{Kind: KindPassphrase, Note: note, Created: now})
}

func wrap(k Key, r age.Recipient, s Slot) (Slot, error) {
	if len(s.Note) > maxNote {
		return s, fmt.Errorf("note: %w: longer than %d bytes", state.ErrBadProperty, maxNote)
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, r)
	if err != nil {
		return s, fmt.Errorf("cannot wrap the store's key: %w", err)
	}
	if _, err := w.Write(append([]byte(wrapMagic), k[:]...)); err != nil {
		return s, fmt.Errorf("cannot wrap the store's key: %w", err)
	}
	if err := w.Close(); err != nil {
		return s, fmt.Errorf("cannot wrap the store's key: %w", err)
	}
	var id [4]byte
	_, _ = rand.Read(id[:]) // never fails, by its documentation
	s.Version, s.ID, s.Wrapped = 1, hex.EncodeToString(id[:]), out.Bytes()
	return s, nil
}

// Encode returns the content of the slot's file.
func (s Slot) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(s, "", "  ")
	return append(b, '\n'), err
}

// DecodeSlot reads what Encode returned. ErrCorrupt.
func DecodeSlot(b []byte) (Slot, error) {
	var s Slot
	if len(b) > maxSlot || json.Unmarshal(b, &s) != nil {
		return s, fmt.Errorf("key: %w: malformed", state.ErrCorrupt)
	}
	if s.Version != 1 {
		return s, fmt.Errorf("key: %w: version %d, this program knows 1", state.ErrCorrupt, s.Version)
	}
	if raw, err := hex.DecodeString(s.ID); err != nil || len(raw) != 4 || (s.Kind != KindRecipient && s.Kind != KindPassphrase) {
		return s, fmt.Errorf("key: %w: malformed", state.ErrCorrupt)
	}
	return s, nil
}

// unwrap returns the key if one of the identities fits.
func (s Slot) unwrap(identities []age.Identity) (k Key, err error) {
	r, err := age.Decrypt(bytes.NewReader(s.Wrapped), identities...)
	if err != nil {
		return k, err
	}
	plain, err := io.ReadAll(io.LimitReader(r, int64(len(wrapMagic)+len(k)+1)))
	if err != nil {
		return k, err
	}
	if len(plain) != len(wrapMagic)+len(k) || string(plain[:len(wrapMagic)]) != wrapMagic {
		return k, fmt.Errorf("key %s: %w: it holds no key of a store", s.ID, state.ErrCorrupt)
	}
	copy(k[:], plain[len(wrapMagic):])
	return k, nil
}
