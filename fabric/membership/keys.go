package membership

import (
	"bytes"
	"slices"
)

// Keys are the gossip keys, the one in use first.
func (m *Membership) Keys() [][]byte { return m.keyring.GetKeys() }

// SetKeys makes these the gossip keys: all of them decrypt, the first encrypts. Package rotation says in which order nodes change them, and keeps them.
func (m *Membership) SetKeys(keys [][]byte) error {
	for _, key := range keys {
		if err := m.keyring.AddKey(key); err != nil {
			return err
		}
	}
	if err := m.keyring.UseKey(keys[0]); err != nil {
		return err
	}
	for _, known := range m.keyring.GetKeys() {
		if slices.ContainsFunc(keys, func(key []byte) bool { return bytes.Equal(key, known) }) {
			continue
		}
		if err := m.keyring.RemoveKey(known); err != nil {
			return err
		}
	}
	return nil
}
