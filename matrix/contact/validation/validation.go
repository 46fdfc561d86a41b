// Package validation has users show that an address is theirs (clause client-server API, adding account administrative contact information): it sends them a
// mail with a link, or a message with a code to their telephone, and whoever follows it or knows it can read what is sent there.
//
// What it sends is in the store as a hash before it is sent, so that a server that ends in between knows its own links and codes. What could not be sent leaves
// nothing behind. Unless it is told otherwise, it says to nobody whether an address is somebody's: the mail or message says it, to whom it concerns.
package validation

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"slices"
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
	// ErrNoMessages says that this server sends no messages to telephones.
	ErrNoMessages = errors.New("this server sends nothing to telephones")
	// ErrElsewhere says that this server sends messages to telephones, but not to those of a number's country.
	ErrElsewhere = errors.New("this server sends nothing to telephones of that country")
	// ErrSending says that a mail or a message could not be sent now.
	ErrSending = errors.New("nothing could be sent to the address, try again later")
)

// TooMany says that too many mails or messages were sent to an address, for somebody, or at all.
type TooMany struct{ After time.Duration }

// Error says when to try again.
func (e *TooMany) Error() string {
	return fmt.Sprintf("too many mails or messages were sent (try again in %s)", e.After.Round(time.Second))
}

// Mailer sends mails.
type Mailer interface {
	// Send sends one. The error is mail.ErrRefused if none can be sent to the address.
	Send(ctx context.Context, to, subject, text string) error
}

// Messenger sends messages to telephones.
type Messenger interface {
	// Send sends one to a number, which is digits with the code of the country before them.
	Send(ctx context.Context, number, text string) error
}

// Config says for which server.
type Config struct {
	Stream    *store.Stream
	Server    string    // its name, for people
	URL       string    // where browsers reach it
	Mailer    Mailer    // nil: none
	Messenger Messenger // nil: none
	Codes     []string  // the codes of the countries to whose telephones messages are sent; none: all
	Daily     int64     // how many messages are sent in a day; 0: as many as are wanted
	Reveal    bool      // clients are told whether an address is somebody's
	Limit     rate.Limit
	Messages  rate.Limit
	Now       func() time.Time
	Logger    *slog.Logger
}

// Path is that of the page to which links lead, and CodePath where clients give the code of a message.
const (
	Path     = "/_matrix/client/v3/account/validate"
	CodePath = Path + "/code"
)

// Validations are a server's.
type Validations struct {
	c        Config
	limits   *rate.Limiter
	messages *rate.Limiter
}

// New is those of a server.
func New(c Config) *Validations {
	c.URL = strings.TrimSuffix(c.URL, "/")
	return &Validations{c: c, limits: rate.New(c.Limit), messages: rate.New(c.Messages)}
}

// Sends says whether this server sends something to addresses of a medium.
func (v *Validations) Sends(medium string) bool {
	return v != nil && (medium == contact.Email && v.c.Mailer != nil || medium == contact.MSISDN && v.c.Messenger != nil)
}

// SubmitURL is where clients give the token that is sent to addresses of a medium (clause client-server API, submit_url); "" if they need not.
func (v *Validations) SubmitURL(medium string) string {
	if medium != contact.MSISDN {
		return "" // the link is enough
	}
	return v.c.URL + CodePath
}

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

// reaches is nil if something can be sent to an address.
func (v *Validations) reaches(of contact.Address) error {
	switch {
	case of.Medium == contact.Email && !v.Sends(of.Medium):
		return ErrNoMail
	case of.Medium == contact.MSISDN && !v.Sends(of.Medium):
		return ErrNoMessages
	case of.Medium == contact.MSISDN && len(v.c.Codes) > 0 && !slices.ContainsFunc(v.c.Codes, func(code string) bool { return strings.HasPrefix(of.Text, code) }):
		return ErrElsewhere
	}
	return nil
}

// Ask sends a mail or a message, unless one was sent for this attempt, and is the id of the session.
func (v *Validations) Ask(ctx context.Context, w Wanted) (id string, err error) {
	if err := contact.ValidSecret(w.Secret); err != nil {
		return "", err
	}
	if err := v.reaches(w.Address); err != nil {
		return "", err
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
	token, err := newToken(w.Address.Medium)
	if err != nil {
		return "", err
	}
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

// newToken is a token for an address: long for a link, and one that can be typed for a telephone.
func newToken(medium string) (string, error) {
	if medium != contact.MSISDN {
		return rand.Text(), nil
	}
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%06d", n), nil
}

// limit counts a mail or message to an address, and one for whoever asks.
func (v *Validations) limit(w Wanted, now time.Time) error {
	limits, names := v.limits, []string{"from " + w.From, "to " + w.Address.Text}
	if w.Address.Medium == contact.MSISDN {
		limits = v.messages
		if w.User != "" {
			names = append(names, "for "+w.User)
		}
	}
	for _, name := range names {
		if wait := limits.Take(name, now); wait > 0 {
			return &TooMany{wait}
		}
	}
	return nil
}

// send sends the mail or the message.
func (v *Validations) send(ctx context.Context, w Wanted, owner string, refusal error, id, token string) error {
	l := letter{Server: v.c.Server, Purpose: w.Purpose, Refused: refusal != nil, Owner: owner, User: w.User}
	var err error
	if w.Address.Medium == contact.MSISDN {
		err = v.c.Messenger.Send(ctx, w.Address.Text, l.message(token))
	} else {
		l.Link = v.c.URL + Path + "?" + url.Values{"sid": {id}, "token": {token}}.Encode()
		subject, text := write(l)
		err = v.c.Mailer.Send(ctx, w.Address.Text, subject, text)
	}
	if err == nil || errors.Is(err, mail.ErrRefused) {
		return err
	}
	v.c.Logger.ErrorContext(ctx, "nothing could be sent to an address", "medium", w.Address.Medium, "purpose", string(w.Purpose), "error", err)
	return ErrSending
}

// Session is that of a link, by its id.
func (v *Validations) Session(ctx context.Context, id string) (s contact.Session, err error) {
	err = v.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		row, err := get(tx, id)
		s = session(row)
		switch {
		case err == nil && s.Address.Medium != contact.Email:
			err = contact.ErrSession
		case err == nil && s.Expired(v.c.Now().UnixMilli()):
			err = contact.ErrExpired
		}
		return err
	})
	return s, err
}

// Submit is the session in which somebody gave the token of a mail. A wrong one counts, too.
func (v *Validations) Submit(ctx context.Context, id, token string) (contact.Session, error) {
	return v.submit(ctx, id, token, func(s contact.Session) bool { return s.Address.Medium == contact.Email })
}

// SubmitCode is the session in which somebody who has its secret gave the code of a message, perhaps with spaces in it. A wrong one counts, too.
func (v *Validations) SubmitCode(ctx context.Context, id, secret, code string) (contact.Session, error) {
	code = strings.Join(strings.Fields(code), "")
	return v.submit(ctx, id, code, func(s contact.Session) bool { return s.Address.Medium == contact.MSISDN && s.Knows(secret) })
}

func (v *Validations) submit(ctx context.Context, id, token string, fits func(contact.Session) bool) (s contact.Session, err error) {
	err = v.change(ctx, id, func(before contact.Session) (contact.Session, error) {
		if s = before; !fits(before) {
			return s, contact.ErrSession
		}
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
