// Package fabric is the contract of Orrery's ground: nodes that find each
// other, agree on who is there, and share a little strongly consistent data.
//
// It holds nouns and errors only. The parts are below it: authority (the
// cluster's certificate authority and join tokens), discovery (beacons),
// membership (SWIM), rpc (mutual TLS between nodes) and table (the replicated
// log behind Table).
package fabric

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrNotFound says that a key, node or member does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict says that a compare-and-swap found another revision than the caller expected.
	ErrConflict = errors.New("changed meanwhile")
	// ErrNoQuorum says that the table has no leader that a majority follows, so nothing can be written or strongly read.
	ErrNoQuorum = errors.New("no quorum")
	// ErrClosed says that the part was closed while or before it was used.
	ErrClosed = errors.New("closed")
	// ErrTokenExpired says that a join token's time is over.
	ErrTokenExpired = errors.New("token expired")
	// ErrTokenUsed says that a join token was used before; a token admits one node or person.
	ErrTokenUsed = errors.New("token already used")
	// ErrTokenUnknown says that this cluster never issued the token.
	ErrTokenUnknown = errors.New("token unknown")
	// ErrOtherCluster says that a token, certificate or message belongs to another cluster.
	ErrOtherCluster = errors.New("belongs to another cluster")
	// ErrForbidden says that the caller's role does not allow the operation.
	ErrForbidden = errors.New("forbidden")
	// ErrEvicted says that a node, or a person's certificate, was put out of the cluster for good.
	ErrEvicted = errors.New("put out of the cluster")
)

// NodeID identifies a node for the whole of its life, restarts included. It
// is the lower-case hex of the first 8 bytes of the SHA-256 of its public key.
type NodeID string

// Role is what a certificate of the cluster lets its holder do.
type Role string

// The roles, from the least to the most allowed. A node may do everything that an operator may.
const (
	RoleViewer    Role = "viewer"    // reads: members, services, snapshots, sessions
	RoleDeveloper Role = "developer" // a viewer who may create, join and end sessions
	RoleOperator  Role = "operator"  // a developer who may deploy, back up, restore, issue tokens
	RoleNode      Role = "node"      // a machine of the cluster
)

// Allows says whether a holder of r may do what needs the role need.
func (r Role) Allows(need Role) bool { return rank(r) > 0 && rank(r) >= rank(need) }

func rank(r Role) int {
	switch r {
	case RoleViewer:
		return 1
	case RoleDeveloper:
		return 2
	case RoleOperator:
		return 3
	case RoleNode:
		return 4
	}
	return 0
}

// Identity is who a certificate of the cluster names.
type Identity struct {
	Cluster string `json:"cluster"` // the cluster's id: hex of the SHA-256 of the CA's public key, 16 characters
	ID      NodeID `json:"id"`
	Name    string `json:"name"` // a DNS label, unique among the cluster's nodes
	Role    Role   `json:"role"`
}

// MemberState is what the membership believes of a node. It is a hint: only the
// table decides who owns what.
type MemberState string

// The states of a member.
const (
	MemberAlive   MemberState = "alive"
	MemberSuspect MemberState = "suspect"
	MemberDead    MemberState = "dead"
	MemberLeft    MemberState = "left"
)

// Present says whether a member in this state is probably there. A suspect is, until it is dead.
func (s MemberState) Present() bool { return s == MemberAlive || s == MemberSuspect }

// Member is a node as the membership sees it.
type Member struct {
	ID      NodeID      `json:"id"`
	Name    string      `json:"name"`
	Address string      `json:"address"` // host:port of its mutual-TLS listener
	State   MemberState `json:"state"`
	Version string      `json:"version"`         // of the Orrery binary it runs
	Zone    string      `json:"zone,omitempty"`  // machines that may fail together, such as those of a rack
	Roles   []string    `json:"roles,omitempty"` // what people say the node is for, sorted; they allow nothing
	Since   time.Time   `json:"since"`           // when it entered State, by the observer's clock
	Via     string      `json:"via"`             // how the observer found it: multicast, broadcast, loopback, seed, gossip, self
}

// Beacon is what a node announces of itself to machines that it does not know.
// Everyone on the network can read it, so it holds nothing secret, and
// whatever it says is proven by TLS afterwards.
type Beacon struct {
	Cluster string `json:"cluster"`
	ID      NodeID `json:"id"`
	Name    string `json:"name"`
	RPC     string `json:"rpc"`    // host:port of the mutual-TLS listener
	Gossip  string `json:"gossip"` // host:port of the membership's listener, UDP and TCP
	Via     string `json:"-"`      // the receiver notes here how the beacon came
}

// Entry is one key of the table.
type Entry struct {
	Key      string `json:"key"`
	Value    []byte `json:"value"`    // nil in a Change when the key was deleted
	Revision uint64 `json:"revision"` // of the table when the key was last written; 0 only for a key that does not exist
}

// Change is a step of a watched prefix.
type Change struct {
	// Entries are the keys that changed. In the first change of a watch they
	// are all keys under the prefix; afterwards deleted keys have a nil Value.
	Entries []Entry
	// Revision is the table's revision that Entries lead to.
	Revision uint64
}

// Table is the cluster's little shared state: a few thousand small keys,
// linearizable, the same on all nodes. Today it is one Raft log; chains replace it
// behind this interface.
//
// Values are at most 256 KiB. All methods are safe for concurrent use, do not
// keep the slices they are given, and return ErrNoQuorum (possibly after waiting
// for a leader until ctx ends) when a majority is out of reach. After an error other than
// ErrConflict or ErrNotFound a write may or may not have happened; retry it by CompareAndSwap.
type Table interface {
	// Get returns the newest committed value; ErrNotFound if there is none.
	Get(ctx context.Context, key string) (Entry, error)
	// List returns all keys that begin with prefix, sorted by key, at one revision.
	List(ctx context.Context, prefix string) ([]Entry, error)
	// Put writes value whatever was there before and returns the new revision.
	Put(ctx context.Context, key string, value []byte) (uint64, error)
	// CompareAndSwap writes value if the key's revision is still revision (0: the key must not
	// exist) and returns the new one; ErrConflict otherwise.
	CompareAndSwap(ctx context.Context, key string, revision uint64, value []byte) (uint64, error)
	// Delete removes the key if its revision is still revision; ErrConflict
	// otherwise. Revision 0 deletes whatever is there; deleting nothing is not an error.
	Delete(ctx context.Context, key string, revision uint64) error
	// Watch delivers the state of a prefix and then its changes, in order, each key's
	// newest value at least (values in between may be skipped for a slow reader). The
	// channel is closed when ctx ends or the table is closed. Reading it
	// works without a quorum; it then shows what this node knows.
	Watch(ctx context.Context, prefix string) (<-chan Change, error)
}
