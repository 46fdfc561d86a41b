package outside

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"syscall"
)

// Explain is an error of a request to an address that the configuration names, with what is probably the cause, and what to do.
func Explain(err error) error {
	if why := cause(err); why != "" {
		return fmt.Errorf("%w (%s)", err, why)
	}
	return err
}

func cause(err error) string {
	timeout, waited := errors.AsType[net.Error](err)
	_, isUnknown := errors.AsType[x509.UnknownAuthorityError](err)
	_, isOther := errors.AsType[x509.HostnameError](err)
	invalid, isInvalid := errors.AsType[x509.CertificateInvalidError](err)
	name, isName := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, http.ErrSchemeMismatch):
		return "it speaks HTTP without TLS there: name the port where it has TLS, or write http:// if it is on this machine"
	case isUnknown:
		return "nobody signed its certificate whom this machine trusts: have it send the certificates between, too, or name who signed it by SSL_CERT_FILE"
	case isOther:
		return "its certificate is for another name: name it by that one"
	case isInvalid && invalid.Reason == x509.Expired:
		return "its certificate does not count now: it is to be renewed, or a clock is wrong"
	case isName && name.IsNotFound:
		return "is its name right?"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens there: is it running, and is the port right?"
	case waited && timeout.Timeout():
		return "it says nothing: is the port right, and does nothing between drop what is sent?"
	}
	return ""
}
