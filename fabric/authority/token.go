package authority

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"orrery/fabric"
)

// ErrTokenMistyped says that a string is not a whole join token.
var ErrTokenMistyped = errors.New("token is mistyped or incomplete (paste all of it again)")

const (
	tokenPrefix     = "orrery-"
	tokenVersion    = 1
	fingerprintSize = 16 // of the SHA-256 of the CA's public key; its first half is the cluster's id
	tokenIDSize     = 6
	secretSize      = 16
	tokenSize       = 2 + fingerprintSize + tokenIDSize + secretSize + crc32.Size
)

var tokenEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// tokenRoles are the bytes of the roles in a token.
var tokenRoles = map[byte]fabric.Role{1: fabric.RoleViewer, 2: fabric.RoleDeveloper, 3: fabric.RoleOperator, 4: fabric.RoleNode}

// Token is a decoded join token. It holds a secret: it is shown once, to
// whoever asked for it, and never logged.
type Token struct {
	// Role is what the newcomer becomes; the cluster's own record of the token decides.
	Role        fabric.Role
	fingerprint [fingerprintSize]byte
	id          [tokenIDSize]byte
	secret      [secretSize]byte
}

func (a *Authority) newToken(role fabric.Role) (Token, error) {
	t := Token{Role: role, fingerprint: fingerprint(a.ca)}
	if _, err := rand.Read(t.id[:]); err != nil {
		return Token{}, err
	}
	_, err := rand.Read(t.secret[:])
	return t, err
}

// Cluster is the id of the cluster that the token admits to.
func (t Token) Cluster() string { return hex.EncodeToString(t.fingerprint[:8]) }

// ID names the token without giving it away.
func (t Token) ID() string { return hex.EncodeToString(t.id[:]) }

// Encode is the string that a person pastes: orrery- and 71 letters and digits in lower case.
func (t Token) Encode() string {
	b := make([]byte, 0, tokenSize)
	b = append(b, tokenVersion, roleByte(t.Role))
	b = append(b, t.fingerprint[:]...)
	b = append(b, t.id[:]...)
	b = append(b, t.secret[:]...)
	b = binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(b))
	return tokenPrefix + tokenEncoding.EncodeToString(b)
}

// String hides the secret, so that a token that is logged by mistake is worth nothing.
func (t Token) String() string { return "token " + t.ID() + " of cluster " + t.Cluster() }

// ParseToken decodes what Encode made. Case, and space around and inside, do not matter.
// ErrTokenMistyped tells a typo from a token that the cluster refuses.
func ParseToken(s string) (Token, error) {
	s = strings.ToLower(strings.Join(strings.Fields(s), ""))
	rest, ok := strings.CutPrefix(s, tokenPrefix)
	if !ok {
		return Token{}, fmt.Errorf("%w: it does not begin with %q", ErrTokenMistyped, tokenPrefix)
	}
	b, err := tokenEncoding.DecodeString(rest)
	if err != nil || len(b) < 1+crc32.Size {
		return Token{}, ErrTokenMistyped
	}
	body, sum := b[:len(b)-crc32.Size], b[len(b)-crc32.Size:]
	if crc32.ChecksumIEEE(body) != binary.BigEndian.Uint32(sum) {
		return Token{}, ErrTokenMistyped
	}
	if body[0] != tokenVersion {
		return Token{}, fmt.Errorf("token has version %d and this program knows %d (use the cluster's version of orrery)", body[0], tokenVersion)
	}
	role, ok := tokenRoles[body[1]]
	if len(b) != tokenSize || !ok {
		return Token{}, ErrTokenMistyped
	}
	t := Token{Role: role}
	body = body[2:]
	body = body[copy(t.fingerprint[:], body):]
	body = body[copy(t.id[:], body):]
	copy(t.secret[:], body)
	// Spare bits of the last letter are not checked by the decoder; one token has one spelling.
	if t.Encode() != s {
		return Token{}, ErrTokenMistyped
	}
	return t, nil
}

func roleByte(r fabric.Role) byte {
	for b, role := range tokenRoles {
		if role == r {
			return b
		}
	}
	return 0
}
