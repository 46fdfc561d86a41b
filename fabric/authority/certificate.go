package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"regexp"
	"strings"
	"time"

	"orrery/fabric"
)

const (
	scheme = "orrery"
	// A node renews its certificate itself, so its life is short enough for a
	// stolen one to die and long enough for a machine that was off for months.
	nodeLife   = 365 * 24 * time.Hour
	personLife = 90 * 24 * time.Hour
	caLife     = 30 * 365 * 24 * time.Hour
	// Clocks of machines that meet for the first time may differ.
	clockSkew = time.Hour
)

var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ValidName says whether name can name a node or a person: a DNS label in lower case.
func ValidName(name string) bool { return validName.MatchString(name) }

func newCA(now time.Time) (*ecdsa.PrivateKey, *x509.Certificate, error) {
	key, err := newKey()
	if err != nil {
		return nil, nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "Orrery cluster CA"},
		NotBefore:             now.Add(-clockSkew),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(der)
	return key, ca, err
}

// sign makes a certificate that names id for a public key.
func (a *Authority) sign(public crypto.PublicKey, id fabric.Identity, now time.Time) (*x509.Certificate, error) {
	if a.caKey == nil {
		return nil, fmt.Errorf("cannot sign a certificate for %s: %w", id.Name, ErrNotNode)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	life := personLife
	usage := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	if id.Role == fabric.RoleNode {
		life = nodeLife
		usage = append(usage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: id.Name, OrganizationalUnit: []string{string(id.Role)}},
		URIs:         []*url.URL{identityURL(id)},
		NotBefore:    now.Add(-clockSkew),
		NotAfter:     now.Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  usage,
	}, a.ca, public, a.caKey)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func newSerial() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
}

func identityURL(id fabric.Identity) *url.URL {
	return &url.URL{Scheme: scheme, Host: id.Cluster, Path: "/" + string(id.Role) + "/" + id.Name + "/" + string(id.ID)}
}

// identityOf reads the identity in a certificate and holds its id against its key.
func identityOf(leaf *x509.Certificate) (fabric.Identity, error) {
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != scheme {
		return fabric.Identity{}, errors.New("certificate names no identity of a cluster")
	}
	u := leaf.URIs[0]
	parts := strings.Split(strings.TrimPrefix(u.Path, "/"), "/")
	if len(parts) != 3 {
		return fabric.Identity{}, fmt.Errorf("certificate names %q, which is no identity", u)
	}
	id := fabric.Identity{Cluster: u.Host, Role: fabric.Role(parts[0]), Name: parts[1], ID: fabric.NodeID(parts[2])}
	if !id.Role.Allows(fabric.RoleViewer) || !ValidName(id.Name) {
		return fabric.Identity{}, fmt.Errorf("certificate names %q, which is no identity", u)
	}
	if want, err := nodeID(leaf.PublicKey); err != nil || want != id.ID {
		return fabric.Identity{}, fmt.Errorf("certificate of %s names the key of another holder", id.Name)
	}
	return id, nil
}

func describe(leaf *x509.Certificate) string {
	if len(leaf.URIs) == 1 && leaf.URIs[0].Scheme == scheme {
		return leaf.URIs[0].String()
	}
	return fmt.Sprintf("%q", leaf.Subject.CommonName)
}
