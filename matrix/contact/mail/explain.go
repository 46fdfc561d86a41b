package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"

	"orrery/matrix/outside"
)

// explained is an error of a connection with what is probably the cause, and what to do.
func (s *Sender) explained(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if why := s.cause(ctx, err); why != "" {
		return fmt.Errorf("server of mail %s %s: %w", s.c.Server, why, err)
	}
	return fmt.Errorf("server of mail %s: %w", s.c.Server, outside.Explain(err))
}

// cause is what is said of mail in another way than of everything outside; "" for the rest.
func (s *Sender) cause(ctx context.Context, err error) string {
	timeout, waited := errors.AsType[net.Error](err)
	_, isPlain := errors.AsType[tls.RecordHeaderError](err)
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	switch {
	case isPlain:
		return "does not begin with TLS (set encryption: starttls, or name the port where it does, often 465)"
	case isUnknown:
		return "has a certificate that nobody signed whom this machine trusts (name who did by ca_file)"
	case waited && timeout.Timeout() && s.c.Encryption != TLS && s.speaksTLS(ctx):
		return "waits for TLS from the beginning (set encryption: tls, or name the port where it begins without, often 587)"
	case s.c.Encryption == StartTLS && strings.Contains(err.Error(), "STARTTLS"):
		return "does not offer STARTTLS (set encryption: tls with the port for it, often 465, or none if it is on this machine)"
	}
	return ""
}

// speaksTLS says whether a server speaks TLS from the beginning. Nothing is said to it then, so its certificate does not matter.
func (s *Sender) speaksTLS(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", s.c.Server) //nolint:gosec // see above
	if err != nil {
		return false
	}
	return conn.Close() == nil
}
