// Package chain is the contract of the replicated store: keys and values kept by chains of replicas (chain replication
// with apportioned queries, CRAQ: Terrace and Freedman, USENIX ATC 2009).
//
// A bucket is a key space with settings of its own. It is cut into partitions, each a range of keys, and a partition is kept
// by one chain: an ordered list of replicas, head to tail. The head orders writes, every replica that serves answers reads, and a
// write is acknowledged once every replica of the chain has it durably. What replicas a chain has, in which order, is its
// Config; each change of it is a new epoch, and every message carries the epoch that its sender believes in.
//
// It holds nouns and errors only. The parts: machine (what commands do to keys, pure), replica (the protocol, pure), placement
// (how configs change, pure), sim (the simulator), wire (frames), disk (Pebble), conn (connections), node and
// keeper (the running parts). DESIGN.md has the protocol.
package chain

import (
	"errors"
	"time"

	"orrery/fabric"
)

// Limits.
const (
	MaxKey     = 4 << 10 // bytes of a key
	MaxValue   = 8 << 20 // bytes of a value; keep larger objects in pieces
	MaxCommand = 9 << 20 // bytes of all keys and values of one command
	MaxWrites  = 1 << 10 // conditions, and writes, of one command
)

var (
	// ErrNotServing says that this replica cannot answer that request: it is not of the chain, not the head, not synced, or has no
	// lease. Another replica, or this one a little later, can. The request had no effect.
	ErrNotServing = errors.New("replica does not serve this")
	// ErrEpoch says that a message is of another epoch than its receiver's.
	ErrEpoch = errors.New("other epoch")
	// ErrBusy says that as much is under way as the replica takes. The request had no effect.
	ErrBusy = errors.New("busy")
	// ErrUnknown says that a write may or may not have happened; the same command, sent again, tells.
	ErrUnknown = errors.New("outcome unknown")
	// ErrConflict is a condition that did not hold.
	ErrConflict = fabric.ErrConflict
	// ErrTooLarge says that a key, a value or a command is larger than the limits.
	ErrTooLarge = errors.New("too large")
	// ErrBadValue says that an operation needs another kind of value (Increment: 8 bytes, or no value).
	ErrBadValue = errors.New("value of another kind")
	// ErrSuperseded says that the client has already been told the outcome of this request, which was forgotten then.
	ErrSuperseded = errors.New("request is over")
	// ErrOutOfRange says that a key is not in the chain's range (any more): the chain table tells where it is.
	ErrOutOfRange = errors.New("key belongs to another chain")
	// ErrCompacted says that the changes that were asked for are forgotten: the log begins later. Read the keys instead.
	ErrCompacted = errors.New("changes that far back are forgotten")
	// ErrCorrupt says that bytes on disk or from the network are not what was written.
	ErrCorrupt = errors.New("corrupt")
)

// ID names a chain; never used again.
type ID uint64

// Range is the keys k with Start <= k and, unless End is empty, k < End, in the order of bytes.
type Range struct {
	Start []byte `json:"start,omitempty"`
	End   []byte `json:"end,omitempty"`
}

// State is what a replica is in its chain.
type State byte

// The states. The numbers are on the wire and in the chain table.
const (
	// Serving replicas have everything that was acknowledged.
	Serving State = 1
	// Joining is the state of at most one replica, after the serving ones. It is the tail by its place (writes wait for it), and has not
	// yet confirmed that it has everything: until then the chain cannot do without the one in front of it.
	Joining State = 2
	// Syncing replicas, at most one, after all others, are being filled and count for nothing.
	Syncing State = 3
)

// Replica is a place of a chain. A process that restarted is another replica than before: it has another incarnation.
type Replica struct {
	Node        fabric.NodeID `json:"node"`
	Incarnation uint64        `json:"incarnation"` // grows with every start of the node
}

// Member is a replica and its state.
type Member struct {
	Replica
	State State `json:"state"`
}

// Line is where a chain's log began anew, because nobody was left who certainly had all of it: after an entry of Epoch at Sequence that
// no log has. What replicas have of earlier epochs is not continued. The zero Line is the chain's beginning.
type Line struct {
	Epoch    uint64 `json:"epoch"`
	Sequence uint64 `json:"sequence"` // far above all that was given out before, so that no version comes twice
	Empty    bool   `json:"empty"`    // it began with no keys
}

// Config is a chain as of an epoch.
type Config struct {
	ID      ID       `json:"id"`
	Bucket  string   `json:"bucket"`
	Range   Range    `json:"range"`
	Epoch   uint64   `json:"epoch"`   // from 1; grows with every change of Members or Range
	Members []Member `json:"members"` // head to tail, a syncing one last; empty: nobody serves
	// Unsynced says that a write is acknowledged once every replica has it in memory; it is on disks a little later.
	Unsynced bool `json:"unsynced,omitempty"`
	Line     Line `json:"line,omitzero"`
}

// Condition is met while a key's version is what somebody saw.
type Condition struct {
	Key     []byte
	Version uint64 // 0: there is no such key
}

// Op is what a Write does.
type Op byte

// The operations. The numbers are on the wire.
const (
	OpPut       Op = 1 // the key has Value
	OpDelete    Op = 2 // the key is gone
	OpIncrement Op = 3 // the key's value, 8 bytes big endian, two's complement, grows by Delta; a missing one counts from 0
	OpAppend    Op = 4 // Value is put behind the key's value
)

// Write is a step of a command.
type Write struct {
	Op    Op
	Key   []byte
	Value []byte
	Delta int64
	// TTL, with OpPut, is after how long the key is deleted if nobody writes it; 0: never. In whole milliseconds. The head's clock measures it.
	TTL time.Duration
}

// Command is a mini-transaction of one chain: if all conditions hold, all writes are done, in order. Put, compare-and-swap, batches and the rest
// are commands. Client and Request name it: a command that arrives twice is done once, and has the result of the first time.
type Command struct {
	Client  uint64 // drawn at random by each client
	Request uint64 // from 1, one more for each command of that client
	// Floor is the smallest request whose outcome the client still waits for. Results below it are forgotten.
	Floor uint64
	If    []Condition
	Do    []Write
}

// Outcome is how a command ended. The numbers are on the wire and on disk.
type Outcome byte

// The outcomes.
const (
	Done       Outcome = 0
	Conflict   Outcome = 1 // Result.Index is the condition that did not hold, Result.Version that key's version
	BadValue   Outcome = 2 // Result.Index is the write that could not be done
	TooLarge   Outcome = 3 // Result.Index is the write whose value would be too large
	Superseded Outcome = 4
	OutOfRange Outcome = 5
)

// Result is what a client is told.
type Result struct {
	Outcome Outcome
	Version uint64 // of what was written, which is the entry's sequence; with Conflict the version of the key now
	Index   int
	// Number is the value after the last increment of the command.
	Number int64
}

// Change is what an entry does to a key.
type Change struct {
	Key     []byte
	Value   []byte
	Deleted bool
	Expires int64 // milliseconds since 1970, by the chain's time; 0: never
}

// Entry is a place of a chain's log. Epoch and Sequence name it: two entries with the same ones are the same.
type Entry struct {
	Epoch    uint64 // in which its head ordered it
	Sequence uint64 // from 1, without gaps
	Time     int64  // the chain's time, milliseconds since 1970; never less than the entry's before
	Client   uint64 // 0: the head itself, which deletes what expired
	Request  uint64
	Floor    uint64
	Result   Result
	Changes  []Change // none where the outcome is not Done
}

// Value is what a key has.
type Value struct {
	Value   []byte
	Version uint64 // the sequence of the entry that wrote it
	Expires int64
}

// Consistency is what a reader needs.
type Consistency byte

// The consistencies. The numbers are on the wire.
const (
	// Strong reads see every write that was acknowledged before they began.
	Strong Consistency = 0
	// Bounded reads may miss what was written within Bound.Age, or the last Bound.Versions writes of a key.
	Bounded Consistency = 1
	// Eventual reads see what the replica knows to be committed, however long ago it last heard of others.
	Eventual Consistency = 2
)

// Bound is how old a bounded read's answer may be. Of the two, those that are not zero must hold; with both zero it is a strong one.
type Bound struct {
	Age      time.Duration
	Versions uint64
}
