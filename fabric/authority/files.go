package authority

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"orrery/fabric"
)

// The files of a folder.
const (
	fileIdentity = "identity.json"
	fileCA       = "ca.crt"
	fileCAKey    = "ca.key"
	fileCert     = "node.crt"
	fileKey      = "node.key"
	fileGossip   = "gossip.key"
)

const (
	gossipKeySize = 32
	maxGossipKeys = 8
	formatVersion = 1
)

// identityFile is identity.json.
type identityFile struct {
	Version int `json:"version"`
	fabric.Identity
}

// Open loads what Create or a join kept in dir. ErrNoIdentity if there is nothing.
func Open(dir string) (*Authority, error) {
	content, err := os.ReadFile(filepath.Join(dir, fileIdentity))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("folder %s %w (create a cluster, or join one with a token)", dir, ErrNoIdentity)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the identity: %w", err)
	}
	var kept identityFile
	if err := json.Unmarshal(content, &kept); err != nil || kept.Version != formatVersion {
		return nil, fmt.Errorf("cannot read %s: not an identity of version %d", filepath.Join(dir, fileIdentity), formatVersion)
	}
	ca, err := readCertificate(dir, fileCA)
	if err != nil {
		return nil, err
	}
	a := assemble(dir, ca)
	a.identity = kept.Identity
	if a.leaf, err = readCertificate(dir, fileCert); err != nil {
		return nil, err
	}
	if a.key, err = readKey(dir, fileKey); err != nil {
		return nil, err
	}
	if a.identity.Role == fabric.RoleNode {
		if err := a.openNode(); err != nil {
			return nil, err
		}
	}
	return a, a.check()
}

// openNode loads what only a node has.
func (a *Authority) openNode() (err error) {
	if a.caKey, err = readKey(a.dir, fileCAKey); err != nil {
		return err
	}
	content, err := os.ReadFile(filepath.Join(a.dir, fileGossip))
	if err != nil {
		return fmt.Errorf("cannot read the gossip keys: %w", err)
	}
	if a.gossip, err = decodeGossip(content); err != nil {
		return fmt.Errorf("cannot read %s: %w", filepath.Join(a.dir, fileGossip), err)
	}
	if !a.caKey.PublicKey.Equal(a.ca.PublicKey) {
		return fmt.Errorf("%s is not the key of %s in %s", fileCAKey, fileCA, a.dir)
	}
	return nil
}

// check holds the files of a folder against each other. An expired certificate passes: a node renews its own, and
// whoever meets a person with one says so.
func (a *Authority) check() error {
	id, err := identityOf(a.leaf)
	if err != nil {
		return fmt.Errorf("cannot use %s: %w", filepath.Join(a.dir, fileCert), err)
	}
	if err := a.leaf.CheckSignatureFrom(a.ca); err != nil {
		return fmt.Errorf("cannot use %s: %w", filepath.Join(a.dir, fileCert), err)
	}
	if id != a.identity || id.Cluster != ClusterID(a.ca) || !a.key.PublicKey.Equal(a.leaf.PublicKey) {
		return fmt.Errorf("files in %s do not belong together (restore all of them from one backup)", a.dir)
	}
	return nil
}

// save writes all files; identity.json makes them count.
func (a *Authority) save() error {
	key, err := pemKey(a.key)
	if err != nil {
		return err
	}
	type file struct {
		name    string
		content []byte
		mode    fs.FileMode
	}
	files := []file{
		{fileCA, pemCertificate(a.ca), 0o644},
		{fileCert, pemCertificate(a.leaf), 0o644},
		{fileKey, key, 0o600},
	}
	if a.caKey != nil {
		caKey, err := pemKey(a.caKey)
		if err != nil {
			return err
		}
		files = append(files, file{fileCAKey, caKey, 0o600}, file{fileGossip, encodeGossip(a.gossip), 0o600})
	}
	identity, err := json.MarshalIndent(identityFile{formatVersion, a.identity}, "", "  ")
	if err != nil {
		return err
	}
	files = append(files, file{fileIdentity, append(identity, '\n'), 0o644})
	for _, f := range files {
		if err := writeFile(a.dir, f.name, f.content, f.mode); err != nil {
			return err
		}
	}
	return nil
}

// prepareDir makes the folder, and refuses one that holds an identity.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("cannot keep an identity: %w", err)
	}
	switch _, err := os.Stat(filepath.Join(dir, fileIdentity)); {
	case err == nil:
		return fmt.Errorf("folder %s %w", dir, ErrExists)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	default:
		return fmt.Errorf("cannot keep an identity: %w", err)
	}
}

// writeFile replaces a file whole and durably: readers see the old content or the new.
func writeFile(dir, name string, content []byte, mode fs.FileMode) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("cannot write %s: %w", filepath.Join(dir, name), err)
		}
	}()
	f, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return err
	}
	if err := fill(f, content, mode); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func fill(f *os.File, content []byte, mode fs.FileMode) error {
	_, err := f.Write(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func pemCertificate(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

func pemKey(k *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func readPEM(dir, name, kind string) ([]byte, error) {
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, fmt.Errorf("cannot read the identity: %w", err)
	}
	block, _ := pem.Decode(content)
	if block == nil || block.Type != kind {
		return nil, fmt.Errorf("cannot read %s: no PEM block %q", filepath.Join(dir, name), kind)
	}
	return block.Bytes, nil
}

func readCertificate(dir, name string) (*x509.Certificate, error) {
	der, err := readPEM(dir, name, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", filepath.Join(dir, name), err)
	}
	return c, nil
}

func readKey(dir, name string) (*ecdsa.PrivateKey, error) {
	der, err := readPEM(dir, name, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	k, err := parseKey(der)
	if err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", filepath.Join(dir, name), err)
	}
	return k, nil
}

func parseKey(der []byte) (*ecdsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, err
	}
	k, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key is a %T, not ECDSA", parsed)
	}
	return k, nil
}

// encodeGossip writes a key a line in base64, the one in use first.
func encodeGossip(keys [][]byte) []byte {
	var b bytes.Buffer
	for _, k := range keys {
		b.WriteString(base64.StdEncoding.EncodeToString(k) + "\n")
	}
	return b.Bytes()
}

func decodeGossip(content []byte) ([][]byte, error) {
	var keys [][]byte
	for line := range strings.Lines(string(content)) {
		k, err := base64.StdEncoding.DecodeString(strings.TrimSpace(line))
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, checkGossip(keys)
}

func checkGossip(keys [][]byte) error {
	if len(keys) == 0 || len(keys) > maxGossipKeys {
		return fmt.Errorf("gossip keys: there are %d, want 1 to %d", len(keys), maxGossipKeys)
	}
	for i, k := range keys {
		if len(k) != gossipKeySize {
			return fmt.Errorf("gossip key %d has %d bytes, want %d", i, len(k), gossipKeySize)
		}
	}
	return nil
}
