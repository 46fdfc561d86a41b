package event

import (
	"cmp"
	"slices"
	"sync/atomic"

	"orrery/fabric"
)

// Status is what a node has of events, and what it did since its start.
type Status struct {
	Log     string `json:"log"`   // its id
	First   uint64 `json:"first"` // the oldest position that is kept
	Last    uint64 `json:"last"`  // the newest; one less than First where nothing is kept
	Time    uint64 `json:"time"`  // Lamport's clock
	Waiting int    `json:"waiting"`
	// Missing are the senders of whom an event is missing, for which others wait.
	Missing []fabric.NodeID `json:"missing,omitempty"`

	Sent       uint64 `json:"sent"`
	Received   uint64 `json:"received"`
	Duplicates uint64 `json:"duplicates"`
	Garbage    uint64 `json:"garbage"` // what was refused: no event, not signed by whom it names, or a payload that is not what was announced
	Missed     uint64 `json:"missed"`
	Failed     uint64 `json:"failed"` // writes to the log
	Messages   uint64 `json:"messages"`
	Queries    uint64 `json:"queries"`
	Given      uint64 `json:"given"` // payloads, to other nodes
}

// Row is one line about a Status, for people.
type Row struct {
	Name  string
	Value uint64
}

// Rows is the status for people.
func (s Status) Rows() []Row {
	return []Row{
		{"kept", s.Last + 1 - s.First},
		{"position", s.Last},
		{"time", s.Time},
		{"waiting", uint64(s.Waiting)}, //nolint:gosec // not negative
		{"senders with something missing", uint64(len(s.Missing))},
		{"sent", s.Sent},
		{"received", s.Received},
		{"duplicates", s.Duplicates},
		{"refused as garbage", s.Garbage},
		{"missed", s.Missed},
		{"writes that failed", s.Failed},
		{"messages taken", s.Messages},
		{"queries answered", s.Queries},
		{"payloads given", s.Given},
	}
}

// counters count what a node did since its start.
type counters struct {
	sent, received, duplicates, garbage, missed, failed, messages, queries, given atomic.Uint64
}

// Status says what the node has of events, and what it did since its start.
func (s *Service) Status() Status {
	_, first := s.log.After(0, 0)
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.counters
	missing := s.sequence.holes()
	slices.SortFunc(missing, cmp.Compare)
	return Status{
		Log: s.log.ID(), First: first, Last: s.log.Next() - 1, Time: s.clock, Waiting: s.sequence.waiting, Missing: missing,
		Sent: c.sent.Load(), Received: c.received.Load(), Duplicates: c.duplicates.Load(), Garbage: c.garbage.Load(), Missed: c.missed.Load(),
		Failed: c.failed.Load(), Messages: c.messages.Load(), Queries: c.queries.Load(), Given: c.given.Load(),
	}
}
