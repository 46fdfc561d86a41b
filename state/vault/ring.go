package vault

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"

	"orrery/state"
)

// The environment variables that keys come from.
const (
	EnvIdentityFile   = "ORRERY_STORE_IDENTITY_FILE"   // names a file of age identities, or an SSH private key
	EnvIdentity       = "ORRERY_STORE_IDENTITY"        // holds an age identity: AGE-SECRET-KEY-1...
	EnvPassphraseFile = "ORRERY_STORE_PASSPHRASE_FILE" // names a file whose first line is a passphrase
	EnvPassphrase     = "ORRERY_STORE_PASSPHRASE"      // holds a passphrase
)

// Ring is what somebody has to open encrypted stores with. The zero value, and nil, have nothing.
type Ring struct {
	identities  []age.Identity
	passphrases []age.Identity
}

// AddIdentityFile adds the identities in a file: age's, or an SSH private key without a passphrase.
func (r *Ring) AddIdentityFile(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("cannot read identities: %w", err)
	}
	if err := r.addIdentities(b); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// addIdentities tells nothing of what is in b when that cannot be read.
func (r *Ring) addIdentities(b []byte) error {
	if bytes.HasPrefix(b, []byte("-----BEGIN")) {
		i, err := agessh.ParseIdentity(b)
		if err != nil {
			return fmt.Errorf("%w: not an SSH private key without a passphrase", state.ErrBadProperty)
		}
		r.identities = append(r.identities, i)
		return nil
	}
	all, err := age.ParseIdentities(bytes.NewReader(b))
	if err != nil {
		return fmt.Errorf("%w: not identities of age (AGE-SECRET-KEY-1..., as age-keygen writes them)", state.ErrBadProperty)
	}
	r.identities = append(r.identities, all...)
	return nil
}

// AddPassphraseFile adds the first line of a file.
func (r *Ring) AddPassphraseFile(path string) error {
	pass, err := ReadPassphrase(path)
	if err != nil {
		return err
	}
	return r.AddPassphrase(pass)
}

// ReadPassphrase returns the first line of a file.
func ReadPassphrase(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot read a passphrase: %w", err)
	}
	line, _, _ := strings.Cut(string(b), "\n")
	if line = strings.TrimSuffix(line, "\r"); line == "" {
		return "", fmt.Errorf("%s: %w: its first line, the passphrase, is empty", path, state.ErrBadProperty)
	}
	return line, nil
}

// AddPassphrase adds a passphrase.
func (r *Ring) AddPassphrase(pass string) error {
	i, err := age.NewScryptIdentity(pass)
	if err != nil {
		return fmt.Errorf("passphrase: %w: it is empty", state.ErrBadProperty)
	}
	i.SetMaxWorkFactor(maxWorkFactor)
	r.passphrases = append(r.passphrases, i)
	return nil
}

// AddEnvironment adds what the environment names or holds.
func (r *Ring) AddEnvironment(getenv func(string) string) error {
	if path := getenv(EnvIdentityFile); path != "" {
		if err := r.AddIdentityFile(path); err != nil {
			return fmt.Errorf("%s: %w", EnvIdentityFile, err)
		}
	}
	if held := getenv(EnvIdentity); held != "" {
		if err := r.addIdentities([]byte(held)); err != nil {
			return fmt.Errorf("%s: %w", EnvIdentity, err)
		}
	}
	if path := getenv(EnvPassphraseFile); path != "" {
		if err := r.AddPassphraseFile(path); err != nil {
			return fmt.Errorf("%s: %w", EnvPassphraseFile, err)
		}
	}
	if held := getenv(EnvPassphrase); held != "" {
		return r.AddPassphrase(held)
	}
	return nil
}

// Unlock returns the key that the slots hold, and which slot gave it. ErrKey if none fits.
func (r *Ring) Unlock(slots []Slot) (Key, Slot, error) {
	if r == nil || len(r.identities)+len(r.passphrases) == 0 {
		return Key{}, Slot{}, fmt.Errorf("%w: none was given", state.ErrKey)
	}
	for _, s := range slots {
		mine := r.identities
		if s.Kind == KindPassphrase {
			mine = r.passphrases
		}
		for _, i := range mine {
			if k, err := s.unwrap([]age.Identity{i}); err == nil {
				return k, s, nil
			}
		}
	}
	return Key{}, Slot{}, fmt.Errorf("%w: %d given, and none opens any of the store's %d",
		state.ErrKey, len(r.identities)+len(r.passphrases), len(slots))
}
