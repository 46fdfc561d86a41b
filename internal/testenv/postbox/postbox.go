// Package postbox is a server of mail for tests, which keeps what it gets.
package postbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"orrery/internal/testenv"
)

// Options say how a server behaves.
type Options struct {
	CA       *testenv.Authority // that signs its certificate; nil: nothing is encrypted
	Implicit bool               // encrypted from the beginning; otherwise by STARTTLS
	User     string             // who may send; "": everybody
	Password string
}

// Mail is one that came.
type Mail struct {
	From, To string // as the envelope says
	Helo     string // who the client said that it is
	Header   mail.Header
	Text     string
}

// Box is a server that runs.
type Box struct {
	Address string // host:port
	Mails   chan Mail

	options Options
	mu      sync.Mutex
	refuse  map[string]*smtp.SMTPError
	hold    chan struct{}
}

// Start starts a server, which ends with the test.
func Start(tb testing.TB, o Options) *Box {
	tb.Helper()
	b := &Box{Mails: make(chan Mail, 100), options: o, refuse: map[string]*smtp.SMTPError{}}
	s := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) { return &session{box: b, conn: c}, nil }))
	s.Domain, s.EnableSMTPUTF8, s.MaxMessageBytes = "localhost", true, 1<<20
	s.ErrorLog = silent{}
	l, err := (&net.ListenConfig{}).Listen(context.WithoutCancel(tb.Context()), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	b.Address = "localhost:" + port
	if o.CA != nil {
		pair, err := tls.LoadX509KeyPair(o.CA.Issue(tb, "postbox"))
		if err != nil {
			tb.Fatal(err)
		}
		s.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{pair}}
	}
	if o.Implicit {
		l = tls.NewListener(l, s.TLSConfig)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	tb.Cleanup(func() {
		b.Hold(false)
		_ = s.Close()
		if err := <-ended; err != nil && !errors.Is(err, smtp.ErrServerClosed) {
			tb.Error(err)
		}
	})
	return b
}

// Next is the next mail that came.
func (b *Box) Next(tb testing.TB) Mail {
	tb.Helper()
	select {
	case m := <-b.Mails:
		return m
	case <-time.After(time.Minute):
		tb.Fatal("no mail came")
		return Mail{}
	}
}

// Refuse refuses mails to an address from now on, as one of nobody.
func (b *Box) Refuse(address string) { b.Answer(address, 550, 5, 1, 1) }

// Answer refuses mails to an address from now on, by a code and an enhanced one (RFC 3463).
func (b *Box) Answer(address string, code int, enhanced ...int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refuse[address] = &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode(enhanced), Message: "no mail for <" + address + ">"}
}

// Hold has the server say nothing any more when a mail is to be sent, or go on.
func (b *Box) Hold(hold bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.hold != nil {
		close(b.hold)
		b.hold = nil
	}
	if hold {
		b.hold = make(chan struct{})
	}
}

type session struct {
	box      *Box
	conn     *smtp.Conn
	from, to string
	known    bool
}

// AuthMechanisms are how clients may log in.
func (s *session) AuthMechanisms() []string {
	if s.box.options.User == "" {
		return nil
	}
	return []string{sasl.Plain}
}

// Auth lets a client log in.
func (s *session) Auth(string) (sasl.Server, error) {
	return sasl.NewPlainServer(func(_, user, password string) error {
		if user != s.box.options.User || password != s.box.options.Password {
			return smtp.ErrAuthFailed
		}
		s.known = true
		return nil
	}), nil
}

func (s *session) Reset()        { s.from, s.to = "", "" }
func (s *session) Logout() error { return nil }

// Mail begins a mail.
func (s *session) Mail(from string, _ *smtp.MailOptions) error {
	if s.box.options.User != "" && !s.known {
		return smtp.ErrAuthRequired
	}
	s.box.mu.Lock()
	hold := s.box.hold
	s.box.mu.Unlock()
	if hold != nil {
		<-hold
	}
	s.from = from
	return nil
}

// Rcpt says to whom it goes.
func (s *session) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	if refusal := s.box.refuse[to]; refusal != nil {
		return refusal
	}
	if s.to != "" {
		return errors.New("a mail of this server goes to one person")
	}
	s.to = to
	return nil
}

// Data reads it.
func (s *session) Data(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	m, err := mail.ReadMessage(bytes.NewReader(text))
	if err != nil {
		return err
	}
	body := m.Body
	if strings.EqualFold(m.Header.Get("Content-Transfer-Encoding"), "quoted-printable") {
		body = quotedprintable.NewReader(body)
	}
	said, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	s.box.Mails <- Mail{s.from, s.to, s.conn.Hostname(), m.Header, string(said)}
	return nil
}

// silent logs nothing: clients that go away are no errors of a test.
type silent struct{}

func (silent) Printf(string, ...any) {}
func (silent) Println(...any)        {}
