package testenv

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Authority is a certificate authority for one test.
type Authority struct {
	File string // its certificate, in PEM

	folder string
	parent *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

// NewAuthority makes one, in a folder that everybody can read, because servers run as accounts of their own.
func NewAuthority(tb testing.TB) *Authority {
	tb.Helper()
	folder, err := os.MkdirTemp("", "orrery-authority-") //nolint:usetesting // that one is below a folder of the test's account alone
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil { //nolint:gosec // meant
		tb.Fatal(err)
	}
	a := &Authority{folder: folder}
	a.File, _ = a.issue(tb, "authority", &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// Issue makes a certificate for 127.0.0.1, of a server or a client, and returns the files of it and of its key.
func (a *Authority) Issue(tb testing.TB, name string) (certificate, key string) {
	tb.Helper()
	return a.issue(tb, name, &x509.Certificate{
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	})
}

// Client is an HTTP client that trusts nobody else.
func (a *Authority) Client(tb testing.TB) *http.Client {
	tb.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.parent)
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (a *Authority) issue(tb testing.TB, name string, c *x509.Certificate) (certificate, keyFile string) {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	a.serial++
	c.SerialNumber, c.Subject = big.NewInt(a.serial), pkix.Name{CommonName: name}
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	if a.parent == nil {
		a.parent, a.key = c, key
	}
	signed, err := x509.CreateCertificate(rand.Reader, c, a.parent, &key.PublicKey, a.key)
	if err != nil {
		tb.Fatal(err)
	}
	if c == a.parent {
		if a.parent, err = x509.ParseCertificate(signed); err != nil {
			tb.Fatal(err)
		}
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	write := func(suffix, kind string, content []byte) string {
		file := filepath.Join(a.folder, name+suffix)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}), 0o644); err != nil { //nolint:gosec // of a test
			tb.Fatal(err)
		}
		return file
	}
	return write(".pem", "CERTIFICATE", signed), write(".key", "PRIVATE KEY", secret)
}
