package chain

import "orrery/fabric"

// Ask is what a Request asks for.
type Ask byte

// What can be asked for. The numbers are on the wire.
const (
	AskGet    Ask = 1 // the values of Keys, all as of one sequence of the chain
	AskScan   Ask = 2 // the keys in Range and their values, Limit at the most, as of one sequence
	AskDo     Ask = 3 // Command
	AskWatch  Ask = 4 // the changes of keys in Range after the sequence From: one answer after the other, until AskCancel
	AskCancel Ask = 5 // no more answers to the request with the same ID; this one has no answer
	AskMap    Ask = 6 // where chains are; Limit says when it is answered
	AskPing   Ask = 7 // nothing: an empty answer
)

// Limits of AskMap.
const (
	MapNow    = 0 // at once
	MapNewer  = 1 // once the map is newer than From, or after a while without one
	MapLatest = 2 // once it has all that the chain table had when the node was asked; ErrNoQuorum if nobody can tell
)

// Request is what a client asks a node. Kinds use the fields that they name; the others are zero.
type Request struct {
	ID          uint64 // of the connection, chosen by the client; the answer has it
	Ask         Ask
	Chain       ID
	Consistency Consistency // of AskGet and AskScan
	Bound       Bound
	Keys        [][]byte
	Range       Range
	Limit       int
	From        uint64
	Command     Command
}

// Item is a key of an answer.
type Item struct {
	Key     []byte // empty in answers to AskGet, whose items are in the order of the keys asked for
	Value   Value  // of a change that deleted the key: its Version alone
	Missing bool   // there is no such key, or (AskWatch) it was deleted
}

// Answer is what a node answers.
type Answer struct {
	ID uint64
	// Err is nil or one of the errors of this package or of fabric (ErrForbidden, ErrNotFound, ErrClosed, ErrNoQuorum), and Text says more.
	Err     error
	Text    string
	Applied uint64 // the sequence that Items are as of; of AskWatch: all changes up to it are in this answer or came before
	Items   []Item
	More    bool // the limit was reached before the end of the range
	Result  Result
	Map     []byte // AskMap: a Map in JSON
}

// Map is where chains are, as a node knows it.
type Map struct {
	Revision uint64                   `json:"revision"` // grows with every change
	Chains   []Config                 `json:"chains"`
	Nodes    map[fabric.NodeID]string `json:"nodes"`             // host:port of each
	Settled  []ID                     `json:"settled,omitempty"` // chains of which no part is being split off: only their replicas may let go of keys out of their range
	Parting  map[ID]ID                `json:"-"`                 // chains that have no record yet, by the one that they are being split off from. Clients are not told
}

// Contains says whether a key is in the range.
func (r Range) Contains(key []byte) bool {
	return string(key) >= string(r.Start) && (len(r.End) == 0 || string(key) < string(r.End))
}

// Includes says whether all keys of another range are in the range.
func (r Range) Includes(other Range) bool {
	if string(other.Start) < string(r.Start) {
		return false
	}
	return len(r.End) == 0 || len(other.End) > 0 && string(other.End) <= string(r.End)
}
