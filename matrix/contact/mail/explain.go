package mail

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
)

// explained is an error of a connection with what is probably the cause, and what to do.
func (s *Sender) explained(ctx context.Context, err error) error {
	if why := s.cause(ctx, err); why != "" {
		return fmt.Errorf("server of mail %s %s: %w", s.c.Server, why, err)
	}
	return err
}

func (s *Sender) cause(ctx context.Context, err error) string {
	timeout, waited := errors.AsType[net.Error](err)
	_, isPlain := errors.AsType[tls.RecordHeaderError](err)
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, isOther := errors.AsType[x509.HostnameError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	name, isName := errors.AsType[*net.DNSError](err)
	switch {
	case err == nil:
		return ""
	case isPlain:
		return "does not begin with TLS (set encryption: starttls, or name the port where it does, often 465)"
	case isUnknown:
		return "has a certificate that nobody signed whom this machine trusts (name who did by ca_file)"
	case isOther:
		return "has a certificate for another name (name the server by that one)"
	case isInvalid && invalid.Reason == x509.Expired:
		return "has a certificate that does not count now (it is to be renewed, or a clock is wrong)"
	case isName && name.IsNotFound:
		return "is not found (is its name right?)"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "is not there: nothing listens at this port (is it running, and is the port right?)"
	case waited && timeout.Timeout() && s.c.Encryption != TLS && s.speaksTLS(ctx):
		return "waits for TLS from the beginning (set encryption: tls, or name the port where it begins without, often 587)"
	case waited && timeout.Timeout():
		return "says nothing (is the port right, and does nothing between drop what is sent?)"
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
