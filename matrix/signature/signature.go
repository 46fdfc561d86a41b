// Package signature signs JSON objects and checks their signatures, by Ed25519 over the canonical form without signatures and unsigned (clause
// appendices, signing JSON).
package signature

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
)

// Algorithm is the only one that the specification has.
const Algorithm = "ed25519"

// Key is one of a server's (or a device's) signing keys.
type Key struct {
	ID      string // ed25519: and a name of the key
	Private ed25519.PrivateKey
}

// Public is the key's public part, in unpadded base64.
func (k Key) Public() string {
	public, _ := k.Private.Public().(ed25519.PublicKey)
	return Encode(public)
}

// Keys finds the public key of an entity by its id, and says false where there is none that counts.
type Keys func(entity, id string) (ed25519.PublicKey, bool)

// Encode is bytes in unpadded base64 (clause appendices, unpadded base64).
func Encode(b []byte) string { return base64.RawStdEncoding.EncodeToString(b) }

// Decode reads base64 with or without padding, and takes the URL-safe alphabet too, which some servers wrote.
func Decode(s string) ([]byte, error) {
	s = strings.TrimRight(s, "=")
	if strings.ContainsAny(s, "-_") {
		return base64.RawURLEncoding.DecodeString(s)
	}
	return base64.RawStdEncoding.DecodeString(s)
}

// Sign is an object with the entity's signature added to those that it has.
func Sign(v canonical.Value, entity string, key Key) canonical.Value {
	return v.With("signatures", Add(v.Get("signatures"), signed(v), entity, key))
}

// Add is the signatures of something with the entity's of its bytes.
func Add(all canonical.Value, content []byte, entity string, key Key) canonical.Value {
	made := canonical.Text(Encode(ed25519.Sign(key.Private, content)))
	return all.With(entity, all.Get(entity).With(key.ID, made))
}

// signed is the bytes that are signed.
func signed(v canonical.Value) []byte { return v.Without("signatures", "unsigned").JSON() }

// Check finds the entity's signatures on an object by the keys that are known, of which there must be one and all must fit (clause server-server
// API, validating hashes and signatures). The error is matrix.ErrSignature.
func Check(v canonical.Value, entity string, keys Keys) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w of %s: %s", matrix.ErrSignature, entity, fmt.Sprintf(format, args...))
	}
	content, known := signed(v), false
	for id, s := range v.Get("signatures", entity).Members {
		if !strings.HasPrefix(id, Algorithm+":") {
			continue
		}
		public, ok := keys(entity, id)
		if !ok || len(public) != ed25519.PublicKeySize {
			continue
		}
		known = true
		made, err := Decode(s.String())
		if err != nil {
			return bad("by key %s is not base64", id)
		}
		if !ed25519.Verify(public, content, made) {
			return bad("by key %s does not fit", id)
		}
	}
	if !known {
		return bad("there is none by a key that is known and valid")
	}
	return nil
}
