package pair

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"orrery/clip"
	"orrery/clip/replica"
)

const identityName = "identity"

// Identity is a machine's key. The file that has it is of its user alone.
type Identity struct {
	key         ed25519.PrivateKey
	certificate tls.Certificate
}

// LoadIdentity reads the key in a folder; fs.ErrNotExist if there is none.
func LoadIdentity(dir string) (*Identity, error) {
	path := filepath.Join(dir, identityName)
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: %w: it has no key (delete it, and pair anew)", path, clip.ErrCorrupt)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(ed25519.PrivateKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s: %w: it has no Ed25519 key (delete it, and pair anew)", path, clip.ErrCorrupt)
	}
	return newIdentity(key)
}

// MakeIdentity reads the key in a folder, and makes one if there is none.
func MakeIdentity(dir string) (*Identity, error) {
	id, err := LoadIdentity(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, err
	}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	err = writeFile(filepath.Join(dir, identityName), text, func(from, to string) error {
		if err := os.Link(from, to); err != nil && !errors.Is(err, fs.ErrExist) { // another process was first
			return err
		}
		return os.Remove(from)
	})
	if err != nil {
		return nil, err
	}
	return LoadIdentity(dir)
}

func newIdentity(key ed25519.PrivateKey) (*Identity, error) {
	// Nobody looks at it but for its key; clocks may be wrong.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &Identity{key, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}, nil
}

// Public is its public key.
func (i *Identity) Public() ed25519.PublicKey { return i.key.Public().(ed25519.PublicKey) } //nolint:forcetypeassert // by its contract

// Device is what it is called among machines.
func (i *Identity) Device() replica.Device { return DeviceOf(i.Public()) }

// DeviceOf is what the machine with a key is called.
func DeviceOf(key ed25519.PublicKey) replica.Device {
	sum := sha256.Sum256(key)
	return replica.Device(sum[:8])
}

// TLS is a configuration for both sides of a connection: TLS 1.3, with a certificate of both, and judge says of the other's key whether it is trusted, before anything
// is read from it.
func (i *Identity) TLS(judge func(ed25519.PublicKey) error) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{i.certificate},
		ClientAuth: tls.RequireAnyClientCert, InsecureSkipVerify: true, //nolint:gosec // the key is judged below, no authority
		SessionTicketsDisabled: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			key, err := PeerKey(s)
			if err != nil {
				return err
			}
			return judge(key)
		},
	}
}

// PeerKey is the key of the other side.
func PeerKey(s tls.ConnectionState) (ed25519.PublicKey, error) {
	if len(s.PeerCertificates) != 1 {
		return nil, fmt.Errorf("%w: it has %d certificates", ErrForeign, len(s.PeerCertificates))
	}
	key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: its key is no Ed25519 key", ErrForeign)
	}
	return key, nil
}

// writeFile makes a file durable before it is put in its place.
func writeFile(path string, text []byte, put func(from, to string) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = put(f.Name(), path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
