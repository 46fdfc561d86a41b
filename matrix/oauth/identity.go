package oauth

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"sync"

	"github.com/go-jose/go-jose/v4"

	"orrery/matrix/account"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// signing is how it is signed who a user is.
const signing = jose.ES256

// keys is the key by which that is signed, once it was needed.
type keys struct {
	mu  sync.Mutex
	key *jose.JSONWebKey
}

// key is read from the store, or made and kept there.
func (i *Issuer) key(ctx context.Context) (*jose.JSONWebKey, error) {
	i.keys.mu.Lock()
	defer i.keys.mu.Unlock()
	if i.keys.key != nil {
		return i.keys.key, nil
	}
	fresh, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(fresh)
	if err != nil {
		return nil, err
	}
	row := store.OAuthKey{ID: rand.Text()[:12], Private: der, Created: i.c.Now().UnixMilli()}
	if err := i.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		old, ok, err := store.OAuthKeys.First(tx, table.Range{})
		if err != nil || ok {
			row = old
			return err
		}
		return store.OAuthKeys.Put(tx, row)
	}); err != nil {
		return nil, err
	}
	private, err := x509.ParsePKCS8PrivateKey(row.Private)
	if err != nil {
		return nil, err
	}
	i.keys.key = &jose.JSONWebKey{Key: private, KeyID: row.ID, Algorithm: string(signing), Use: "sig"}
	return i.keys.key, nil
}

// public is the key by which others check.
func (i *Issuer) public(ctx context.Context) (any, error) {
	k, err := i.key(ctx)
	if err != nil {
		return nil, err
	}
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{k.Public()}}, nil
}

// identity is a signed statement to a client who the user is (OpenID Connect Core, section 2).
func (i *Issuer) identity(ctx context.Context, client string, code store.OAuthCode, access string) (string, error) {
	claims, err := i.claims(ctx, code.User)
	if err != nil {
		return "", err
	}
	now := i.c.Now()
	half := sha256.Sum256([]byte(access))
	claims["iss"], claims["aud"] = i.c.URL, client
	claims["iat"], claims["exp"] = now.Unix(), now.Add(account.Lifetime).Unix()
	claims["auth_time"], claims["at_hash"] = code.Proved/1000, base64.RawURLEncoding.EncodeToString(half[:16])
	if code.Nonce != "" {
		claims["nonce"] = code.Nonce
	}
	text, err := json.Marshal(claims)
	if err != nil {
		return "", err
	}
	k, err := i.key(ctx)
	if err != nil {
		return "", err
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: signing, Key: k}, (&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(text)
	if err != nil {
		return "", errors.Join(errors.New("cannot sign who a user is"), err)
	}
	return signed.CompactSerialize()
}
