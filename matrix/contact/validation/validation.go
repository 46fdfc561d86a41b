// Package validation has users show that an address is theirs (clause client-server API, adding account administrative contact information): it sends them a
// mail with a link, and whoever follows it can read what is sent there.
//
// What it sends is in the store as a hash before it is sent, so that a server that ends in between knows its own links. A mail that could not be sent leaves
// nothing behind. Unless it is told otherwise, it says to nobody whether an address is somebody's: the mail says it, to whom it concerns.
package validation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"orrery/matrix/contact"
	"orrery/matrix/contact/mail"
	"orrery/matrix/rate"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

var (
	// ErrNoMail says that this server sends no mail.
	ErrNoMail = errors.New("this server sends no mail")
	// ErrSending says that a mail could not be sent now.
	ErrSending = errors.New("the mail could not be sent, try again later")
)

// TooMany says that too many mails were sent to an address, or for somebody.
type TooMany struct{ After time.Duration }

// Error says when to try again.
func (e *TooMany) Error() string {
	return fmt.Sprintf("too many mails were sent (try again in %s)", e.After.Round(time.Second))
}

// Mailer sends mails.
type Mailer interface {
	// Send sends one. The error is mail.ErrRefused if none can be sent to the address.
	Send(ctx context.Context, to, subject, text string) error
}

// Config says for which server.
type Config struct {
	Stream *store.Stream
	Server string // its name, for people
	URL    string // where browsers reach it
	Mailer Mailer // nil: none
	Reveal bool   // clients are told whether an address is somebody's
	Limit  rate.Limit
	Now    func() time.Time
	Logger *slog.Logger
}

// Path is that of the page to which links lead.
const Path = "/_matrix/client/v3/account/validate"

// Validations are a server's.
type Validations struct {
	c      Config
	limits *rate.Limiter
}

// New is those of a server.
func New(c Config) *Validations {
	c.URL = strings.TrimSuffix(c.URL, "/")
	return &Validations{c: c, limits: rate.New(c.Limit)}
}

// Sends says whether this server sends mail.
func (v *Validations) Sends() bool { return v != nil && v.c.Mailer != nil }

// Wanted is what somebody asks for.
type Wanted struct {
	Purpose  contact.Purpose
	Address  contact.Address
	User     string // who alone may use it; "": whoever has the secret
	Secret   string
	Attempt  int64
	NextLink string
	From     string // where they ask from
}

// Ask sends a mail, unless one was sent for this attempt, and is the id of the session.
func (v *Validations) Ask(ctx context.Context, w Wanted) (id string, err error) {
	switch err := contact.ValidSecret(w.Secret); {
	case err != nil:
		return "", err
	case w.Address.Medium != contact.Email:
		return "", fmt.Errorf("%s %w here", w.Address.Medium, contact.ErrMedium)
	case !v.Sends():
		return "", ErrNoMail
	}
	now := v.c.Now()
	begun := contact.Begin(w.Purpose, w.Address, w.User, w.Secret, w.NextLink, now.UnixMilli())
	row, owner, err := v.find(ctx, begun)
	if err != nil {
		return "", err
	}
	if row.ID != "" && w.Attempt <= row.Attempt {
		return row.ID, nil
	}
	refusal := refused(w.Purpose, owner)
	if refusal != nil && v.c.Reveal {
		return "", refusal
	}
	if err := v.limit(w, now); err != nil {
		return "", err
	}
	token := rand.Text()
	if id, err = v.keep(ctx, begun, refusal == nil, token); err != nil {
		return "", err
	}
	if err := v.send(ctx, w, owner, refusal, id, token); err != nil {
		return "", errors.Join(err, v.undo(context.WithoutCancel(ctx), id))
	}
	return id, v.change(ctx, id, func(s contact.Session) (contact.Session, error) { return s.Sent(w.Attempt), nil })
}

// refused is why an address cannot be used for something, whose owner is known; nil if it can.
func refused(p contact.Purpose, owner string) error {
	switch {
	case p == contact.Reset && owner == "":
		return contact.ErrUnknown
	case p != contact.Reset && owner != "":
		return contact.ErrInUse
	}
	return nil
}

// limit counts a mail to an address, and one for whoever asks.
func (v *Validations) limit(w Wanted, now time.Time) error {
	for _, name := range []string{"from " + w.From, "to " + w.Address.Text} {
		if wait := v.limits.Take(name, now); wait > 0 {
			return &TooMany{wait}
		}
	}
	return nil
}

// send sends the mail.
func (v *Validations) send(ctx context.Context, w Wanted, owner string, refusal error, id, token string) error {
	subject, text := write(letter{
		Server: v.c.Server, Purpose: w.Purpose, Refused: refusal != nil, Owner: owner, User: w.User,
		Link: v.c.URL + Path + "?" + url.Values{"sid": {id}, "token": {token}}.Encode(),
	})
	err := v.c.Mailer.Send(ctx, w.Address.Text, subject, text)
	if err == nil || errors.Is(err, mail.ErrRefused) {
		return err
	}
	v.c.Logger.ErrorContext(ctx, "a mail was not sent", "purpose", string(w.Purpose), "error", err)
	return ErrSending
}

// Session is one by its id.
func (v *Validations) Session(ctx context.Context, id string) (s contact.Session, err error) {
	err = v.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		row, err := get(tx, id)
		s = session(row)
		if err == nil && s.Expired(v.c.Now().UnixMilli()) {
			err = contact.ErrExpired
		}
		return err
	})
	return s, err
}

// Submit is the session in which somebody gave the token of a mail. A wrong one counts, too.
func (v *Validations) Submit(ctx context.Context, id, token string) (s contact.Session, err error) {
	err = v.change(ctx, id, func(before contact.Session) (contact.Session, error) {
		var err error
		s, err = before.Submit(token, v.c.Now().UnixMilli())
		return s, err
	})
	return s, err
}

// Proof is what somebody has who showed that an address is theirs.
type Proof struct {
	Purpose    contact.Purpose
	User       string
	ID, Secret string
}

// Find is the proof of whoever knows a secret that an address was validated with, and nothing else of the session.
func (v *Validations) Find(ctx context.Context, purpose contact.Purpose, of contact.Address, user, secret string) (p Proof, err error) {
	for _, who := range []string{user, ""} { // who asked may have had to say who they are, or not
		row, _, err := v.find(ctx, contact.Begin(purpose, of, who, secret, "", 0))
		if err != nil {
			return p, err
		}
		if row.ID != "" {
			p = Proof{purpose, user, row.ID, secret}
			_, err = v.Proved(ctx, p)
			return p, err
		}
	}
	return p, contact.ErrSession
}

// Proved is the address, without using the session up.
func (v *Validations) Proved(ctx context.Context, p Proof) (a contact.Address, err error) {
	err = v.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		a, _, err = p.check(tx, v.c.Now().UnixMilli())
		return err
	})
	return a, err
}
