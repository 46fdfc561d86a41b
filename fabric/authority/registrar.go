package authority

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"orrery/fabric"
)

// Keys of the table that authority owns.
const (
	TokenPrefix = "fabric/token/" // + a token's ID: TokenRecord
	NamePrefix  = "fabric/name/"  // + a node's name: its NodeID
)

// DefaultTTL is how long a token lives unless its issuer says otherwise.
const DefaultTTL = 15 * time.Minute

const (
	maxTTL = 7 * 24 * time.Hour
	// Records of tokens stay for a while after their end, so that a late user hears what was wrong.
	keepRecords = 7 * 24 * time.Hour
)

// TokenRecord is what the table holds of a token: not the secret.
type TokenRecord struct {
	ID      string        `json:"id"`
	Role    fabric.Role   `json:"role"`
	Hash    string        `json:"hash"` // hex of the SHA-256 of the secret
	Issued  time.Time     `json:"issued"`
	Expires time.Time     `json:"expires"`
	UsedBy  fabric.NodeID `json:"usedBy,omitempty"`
	UsedAt  time.Time     `json:"usedAt,omitzero"`
}

// Registrar issues tokens and admits who redeems one. Any node has one; they meet in the table.
type Registrar struct {
	authority *Authority
	table     fabric.Table
	now       func() time.Time
}

// NewRegistrar returns a node's registrar. ErrNotNode without the CA's key.
func NewRegistrar(a *Authority, table fabric.Table) (*Registrar, error) {
	if a.caKey == nil {
		return nil, ErrNotNode
	}
	return &Registrar{authority: a, table: table, now: time.Now}, nil
}

// Issue makes a token for one newcomer of the role. A ttl of 0 means DefaultTTL. Records of
// tokens that ended long ago are removed on the way.
func (r *Registrar) Issue(ctx context.Context, role fabric.Role, ttl time.Duration) (Token, error) {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if roleByte(role) == 0 {
		return Token{}, fmt.Errorf("cannot issue a token for role %q: no such role (viewer, developer, operator or node)", role)
	}
	if ttl < 0 || ttl > maxTTL {
		return Token{}, fmt.Errorf("cannot issue a token that lives %v: more than 0 and at most %v", ttl, maxTTL)
	}
	t, err := r.authority.newToken(role)
	if err != nil {
		return Token{}, err
	}
	now := r.now()
	record := TokenRecord{ID: t.ID(), Role: role, Hash: t.hash(), Issued: now.UTC(), Expires: now.Add(ttl).UTC()}
	if err := r.write(ctx, record, 0); err != nil {
		return Token{}, fmt.Errorf("cannot issue a token: %w", err)
	}
	r.sweep(ctx)
	return t, nil
}

// List returns the records of all tokens, sorted by id.
func (r *Registrar) List(ctx context.Context) ([]TokenRecord, error) {
	return list[TokenRecord](ctx, r.table, TokenPrefix)
}

// RevokeToken makes a token unknown. Who was admitted by it stays.
func (r *Registrar) RevokeToken(ctx context.Context, id string) error {
	return r.table.Delete(ctx, TokenPrefix+id, 0)
}

// sweep removes old records of tokens and people; what it leaves is removed the next time.
func (r *Registrar) sweep(ctx context.Context) {
	for _, prefix := range []string{TokenPrefix, PersonPrefix} {
		entries, err := r.table.List(ctx, prefix)
		if err != nil {
			return
		}
		for _, e := range entries {
			var record struct {
				Expires time.Time `json:"expires"`
			}
			if json.Unmarshal(e.Value, &record) == nil && r.now().Sub(record.Expires) > keepRecords {
				_ = r.table.Delete(ctx, e.Key, e.Revision)
			}
		}
	}
}

// redeem marks a token as used by a newcomer and returns the role. The same newcomer may repeat it: the answer to
// its first attempt may have been lost.
func (r *Registrar) redeem(ctx context.Context, t Token, by fabric.NodeID) error {
	for {
		record, revision, err := r.usable(ctx, t, by)
		if err != nil || record.UsedBy == by {
			return err
		}
		record.UsedBy, record.UsedAt = by, r.now().UTC()
		if err = r.write(ctx, record, revision); err == nil {
			return nil
		}
		// Whoever was faster is in the table: the next round says so, and knows our own write.
		if !errors.Is(err, fabric.ErrConflict) {
			return fmt.Errorf("cannot redeem the token: %w", err)
		}
	}
}

// usable returns the record of a token that by may redeem now, and its revision.
func (r *Registrar) usable(ctx context.Context, t Token, by fabric.NodeID) (TokenRecord, uint64, error) {
	var record TokenRecord
	if t.fingerprint != fingerprint(r.authority.ca) {
		return record, 0, fmt.Errorf("token %s %w, %s; this is %s", t.ID(), fabric.ErrOtherCluster, t.Cluster(), r.authority.identity.Cluster)
	}
	entry, err := r.table.Get(ctx, TokenPrefix+t.ID())
	if errors.Is(err, fabric.ErrNotFound) {
		return record, 0, unknown(t)
	}
	if err != nil {
		return record, 0, fmt.Errorf("cannot look the token up: %w", err)
	}
	if err := json.Unmarshal(entry.Value, &record); err != nil {
		return record, 0, fmt.Errorf("cannot read the record of token %s: %w", t.ID(), err)
	}
	// Without the secret a caller learns nothing of the token, not even that it exists.
	if subtle.ConstantTimeCompare([]byte(record.Hash), []byte(t.hash())) != 1 {
		return record, 0, unknown(t)
	}
	if record.UsedBy != "" && record.UsedBy != by {
		return record, 0, fmt.Errorf("%w: token %s admitted %s at %s (issue a new one)", fabric.ErrTokenUsed, t.ID(), record.UsedBy,
			record.UsedAt.Format(time.RFC3339))
	}
	if !r.now().Before(record.Expires) {
		return record, 0, fmt.Errorf("%w: token %s was good until %s (issue a new one)", fabric.ErrTokenExpired, t.ID(),
			record.Expires.Format(time.RFC3339))
	}
	return record, entry.Revision, nil
}

func unknown(t Token) error {
	return fmt.Errorf("%w: cluster %s did not issue token %s, or it was revoked", fabric.ErrTokenUnknown, t.Cluster(), t.ID())
}

func (r *Registrar) write(ctx context.Context, record TokenRecord, revision uint64) error {
	value, err := json.Marshal(record)
	if err != nil {
		return err
	}
	_, err = r.table.CompareAndSwap(ctx, TokenPrefix+record.ID, revision, value)
	return err
}

// ClaimName gives a node's name to the node, for good. A node claims its own at
// every start: the first one was named before there was a table. ErrNameTaken.
func (r *Registrar) ClaimName(ctx context.Context, name string, id fabric.NodeID) error {
	_, err := r.table.CompareAndSwap(ctx, NamePrefix+name, 0, []byte(id))
	if !errors.Is(err, fabric.ErrConflict) {
		return err
	}
	entry, err := r.table.Get(ctx, NamePrefix+name)
	if err != nil {
		return err
	}
	if string(entry.Value) != string(id) {
		return fmt.Errorf("cannot name node %s %q: %w, %s (choose another)", id, name, ErrNameTaken, entry.Value)
	}
	return nil
}

// ReleaseName gives a name back, if it is that node's.
func (r *Registrar) ReleaseName(ctx context.Context, name string, id fabric.NodeID) error {
	entry, err := r.table.Get(ctx, NamePrefix+name)
	if errors.Is(err, fabric.ErrNotFound) || err == nil && string(entry.Value) != string(id) {
		return nil
	}
	if err != nil {
		return err
	}
	return r.table.Delete(ctx, NamePrefix+name, entry.Revision)
}

func (t Token) hash() string {
	sum := sha256.Sum256(t.secret[:])
	return hex.EncodeToString(sum[:])
}
