package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"
)

// certificate is a certificate in files, which is read again when they change.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger

	mu   sync.Mutex
	now  *tls.Certificate
	read [2]time.Time // when the files were changed, as they were read last
}

// certificate is that in two files of the configuration; nil if it names none.
func (c *Config) certificate(cert, key string, logger *slog.Logger) (*certificate, error) {
	if cert == "" {
		return nil, nil //nolint:nilnil // TLS is somebody else's
	}
	r := &certificate{certFile: c.path(cert), keyFile: c.path(key), logger: logger}
	return r, r.reload()
}

func (r *certificate) changed() (at [2]time.Time, err error) {
	for i, path := range []string{r.certFile, r.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return at, err
		}
		at[i] = info.ModTime()
	}
	return at, nil
}

// reload reads the files if they are not those that were read.
func (r *certificate) reload() error {
	at, err := r.changed()
	if err != nil {
		return fmt.Errorf("cannot read the certificate: %w", err)
	}
	if r.now != nil && at == r.read {
		return nil
	}
	r.read = at // whatever comes of it: a pair that does not fit is not tried at each connection
	read, err := loadPair(r.certFile, r.keyFile)
	if err != nil {
		return err
	}
	r.now = &read
	return nil
}

// loadPair reads a certificate with its key.
func loadPair(cert, key string) (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err == nil {
		return pair, nil
	}
	what := "both are PEM: the certificate with those between it and its authority, and the key without a password"
	switch {
	case errors.Is(err, os.ErrNotExist):
		what = "paths are relative to the configuration's folder"
	case errors.Is(err, os.ErrPermission):
		what = "this user may not read it"
	case strings.Contains(err.Error(), "does not match"):
		what = "the key is another certificate's: name the two that were made together"
	}
	return pair, fmt.Errorf("cannot use the certificate %s with the key %s: %w (%s)", cert, key, err, what)
}

// get is for tls.Config. A certificate that cannot be read leaves the one before it in use.
func (r *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.reload(); err != nil {
		r.logger.Error("a certificate was not changed (repair the files)", "error", err)
	}
	return r.now, nil
}

func (r *certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: r.get, NextProtos: []string{"h2", "http/1.1"}}
}
