// Package contact is what is true of third-party identifiers wherever they are used: which addresses there are and what their one form is (clause
// appendices, 3PID types), what a session of validation is, and how it goes on from what is asked of it and what a user says.
//
// A Session is a value; its methods make another one of it, or say why not.
package contact

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/mail"
	"strings"
	"unicode"

	"golang.org/x/text/cases"
)

// Media of identifiers.
const (
	Email  = "email"
	MSISDN = "msisdn"
)

var (
	// ErrAddress says that something is no address of its medium.
	ErrAddress = errors.New("is no address")
	// ErrSecret says that something is no client secret.
	ErrSecret = errors.New("is no client secret (1 to 255 of 0-9, a-z, A-Z and .=_-)")
	// ErrMedium says that there are no addresses of a medium.
	ErrMedium = errors.New("is no medium of addresses")
	// ErrInUse says that an address is in somebody's account.
	ErrInUse = errors.New("address is in an account already")
	// ErrUnknown says that an address is in nobody's account.
	ErrUnknown = errors.New("address is in no account")
)

// Address is where somebody is reached outside.
type Address struct{ Medium, Text string }

// String is the text.
func (a Address) String() string { return a.Text }

// Lengths of addresses: RFC 5321, section 4.5.3.1; E.164.
const (
	maxEmail  = 254
	maxLocal  = 64
	minNumber = 7
	maxNumber = 15
)

// Parse is an address in the one form that it has.
func Parse(medium, text string) (Address, error) {
	switch medium {
	case Email:
		return parseEmail(text)
	case MSISDN:
		return parseNumber(text)
	}
	return Address{}, fmt.Errorf("%.40q %w", medium, ErrMedium)
}

// Any is an address of whichever medium a text looks like: a number of a telephone with the code of its country, or else an address of mail.
func Any(text string) (Address, error) {
	if a, err := parseNumber(text); err == nil {
		return a, nil
	}
	return parseEmail(text)
}

// parseEmail reads user@domain. It takes none of what else a header of a mail may have: names, comments, quotes.
func parseEmail(text string) (Address, error) {
	bad := fmt.Errorf("%.80q %w of mail", text, ErrAddress)
	text = strings.TrimSpace(text)
	local, domain, ok := strings.Cut(text, "@")
	if !ok || len(text) > maxEmail || len(local) > maxLocal || !strings.Contains(domain, ".") && domain != "localhost" || strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || !unicode.IsPrint(r) || strings.ContainsRune(`"(),:;<>[\]`, r)
	}) {
		return Address{}, bad
	}
	if parsed, err := mail.ParseAddress(text); err != nil || parsed.Address != text {
		return Address{}, bad
	}
	// It is matched without regard to case, in both of its parts.
	return Address{Email, cases.Fold().String(text)}, nil
}

// parseNumber reads a number of a telephone with the code of its country: 447700900001, +44 7700 900001, 0044...
func parseNumber(text string) (Address, error) {
	digits, plus, ok := bare(text)
	if !plus {
		digits = strings.TrimPrefix(digits, "00")
	}
	if !ok {
		digits = ""
	}
	return whole(text, digits)
}

// ValidSecret says what is wrong with what a client made up to identify a session by.
func ValidSecret(secret string) error {
	if secret == "" || len(secret) > 255 || strings.ContainsFunc(secret, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune(".=_-", r)
	}) {
		return ErrSecret
	}
	return nil
}

// Hashed is an address as an identity server is asked for it (clause identity service API, association lookup, sha256).
func (a Address) Hashed(pepper string) string {
	sum := sha256.Sum256([]byte(a.Text + " " + a.Medium + " " + pepper))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}
