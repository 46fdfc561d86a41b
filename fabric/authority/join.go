package authority

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"orrery/fabric"
)

// Request is what a newcomer sends: a secret, and the key that it wants signed.
type Request struct {
	Token string `json:"token"` // as Token.Encode made it
	Name  string `json:"name"`
	CSR   []byte `json:"csr"` // PKCS #10 in DER, which proves that the sender has the key
}

// Admission is the answer to a newcomer.
type Admission struct {
	Identity    fabric.Identity `json:"identity"`
	Certificate []byte          `json:"certificate"`      // DER
	CA          []byte          `json:"ca"`               // DER
	CAKey       []byte          `json:"caKey,omitempty"`  // PKCS #8; nodes only
	Gossip      [][]byte        `json:"gossip,omitempty"` // nodes only
	// Peers are nodes of the cluster that the newcomer may turn to.
	Peers []fabric.Beacon `json:"peers,omitempty"`
}

// Admit redeems the request's token and signs its key. A refused request changes nothing.
func (r *Registrar) Admit(ctx context.Context, q Request) (Admission, error) {
	t, err := ParseToken(q.Token)
	if err != nil {
		return Admission{}, err
	}
	if !ValidName(q.Name) {
		return Admission{}, fmt.Errorf("cannot admit %q: %w", q.Name, ErrBadName)
	}
	csr, err := x509.ParseCertificateRequest(q.CSR)
	if err != nil {
		return Admission{}, fmt.Errorf("cannot admit %s: certificate request: %w", q.Name, err)
	}
	if err := csr.CheckSignature(); err != nil {
		return Admission{}, fmt.Errorf("cannot admit %s: certificate request: %w", q.Name, err)
	}
	if public, ok := csr.PublicKey.(*ecdsa.PublicKey); !ok || public.Curve.Params().Name != "P-256" {
		return Admission{}, fmt.Errorf("cannot admit %s: its key is not ECDSA P-256", q.Name)
	}
	id, err := nodeID(csr.PublicKey)
	if err != nil {
		return Admission{}, err
	}
	role, err := r.accept(ctx, t, q.Name, id)
	if err != nil {
		return Admission{}, err
	}
	return r.admission(csr, fabric.Identity{Cluster: r.authority.identity.Cluster, ID: id, Name: q.Name, Role: role})
}

// accept redeems the token; a node's name is claimed before, so that a name that is taken does not burn the token.
func (r *Registrar) accept(ctx context.Context, t Token, name string, id fabric.NodeID) (fabric.Role, error) {
	if err := r.barred(ctx, id); err != nil {
		return "", fmt.Errorf("cannot admit %s: %w", name, err)
	}
	record, _, err := r.usable(ctx, t, id)
	if err != nil {
		return "", err
	}
	if record.Role != fabric.RoleNode {
		if err := r.redeem(ctx, t, id); err != nil {
			return "", err
		}
		now := r.now().UTC()
		return record.Role, r.enter(ctx, Person{ID: id, Name: name, Role: record.Role, Token: t.ID(), Admitted: now, Expires: now.Add(personLife)})
	}
	if err := r.ClaimName(ctx, name, id); err != nil {
		return "", err
	}
	if err := r.redeem(ctx, t, id); err != nil {
		return "", errors.Join(err, r.ReleaseName(ctx, name, id))
	}
	return record.Role, nil
}

func (r *Registrar) admission(csr *x509.CertificateRequest, id fabric.Identity) (Admission, error) {
	leaf, err := r.authority.sign(csr.PublicKey, id, r.now())
	if err != nil {
		return Admission{}, err
	}
	answer := Admission{Identity: id, Certificate: leaf.Raw, CA: r.authority.ca.Raw}
	if id.Role == fabric.RoleNode {
		if answer.CAKey, err = x509.MarshalPKCS8PrivateKey(r.authority.caKey); err != nil {
			return Admission{}, err
		}
		answer.Gossip = r.authority.GossipKeys()
	}
	return answer, nil
}

// Candidate is a newcomer that has a key and a token, and no certificate yet.
type Candidate struct {
	dir   string
	name  string
	token Token
	key   *ecdsa.PrivateKey
}

// NewCandidate prepares dir for joining. The key is kept before it is sent anywhere, so that a join
// that was cut off can be repeated with the same token. ErrExists if dir holds an identity.
func NewCandidate(dir, name string, t Token) (*Candidate, error) {
	if !ValidName(name) {
		return nil, fmt.Errorf("cannot join as %q: %w", name, ErrBadName)
	}
	if err := prepareDir(dir); err != nil {
		return nil, err
	}
	key, err := readKey(dir, fileKey)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = keepNewKey(dir)
	}
	if err != nil {
		return nil, err
	}
	return &Candidate{dir, name, t, key}, nil
}

func keepNewKey(dir string) (*ecdsa.PrivateKey, error) {
	key, err := newKey()
	if err != nil {
		return nil, err
	}
	content, err := pemKey(key)
	if err != nil {
		return nil, err
	}
	return key, writeFile(dir, fileKey, content, 0o600)
}

// Token is the token that the candidate joins with.
func (c *Candidate) Token() Token { return c.token }

// Request is what to send to a node, once Token.VerifyFirst has proven that it is one.
func (c *Candidate) Request() (Request, error) {
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: c.name}}, c.key)
	return Request{Token: c.token.Encode(), Name: c.name, CSR: csr}, err
}

// Accept verifies the answer, keeps it in the candidate's folder and returns the share of the cluster.
func (c *Candidate) Accept(answer Admission) (*Authority, error) {
	ca, err := x509.ParseCertificate(answer.CA)
	if err != nil {
		return nil, fmt.Errorf("cannot join: CA certificate: %w", err)
	}
	if fingerprint(ca) != c.token.fingerprint {
		return nil, fmt.Errorf("cannot join: the CA in the answer %w", fabric.ErrOtherCluster)
	}
	a := assemble(c.dir, ca)
	a.key = c.key
	if a.leaf, err = x509.ParseCertificate(answer.Certificate); err != nil {
		return nil, fmt.Errorf("cannot join: certificate: %w", err)
	}
	if a.identity, err = a.Verify([]*x509.Certificate{a.leaf}); err != nil {
		return nil, fmt.Errorf("cannot join: %w", err)
	}
	if a.identity.Role == fabric.RoleNode {
		if a.caKey, err = parseKey(answer.CAKey); err != nil {
			return nil, fmt.Errorf("cannot join: CA key: %w", err)
		}
		if !a.caKey.PublicKey.Equal(ca.PublicKey) {
			return nil, errors.New("cannot join: the CA key in the answer is not the CA's")
		}
		if a.gossip = answer.Gossip; checkGossip(a.gossip) != nil {
			return nil, fmt.Errorf("cannot join: %w", checkGossip(a.gossip))
		}
	}
	if err := a.check(); err != nil {
		return nil, fmt.Errorf("cannot join: %w", err)
	}
	return a, a.save()
}

// Remove deletes what Create or a join kept in dir, the identity first. Other files stay.
func Remove(dir string) error {
	for _, name := range []string{fileIdentity, fileKey, fileCAKey, fileGossip, fileCert, fileCA} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the identity: %w", err)
		}
	}
	return nil
}

// Expires is when the holder's certificate ends; a person joins again before.
func (a *Authority) Expires() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leaf.NotAfter
}
