package history

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"fmt"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/chacha20poly1305"

	"orrery/clip"
)

// The costs of turning a passphrase into a key (RFC 9106, section 4, second recommendation, with one lane for each of few cores).
const (
	argonTime    = 3
	argonMemory  = 64 << 10 // KiB
	argonThreads = 4
	keySize      = chacha20poly1305.KeySize
)

// Slot is a way to the key of an encrypted history: the key, wrapped with a secret that is kept elsewhere.
type Slot struct {
	// Kind says where the secret is: "passphrase" (in somebody's head), "file", or "secret-service".
	Kind string `json:"kind"`
	// Hint says which one: a file's path. Empty where there is nothing to say.
	Hint    string `json:"hint,omitempty"`
	Salt    []byte `json:"salt"`
	Time    uint32 `json:"time,omitempty"`   // Argon2id's, for passphrases
	Memory  uint32 `json:"memory,omitempty"` // KiB
	Threads uint8  `json:"threads,omitempty"`
	Wrapped []byte `json:"wrapped"` // nonce and sealed key
}

// Secret opens a slot, or is to open a new one.
type Secret struct {
	Kind string `json:"kind"`
	Hint string `json:"hint,omitempty"`
	Text []byte `json:"text"`
}

// Slow kinds are secrets that can be guessed.
const slowKind = "passphrase"

func wrapKey(key []byte, s Secret) (Slot, error) {
	slot := Slot{Kind: s.Kind, Hint: s.Hint, Salt: make([]byte, 16)}
	if _, err := rand.Read(slot.Salt); err != nil {
		return slot, err
	}
	if s.Kind == slowKind {
		slot.Time, slot.Memory, slot.Threads = argonTime, argonMemory, argonThreads
	}
	wrapping, err := slot.derive(s.Text)
	if err != nil {
		return slot, err
	}
	slot.Wrapped = wrapping.close(nil, key, []byte(slot.Kind))
	return slot, nil
}

func (s *Slot) derive(secret []byte) (*seal, error) {
	if len(secret) == 0 || len(s.Salt) < 8 {
		return nil, fmt.Errorf("%w: no secret", clip.ErrLocked)
	}
	if s.Kind != slowKind {
		key, err := hkdf.Key(sha256.New, secret, s.Salt, "orrery clip history", keySize)
		if err != nil {
			return nil, err
		}
		return newSeal(key)
	}
	// Bounds, so that a forged header cannot take all memory.
	if s.Time == 0 || s.Time > 64 || s.Memory > 1<<20 || s.Threads == 0 {
		return nil, fmt.Errorf("%w: its key asks for Argon2 with time %d and %d KiB", clip.ErrCorrupt, s.Time, s.Memory)
	}
	return newSeal(argon2.IDKey(secret, s.Salt, s.Time, s.Memory, s.Threads, keySize))
}

// The kinds of secrets.
const (
	Passphrase    = slowKind
	KeyFile       = "file"
	SecretService = "secret-service"
)

// ErrWrong says that a passphrase is not the one that opens a history.
var ErrWrong = fmt.Errorf("%w, and the passphrase is wrong", clip.ErrLocked)

// unwrap is the history's key by one of its slots.
func unwrap(slots []Slot, secrets []Secret) ([]byte, error) {
	wrong := false
	for _, s := range slots {
		for _, secret := range secrets {
			if secret.Kind != s.Kind || s.Kind != slowKind && secret.Hint != s.Hint {
				continue
			}
			wrong = wrong || s.Kind == slowKind
			wrapping, err := s.derive(secret.Text)
			if err != nil {
				return nil, err
			}
			if key, err := wrapping.open(s.Wrapped, []byte(s.Kind)); err == nil {
				return key, nil
			}
		}
	}
	if wrong {
		return nil, ErrWrong
	}
	var kinds []string
	for _, s := range slots {
		kinds = append(kinds, s.Kind)
	}
	return nil, fmt.Errorf("%w: no secret that was given opens it (it has keys by %v)", clip.ErrLocked, kinds)
}

// seal encrypts by XChaCha20-Poly1305; each result begins with its random nonce.
type seal struct{ aead cipher.AEAD }

func newSeal(key []byte) (*seal, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, err
	}
	return &seal{aead}, nil
}

// close appends the sealed text to b.
func (s *seal) close(b, text, additional []byte) []byte {
	at := len(b)
	b = append(b, make([]byte, s.aead.NonceSize())...)
	_, _ = rand.Read(b[at:]) // never fails, by its contract
	return s.aead.Seal(b, b[at:], text, additional)
}

func (s *seal) open(sealed, additional []byte) ([]byte, error) {
	n := s.aead.NonceSize()
	if len(sealed) < n {
		return nil, fmt.Errorf("%w: too short to be encrypted", clip.ErrCorrupt)
	}
	text, err := s.aead.Open(nil, sealed[:n], sealed[n:], additional)
	if err != nil {
		return nil, fmt.Errorf("%w: it does not decrypt", clip.ErrCorrupt)
	}
	return text, nil
}
