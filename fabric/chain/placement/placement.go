// Package placement decides which replicas chains have: failures, returns, joins, moves and splits, as steps of the chain table.
//
// The Keeper is the state of the one node that may change the chain table. It is pure: reports of nodes, records of the table and readings of a
// clock go in; lease grants and changes of records come out. Who drives it (chain/node, chain/sim) does the following.
//
//  1. To begin, it writes KeeperKey with a generation one higher, by CompareAndSwap, and then lists Prefix. New gets both, and the clock
//     as of after the list.
//  2. It feeds Watch of Prefix to Load, reports of nodes to Report, operators' wishes to the methods that return a Change.
//  3. Again and again (when a report came, when something was written, and every Tick at least) it reads its clock, then reads KeeperKey from the
//     table (a strong read, begun after the clock was read), and if the generation is still its own calls Step with that reading of the clock.
//     So everything that a Step decides was decided while nobody else was keeper. If the generation is another's, this keeper is over.
//  4. It sends the grants to their nodes, and does each change by CompareAndSwap (Delete where Value is nil), in any order. Each has an end: Written, or
//     after any error a strong read of the key and Load with what is there (a zero Revision if nothing is).
//
// ../DESIGN.md has the rules and says why this is safe.
package placement

import (
	"fmt"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// Instant is a reading of the keeper's monotonic clock.
type Instant = time.Duration

// Config is what a keeper may be told. Zero fields are defaults.
type Config struct {
	// Lease is T: how long a node may answer strong reads after it sent a renewal that was granted. 2 s.
	Lease time.Duration
	// Skew is ε: by how much clocks' rates may differ. 0.05.
	Skew float64
	// Grace is how long the place of a lost replica is kept for its node before another node gets it. 30 s.
	Grace time.Duration
	// Near is how many entries a syncing replica may be behind to join. 1000.
	Near uint64
	// Stall is after how long without progress a link is given up although both its nodes are there. 5 s.
	Stall time.Duration
	// Reserve is how much disk, in bytes, is to stay free on a node that gets a new replica. 256 MiB.
	Reserve uint64
	// Moves is how many replicas may be on the move for balance's sake. 2.
	Moves int
	// SplitBytes and SplitOps are the size of a chain and the operations a second from which on it is split. 2 GiB; 0: not for its load.
	SplitBytes uint64
	SplitOps   float64
}

func (c Config) withDefaults() Config {
	set(&c.Lease, 2*time.Second)
	set(&c.Skew, 0.05)
	set(&c.Grace, 30*time.Second)
	set(&c.Near, 1000)
	set(&c.Stall, 5*time.Second)
	set(&c.Reserve, 256<<20)
	set(&c.Moves, 2)
	set(&c.SplitBytes, 2<<30)
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// granted is what a node counts from when it sent a renewal.
func (c Config) granted() time.Duration {
	return time.Duration(float64(c.Lease) * (1 - c.Skew))
}

// expiry is what the keeper counts from when it received one.
func (c Config) expiry() time.Duration {
	return time.Duration(float64(c.Lease) * (1 + c.Skew))
}

// ownShare is what part of a lease a keeper gives to its own node, which needs no network to renew it. When it is lost, the next keeper need not wait as long for that node.
const ownShare = 2

// GrantID names a grant. Grants of a node are in the order of generations, then numbers; what is not newer than the newest that a node had is
// not for it any more.
type GrantID struct {
	Generation uint64 // of the keeper
	Number     uint64
}

// Newer says whether g comes after another grant.
func (g GrantID) Newer(than GrantID) bool {
	if g.Generation != than.Generation {
		return g.Generation > than.Generation
	}
	return g.Number > than.Number
}

// Report is what a node tells the keeper, and its request to renew its lease.
type Report struct {
	Node        fabric.NodeID
	Incarnation uint64
	Sequence    uint64 // one more with every report of the incarnation
	Zone        string
	Free        uint64  // bytes of disk
	Seen        GrantID // the newest grant that the node acts on
	// Replicas are all that the node has on its disk, members or not.
	Replicas []Replica
}

// Replica is what a node says of a replica.
type Replica struct {
	replica.Status
	// Failed says why the replica has stopped for good (its disk), and answers nothing any more.
	Failed string
	// Clean is the incarnation of a process that ended with all that it had on the disk, and was a member; 0: none is known.
	Clean  uint64
	Bytes  uint64  // on disk, about
	Reads  float64 // a second, lately
	Writes float64 // a second, lately
	// Split is a key that cuts the chain's data or load into about two halves; nil if it knows none.
	Split []byte
}

// Grant is the answer to a report. For each chain that is not in Without the node has a lease for Lease from when it sent the
// report with Sequence, beginning once its watch of the chain table has reached Revision. An older lease for a chain in Without ends.
type Grant struct {
	Node        fabric.NodeID
	Incarnation uint64
	Sequence    uint64
	ID          GrantID
	Lease       time.Duration // the allowed difference of clocks is taken off already
	Revision    uint64
	Without     []chain.ID
	Drop        []Drop
}

// Drop tells a node to delete a replica, unless it has become a member in an epoch after Epoch.
type Drop struct {
	Chain chain.ID
	Epoch uint64
}

// Change is a write of the table: CompareAndSwap with Revision (0: the key must not exist), or Delete where Value is nil.
type Change struct {
	Key      string
	Revision uint64
	Value    []byte
	Reason   string // for logs

	next    *Chain // of a chain's record
	written func(revision uint64)
}

// Output is what a step asks for.
type Output struct {
	Grants  []Grant
	Changes []Change
}

// DeposedError says that another keeper has begun.
type DeposedError struct{ Generation uint64 }

func (e DeposedError) Error() string {
	return fmt.Sprintf("another node keeps the chain table now (generation %d)", e.Generation)
}
