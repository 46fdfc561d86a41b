package contact

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"time"
)

var (
	// ErrSession says that a session is not known: its id, its secret, or what it is for is another.
	ErrSession = errors.New("no session of validation is known by this id and secret")
	// ErrExpired says that a session was begun too long ago.
	ErrExpired = errors.New("session of validation has expired (begin another one)")
	// ErrToken says that a token is not the session's.
	ErrToken = errors.New("token is not of this session")
	// ErrTries says that too many wrong tokens were tried.
	ErrTries = errors.New("too many wrong tokens were tried (begin another session)")
	// ErrNotYet says that a user has not shown yet that the address is theirs.
	ErrNotYet = errors.New("address is not validated yet (follow the link of the mail, or give the code of the message)")
)

// How long a session counts after it changed (clause identity service API, establishing associations), how many wrong tokens one bears, and how many of its
// mails' tokens count: a user may follow the link of an older one.
const (
	Lifetime  = 24 * time.Hour
	MaxTries  = 10
	maxTokens = 3
)

// A code is shorter than the token of a link, since people type it: only the newest counts, for a while, and few wrong ones are borne.
const (
	CodeLifetime = 30 * time.Minute
	MaxCodeTries = 5
)

// Purpose is what an address is validated for. What was validated for one counts for no other.
type Purpose string

// The purposes.
const (
	Register Purpose = "register" // an account is made with it
	Reset    Purpose = "password" // a password is forgotten
	Add      Purpose = "add"      // it is added to an account
)

// Session is one in which somebody shows that an address is theirs.
type Session struct {
	Purpose   Purpose
	Address   Address
	User      string // who alone may use it; "": whoever has its secret
	Secret    []byte // SHA-256 of the client's
	Attempt   int64  // the last for which a mail was sent
	Tokens    []byte // SHA-256 of those that count, one after another, newest last
	NextLink  string // where the user goes afterwards; "": nowhere
	Tries     int64  // wrong tokens
	Changed   int64  // milliseconds since 1970
	Validated int64  // 0: not yet
}

// digest is by what secrets are kept.
func digest(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// Begin is a new session.
func Begin(p Purpose, a Address, user, secret, nextLink string, now int64) Session {
	return Session{Purpose: p, Address: a, User: user, Secret: digest(secret), NextLink: nextLink, Changed: now}
}

// Expired says whether a session does not count any more.
func (s Session) Expired(now int64) bool { return now-s.Changed >= Lifetime.Milliseconds() }

// byCode says whether a session's tokens are codes that people type.
func (s Session) byCode() bool { return s.Address.Medium == MSISDN }

// WithToken is a session for which another token counts, which is about to be sent.
func (s Session) WithToken(token string, now int64) Session {
	if s.byCode() {
		s.Tokens, s.Tries = nil, 0
	}
	s.Tokens = append(slices.Clone(s.Tokens), digest(token)...)
	s.Tokens = s.Tokens[max(0, len(s.Tokens)-maxTokens*sha256.Size):]
	s.Changed = now
	return s
}

// Sent is a session for whose attempt a mail was sent, so that the same one sends no other.
func (s Session) Sent(attempt int64) Session {
	s.Attempt = max(s.Attempt, attempt)
	return s
}

// Submit is what a session becomes by a token that somebody gives. With ErrToken the session has to be kept, too: it counts.
func (s Session) Submit(token string, now int64) (Session, error) {
	most := int64(MaxTries)
	if s.byCode() {
		most = MaxCodeTries
	}
	switch {
	case s.Expired(now), s.byCode() && s.Validated == 0 && now-s.Changed >= CodeLifetime.Milliseconds():
		return s, ErrExpired
	case s.Tries >= most:
		return s, ErrTries
	}
	given, fits := digest(token), 0
	for known := range slices.Chunk(s.Tokens, sha256.Size) {
		fits |= subtle.ConstantTimeCompare(known, given)
	}
	if fits == 0 {
		s.Tries++
		return s, ErrToken
	}
	if s.Validated == 0 {
		s.Validated, s.Changed = now, now
	}
	return s, nil
}

// Knows says whether somebody has a session's secret.
func (s Session) Knows(secret string) bool {
	return subtle.ConstantTimeCompare(s.Secret, digest(secret)) == 1
}

// Prove is nil if somebody who knows a secret has shown, for a purpose, that the address is theirs.
func (s Session) Prove(p Purpose, user, secret string, now int64) error {
	switch {
	case !s.Knows(secret), s.Purpose != p, s.User != "" && s.User != user:
		return ErrSession
	case s.Expired(now):
		return ErrExpired
	case s.Validated == 0:
		return ErrNotYet
	}
	return nil
}

// Key is by what the requests for a session are found to be for the same one: those with another address, secret or purpose are for another.
func (s Session) Key() []byte {
	sum := sha256.New()
	for _, part := range []string{string(s.Purpose), s.Address.Medium, s.Address.Text, s.User, string(s.Secret)} {
		_, _ = sum.Write([]byte{byte(len(part) >> 8), byte(len(part))})
		_, _ = sum.Write([]byte(part))
	}
	return sum.Sum(nil)
}
