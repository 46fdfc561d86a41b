// Package mail hands mails to a server that delivers them (SMTP, RFC 5321 and 6409).
//
// A connection is encrypted unless the configuration says otherwise, and then no password is said on it that others could read.
package mail

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	netmail "net/mail"
	"strconv"
	"strings"
	"time"

	gomail "github.com/wneessen/go-mail"
)

// ErrRefused says that the server of mail does not take mails to an address, and will not later.
var ErrRefused = errors.New("no mail can be sent to this address")

// Ways in which the connection is encrypted.
const (
	StartTLS = "starttls" // after it was opened
	TLS      = "tls"      // from its beginning
	None     = "none"
)

// timeout is how long a server may take where the configuration does not say.
const timeout = 10 * time.Second

// connections is how many there are at the same time.
const connections = 4

// Config says which server it is.
type Config struct {
	Server     string // host:port
	Encryption string
	User       string // "": nobody logs in
	Password   string
	From       string         // an address, perhaps with a name
	Roots      *x509.CertPool // that sign its certificate; nil: those of the system
	Timeout    time.Duration  // how long it may take to let this one in, and again to take the mail; 0: ten seconds
}

// Sender sends mails.
type Sender struct {
	c      Config
	client *gomail.Client
	from   *netmail.Address
	free   chan struct{}
}

// New is a sender. It does not connect yet.
func New(c Config) (*Sender, error) {
	from, err := netmail.ParseAddress(c.From)
	if err != nil {
		return nil, fmt.Errorf("%q is no address that mails can be from: %w", c.From, err)
	}
	host, portText, err := net.SplitHostPort(c.Server)
	if err != nil {
		return nil, fmt.Errorf("server of mail %q is not host:port", c.Server)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 || host == "" {
		return nil, fmt.Errorf("server of mail %q is not host:port", c.Server)
	}
	options := []gomail.Option{
		gomail.WithPort(int(port)), gomail.WithTimeout(cmp.Or(c.Timeout, timeout)), gomail.WithHELO(domain(from)),
		gomail.WithTLSConfig(&tls.Config{ServerName: host, RootCAs: c.Roots, MinVersion: tls.VersionTLS12}),
	}
	switch c.Encryption {
	case StartTLS:
		options = append(options, gomail.WithTLSPolicy(gomail.TLSMandatory))
	case TLS:
		options = append(options, gomail.WithSSL())
	case None:
		options = append(options, gomail.WithTLSPolicy(gomail.NoTLS))
	default:
		return nil, fmt.Errorf("encryption %q of mail is none of %s, %s, %s", c.Encryption, StartTLS, TLS, None)
	}
	if c.User != "" {
		options = append(options, gomail.WithSMTPAuth(gomail.SMTPAuthAutoDiscover), gomail.WithUsername(c.User), gomail.WithPassword(c.Password))
	}
	client, err := gomail.NewClient(host, options...)
	return &Sender{c, client, from, make(chan struct{}, connections)}, err
}

// domain is that of an address. Servers are told it as this one's name (RFC 5321, 4.1.4: a qualified one): the machine's own name may mean nothing to them, and is
// nobody's business.
func domain(from *netmail.Address) string {
	return from.Address[strings.LastIndexByte(from.Address, '@')+1:]
}

// Send sends a mail. The error is ErrRefused if the server takes none to that address; after any other one it may be tried again.
func (s *Sender) Send(ctx context.Context, to, subject, text string) error {
	m := gomail.NewMsg(gomail.WithNoDefaultUserAgent())
	m.FromMailAddress(s.from)
	if err := m.To(to); err != nil {
		return fmt.Errorf("%w: %w", ErrRefused, err)
	}
	m.Subject(subject)
	m.SetDate()
	m.SetMessageIDWithValue(rand.Text() + "@" + domain(s.from))
	m.SetGenHeader("Auto-Submitted", "auto-generated") // RFC 3834: no machine answers it
	m.SetBodyString(gomail.TypeTextPlain, text)
	return s.with(ctx, func(ctx context.Context) error {
		err := s.client.DialAndSendWithContext(ctx, m)
		if failed, ok := errors.AsType[*gomail.SendError](err); ok && refused(failed) {
			return fmt.Errorf("%w: the server of mail answered %d %s", ErrRefused, failed.ErrorCode(), failed.EnhancedStatusCode())
		}
		return s.explained(ctx, err)
	})
}

// refused says whether it is the address to which nothing can be sent. Servers say at this point of a conversation, too, that they take nothing from whoever
// sends: then the codes are others than those of addresses and mailboxes (RFC 3463, 3.2 and 3.3).
func refused(e *gomail.SendError) bool {
	if e.Reason != gomail.ErrSMTPRcptTo || e.IsTemp() {
		return false
	}
	code := e.EnhancedStatusCode()
	if code == "5.1.7" || code == "5.1.8" { // the sender's address
		return false
	}
	return code == "" || strings.HasPrefix(code, "5.1.") || strings.HasPrefix(code, "5.2.")
}

// Check connects as for a mail, and sends none.
func (s *Sender) Check(ctx context.Context) error {
	return s.with(ctx, func(ctx context.Context) error {
		c, err := s.client.DialToSMTPClientWithContext(ctx)
		if err != nil {
			return s.explained(ctx, err)
		}
		return s.client.CloseWithSMTPClient(c)
	})
}

// with calls a function once there are few enough connections.
func (s *Sender) with(ctx context.Context, f func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	select {
	case s.free <- struct{}{}:
		defer func() { <-s.free }()
		return f(ctx)
	case <-limited.Done():
		return fmt.Errorf("too many mails are being sent: %w", limited.Err())
	}
}
