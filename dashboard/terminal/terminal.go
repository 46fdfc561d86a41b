// Package terminal shows a running cluster on a terminal: nodes, chains, rates and the last events, as they change.
//
// A Snapshot is what is at one time; whoever assembles the program fetches it. RateBetween and HealthOf draw conclusions from snapshots, and a Model is the screen: a
// value to which Update applies keys, sizes and snapshots, and of which View makes a frame. These three do no I/O and read no clock. Run puts a
// Model on a terminal and feeds it; it waits for what it started.
package terminal

import "time"

// Snapshot is a cluster as one of its nodes sees it.
type Snapshot struct {
	Time    time.Time `json:"time"` // of the node that made it
	Cluster string    `json:"cluster"`
	Node    string    `json:"node"`             // that made it
	Leader  string    `json:"leader,omitempty"` // of the table; empty: there is none, so nothing can be changed
	Keeper  string    `json:"keeper,omitempty"` // of the chains
	// Trouble says what could not be found out, and why.
	Trouble  string  `json:"trouble,omitempty"`
	Nodes    []Node  `json:"nodes"`
	Chains   []Chain `json:"chains"`
	Services int     `json:"services"`
	Sessions int     `json:"sessions"`
	Events   []Event `json:"events"` // newest first
}

// Node is a machine of the cluster.
type Node struct {
	Name     string    `json:"name"`
	ID       string    `json:"id"`
	State    string    `json:"state"` // as fabric.MemberState
	Address  string    `json:"address"`
	Version  string    `json:"version"`
	Zone     string    `json:"zone,omitempty"`
	Roles    []string  `json:"roles,omitempty"`
	Since    time.Time `json:"since"` // when it entered its state
	Via      string    `json:"via"`   // how it was found
	Services []string  `json:"services,omitempty"`
	Replicas int       `json:"replicas"`
	Drain    bool      `json:"drain,omitempty"` // it is to hold no replicas
	Usage    *Usage    `json:"usage,omitempty"` // nil: it did not say
}

// Usage is what a node says of itself.
type Usage struct {
	Started    time.Time `json:"started"`
	Memory     int64     `json:"memory"`     // resident bytes of its process; 0: not known
	Load       float64   `json:"load"`       // of the machine in the last minute: processes that run or want to
	Processors int       `json:"processors"` // of the machine
	Free       uint64    `json:"free"`       // bytes on the disk of its chains; 0: not known
	Counters   Counters  `json:"counters"`
}

// Counters count since the node started.
type Counters struct {
	Reads    uint64 `json:"reads"`    // of the replicated store, answered by this node
	Writes   uint64 `json:"writes"`   // likewise
	Refused  uint64 `json:"refused"`  // bad input: certificates, frames, roles, senders, gossip, events
	Events   uint64 `json:"events"`   // that this node sent
	Requests uint64 `json:"requests"` // through the node's router
	Gossip   uint64 `json:"gossip"`   // bytes sent and received
	// ReadTimes and WriteTimes are how long they took, of some reads and all writes; Syncs is how long it took to make writes durable.
	ReadTimes  Histogram `json:"readTimes"`
	WriteTimes Histogram `json:"writeTimes"`
	Syncs      Histogram `json:"syncs"`
}

// Histogram is a distribution of seconds.
type Histogram struct {
	Bounds []float64 `json:"bounds"` // upper ones, ascending
	Counts []uint64  `json:"counts"` // at most each bound, so ascending too; one more at the end counts all
}

// Chain is the replicas of a range of a bucket's keys.
type Chain struct {
	ID      uint64    `json:"id"`
	Bucket  string    `json:"bucket"`
	Range   string    `json:"range"` // for people: ["a", "m")
	Epoch   uint64    `json:"epoch"`
	Members []Replica `json:"members"`          // head to tail
	Waits   string    `json:"waits,omitempty"`  // why it is not as it should be
	Reason  string    `json:"reason,omitempty"` // of its last change
}

// Replica is a member of a chain.
type Replica struct {
	Node      string  `json:"node"`
	State     string  `json:"state"` // serving, joining or syncing
	Gone      string  `json:"gone,omitempty"`
	Failed    string  `json:"failed,omitempty"` // its disk
	Known     bool    `json:"known"`            // it has said what follows
	Last      uint64  `json:"last"`             // its newest entry
	Durable   uint64  `json:"durable"`
	Committed uint64  `json:"committed"`
	Bytes     uint64  `json:"bytes"`
	Reads     float64 `json:"reads"`  // a second, lately
	Writes    float64 `json:"writes"` // likewise
}

// Event is something that happened.
type Event struct {
	Time time.Time `json:"time"`
	Kind string    `json:"kind"` // member, deploy, state, session, chain
	Text string    `json:"text"`
}

// lag is by how many entries the last member of a chain that is filled is behind the head.
func (c Chain) lag() (entries uint64) {
	var most uint64
	for _, m := range c.Members {
		most = max(most, m.Last)
	}
	for _, m := range c.Members {
		if m.Known && m.Gone == "" {
			entries = max(entries, most-m.Last)
		}
	}
	return entries
}

// size is what the largest replica takes, and how much is asked of all of them together.
func (c Chain) size() (bytes uint64, reads, writes float64) {
	for _, m := range c.Members {
		bytes = max(bytes, m.Bytes)
		reads += m.Reads
		writes = max(writes, m.Writes) // each member has each write
	}
	return bytes, reads, writes
}
