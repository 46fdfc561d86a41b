// Package authority is a cluster's certificate authority, and what its nodes
// and people prove themselves with.
//
// An Authority is one holder's share of a cluster: its certificate and key, the
// CA's certificate and, on a node, the CA's key and the gossip keys. Every node
// can therefore admit others, and there is no central server
// (docs/decisions/0002-every-node-holds-the-ca-key.md). A certificate names its holder in a URI,
// orrery://CLUSTER/ROLE/NAME/ID, and nothing else in it is looked at.
//
// A Registrar issues join tokens and redeems each of them once, by
// compare-and-swap in the cluster's table. A Token is what a person pastes: it carries
// the CA's fingerprint, so that a newcomer knows the cluster before it sends the secret.
//
// A folder of an Authority belongs to one process at a time. Files are written whole
// or not at all; identity.json is written last, and without it the folder holds no cluster.
package authority

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"orrery/fabric"
)

var (
	// ErrExists says that a folder already holds a cluster's identity, which is never overwritten.
	ErrExists = errors.New("holds the identity of a cluster already")
	// ErrNoIdentity says that a folder holds no cluster's identity.
	ErrNoIdentity = errors.New("holds no identity of a cluster")
	// ErrBadName says that a name is not a DNS label.
	ErrBadName = errors.New("not a DNS label")
	// ErrNameTaken says that another node of the cluster has the name.
	ErrNameTaken = errors.New("name is taken by another node")
	// ErrNotNode says that only a node, which holds the CA's key, can do something.
	ErrNotNode = errors.New("only a node holds the key of the cluster")
)

// Authority is one holder's share of a cluster. Safe for concurrent use.
type Authority struct {
	dir      string
	identity fabric.Identity
	ca       *x509.Certificate
	pool     *x509.CertPool
	caKey    *ecdsa.PrivateKey // nil unless the holder is a node
	key      *ecdsa.PrivateKey

	mu     sync.Mutex
	leaf   *x509.Certificate
	gossip [][]byte
}

// Create makes a new cluster whose first node has the given name, and keeps it
// in dir, which is made if it is missing. ErrExists if dir holds one already.
func Create(dir, name string) (*Authority, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("cannot create a cluster with node %q: %w", name, ErrBadName)
	}
	if err := prepareDir(dir); err != nil {
		return nil, err
	}
	caKey, ca, err := newCA(time.Now())
	if err != nil {
		return nil, err
	}
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	gossip := make([]byte, gossipKeySize)
	if _, err := rand.Read(gossip); err != nil {
		return nil, err
	}
	a := assemble(dir, ca)
	a.caKey, a.key, a.gossip = caKey, key, [][]byte{gossip}
	a.identity = fabric.Identity{Cluster: ClusterID(ca), Name: name, Role: fabric.RoleNode}
	if a.identity.ID, err = nodeID(key.Public()); err != nil {
		return nil, err
	}
	if a.leaf, err = a.sign(key.Public(), a.identity, time.Now()); err != nil {
		return nil, err
	}
	return a, a.save()
}

func assemble(dir string, ca *x509.Certificate) *Authority {
	a := &Authority{dir: dir, ca: ca, pool: x509.NewCertPool()}
	a.pool.AddCert(ca)
	return a
}

// Identity is who the holder is.
func (a *Authority) Identity() fabric.Identity { return a.identity }

// Certificate is the holder's certificate, followed by the CA's, with its key.
// A node renews its own when half of its time is over.
func (a *Authority) Certificate() (tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := time.Now(); a.caKey != nil && now.After(a.leaf.NotBefore.Add(a.leaf.NotAfter.Sub(a.leaf.NotBefore)/2)) {
		leaf, err := a.sign(a.key.Public(), a.identity, now)
		if err != nil {
			return tls.Certificate{}, err
		}
		if err := writeFile(a.dir, fileCert, pemCertificate(leaf), 0o644); err != nil {
			return tls.Certificate{}, err
		}
		a.leaf = leaf
	}
	return tls.Certificate{Certificate: [][]byte{a.leaf.Raw, a.ca.Raw}, PrivateKey: a.key, Leaf: a.leaf}, nil
}

// GossipKeys are the keys that encrypt gossip, the one in use first; none
// unless the holder is a node.
func (a *Authority) GossipKeys() [][]byte {
	a.mu.Lock()
	defer a.mu.Unlock()
	keys := make([][]byte, len(a.gossip))
	for i, k := range a.gossip {
		keys[i] = slices.Clone(k)
	}
	return keys
}

// SetGossipKeys keeps the gossip keys after a rotation, the one in use first.
func (a *Authority) SetGossipKeys(keys [][]byte) error {
	if a.caKey == nil {
		return fmt.Errorf("cannot keep gossip keys: %w", ErrNotNode)
	}
	if err := checkGossip(keys); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := writeFile(a.dir, fileGossip, encodeGossip(keys), 0o600); err != nil {
		return err
	}
	a.gossip = slices.Clone(keys)
	return nil
}

// Verify returns whom a certificate chain names, leaf first. A chain that does
// not end in this cluster's CA is an ErrOtherCluster.
func (a *Authority) Verify(chain []*x509.Certificate) (fabric.Identity, error) {
	return verify(a.ca, a.pool, chain)
}

func verify(ca *x509.Certificate, pool *x509.CertPool, chain []*x509.Certificate) (fabric.Identity, error) {
	if len(chain) == 0 {
		return fabric.Identity{}, errors.New("no certificate was shown")
	}
	leaf := chain[0]
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return fabric.Identity{}, fmt.Errorf("certificate of %s %w: it is not signed by the CA of cluster %s",
			describe(leaf), fabric.ErrOtherCluster, ClusterID(ca))
	}
	if err != nil {
		return fabric.Identity{}, fmt.Errorf("certificate of %s is not valid: %w", describe(leaf), err)
	}
	id, err := identityOf(leaf)
	if err != nil {
		return fabric.Identity{}, err
	}
	if id.Cluster != ClusterID(ca) {
		return fabric.Identity{}, fmt.Errorf("certificate of %s %w", describe(leaf), fabric.ErrOtherCluster)
	}
	return id, nil
}

// VerifyFirst is for a newcomer who knows no more than a token: chain must be
// a node's, and end in the CA that the token was made for. It returns the node and the CA's certificate.
func (t Token) VerifyFirst(chain []*x509.Certificate) (fabric.Identity, *x509.Certificate, error) {
	if len(chain) < 2 {
		return fabric.Identity{}, nil, errors.New("the far side did not show its CA's certificate; it is no node of a cluster")
	}
	ca := chain[len(chain)-1]
	if fingerprint(ca) != t.fingerprint || !ca.IsCA {
		return fabric.Identity{}, nil, fmt.Errorf("token is for cluster %s, and the node that answered %w, %s",
			t.Cluster(), fabric.ErrOtherCluster, ClusterID(ca))
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	id, err := verify(ca, pool, chain)
	if err == nil && id.Role != fabric.RoleNode {
		err = fmt.Errorf("%s answered, which is no node but a %s", id.Name, id.Role)
	}
	return id, ca, err
}

// ClusterID is the id of the cluster whose CA has the certificate.
func ClusterID(ca *x509.Certificate) string {
	sum := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:8])
}

func fingerprint(ca *x509.Certificate) [fingerprintSize]byte {
	sum := sha256.Sum256(ca.RawSubjectPublicKeyInfo)
	return [fingerprintSize]byte(sum[:fingerprintSize])
}

func nodeID(public crypto.PublicKey) (fabric.NodeID, error) {
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(der)
	return fabric.NodeID(hex.EncodeToString(sum[:8])), nil
}

func newKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }
