// Package replica is the protocol of one replica of one chain, as a pure step function: messages, ticks, configs, requests and completed disk
// writes go in; messages, disk writes, replies and permissions to read come out. The same code runs in the simulator and
// in the node. ../DESIGN.md has the rules.
package replica

import (
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/chain/machine"
)

// Instant is a reading of the monotonic clock of the replica's node; only differences mean something.
type Instant = time.Duration

// Token names a request of the driver's; the replica hands it back with the answer.
type Token uint64

// Storage is what the replica reads of its disk. It holds what Output told the driver to write, up to what was written.
type Storage interface {
	machine.View // keys as of the applied entry
	// Entries returns the entries from a sequence on, at least one if there is one, of about limit bytes at the most. It is empty
	// where the log does not reach back to from, or has no entry there.
	Entries(from uint64, limit int) ([]chain.Entry, error)
	// First is the sequence of the oldest entry that the log has; last+1 if it has none.
	First() uint64
}

// Config is what a replica needs.
type Config struct {
	Self    chain.Replica
	Storage Storage
	// What the disk holds. Pending are the entries of the log above Applied, in order; all of them are durable.
	Applied      uint64
	AppliedEpoch uint64 // of the entry at Applied; 0 for none
	Pending      []chain.Entry
	// MaxPending is how many bytes of entries may wait for their commit before requests are refused (chain.ErrBusy).
	MaxPending int
	// Batch is about how many bytes of entries one message carries.
	Batch int
	// ResendAfter is how long a link may make no progress before its messages are sent again.
	ResendAfter time.Duration
	// PlainReads switches apportioned reads off: only the tail answers. For comparison with chain replication.
	PlainReads bool
	// Skip breaks a rule of the protocol, so that tests can show that the simulator notices. Zero in programs.
	Skip Rule
}

// Rule is a rule of the protocol that Config.Skip breaks.
type Rule uint

// The rules.
const (
	RuleCleanReads   Rule = 1 << iota // a dirty key's read asks the tail
	RuleEpochs                        // messages of other epochs are refused
	RuleDurable                       // an entry commits once every replica has it durably
	RuleLease                         // reads and answers of the tail need a lease
	RuleOrder                         // entries are taken in the order of their sequences, without gaps
	RuleDivergence                    // what a predecessor does not have is cut off
	RuleJoin                          // a replica serves once it has what its predecessor had in this epoch
	RuleTailFloor                     // a new tail answers for what it had only when that is committed
	RuleOnce                          // a command that arrives twice is done once
	RuleConditionals                  // conditions are decided against the newest version, not the committed one
	RuleRange                         // keys out of the chain's range are not read
	RuleScope                         // nor written
)

// Lease lets a replica answer reads. It is of its node, and counts from when the renewal was sent.
type Lease struct {
	Sent  Instant // when the renewal that was granted was sent
	Until Instant // Sent + the granted time - the allowed difference of clock rates
}

// Read is a request to read.
type Read struct {
	Token       Token
	Key         []byte       // of one key; nil: of Keys
	Keys        *chain.Range // of all in a range
	Consistency chain.Consistency
	Bound       chain.Bound
}

// Message is what replicas of a chain tell each other. Which fields a kind uses is in ../DESIGN.md.
type Message struct {
	Kind      Kind
	Chain     chain.ID
	Epoch     uint64 // of the sender's config
	From, To  chain.Replica
	Sequence  uint64
	Entry     uint64 // the epoch of the entry at Sequence
	Committed uint64
	Durable   uint64
	Query     uint64
	Time      int64
	Entries   []chain.Entry
}

// Kind is a message's kind. The numbers are on the wire.
type Kind byte

// The kinds.
const (
	KindHello    Kind = 1 // to the predecessor: this is what I have, send me what follows
	KindLink     Kind = 2 // to the successor: cut off what is above Committed if it says so; this is what I have
	KindSnapshot Kind = 3 // to the successor: my log does not reach back to you, a copy of the state will come
	KindAppend   Kind = 4 // to the successor: entries
	KindAck      Kind = 5 // to the predecessor: received, committed
	KindQuery    Kind = 6 // to the tail: up to where is it committed?
	KindAnswer   Kind = 7 // to who asked
	KindRefused  Kind = 8 // to the sender of a message of an older epoch: Epoch is the newer one
	KindProbe    Kind = 9 // to the successor: this log has another entry there; look for a common one further down
)

// Reply is the answer to a command. Err is nil and Result is set, or Err is one of chain's errors. With chain.ErrUnknown the command may
// happen yet.
type Reply struct {
	Token  Token
	Result chain.Result
	Err    error
}

// Permission is the answer to a Read. Without Err the driver may answer from its storage once the entries up to Applied
// are applied, or from any later state of this replica.
type Permission struct {
	Token   Token
	Applied uint64
	Err     error
}

// Copy asks the driver to send a copy of its state, as of an applied entry, to a successor, and then to go on.
type Copy struct {
	To    chain.Replica
	Epoch uint64
}

// Output is what the driver has to do, in this order: Install or Truncate, Append, Apply, then the rest in any order. Nothing in it waits for a disk write
// to be durable; Replica.Persisted tells it. The slices of Messages' Entries are the driver's.
type Output struct {
	Truncate bool   // remove the entries above Keep from the log
	Keep     uint64 // with Truncate
	Append   []chain.Entry
	Apply    []chain.Entry // committed: apply to the state; they need not be durable as state
	Messages []Message
	Replies  []Reply
	Reads    []Permission
	Copies   []Copy
}

// Status is what a replica tells the chain table's keeper and people.
type Status struct {
	Chain     chain.ID      `json:"chain"`
	Epoch     uint64        `json:"epoch"`
	Self      chain.Replica `json:"self"`
	State     chain.State   `json:"state"`     // 0: not a member
	Linked    bool          `json:"linked"`    // has all that its predecessor had when they met in this epoch; true for a head
	Last      uint64        `json:"last"`      // newest entry
	Durable   uint64        `json:"durable"`   // newest durable entry
	Committed uint64        `json:"committed"` // newest entry known to be committed
	Behind    uint64        `json:"behind"`    // entries that the predecessor has and this one had not, when last heard of
	Pending   int           `json:"pending"`   // bytes
}
