// Package kv is the pure state machine of the table: a sorted map of keys with
// revisions, and the memory that makes a command that arrives twice happen once.
//
// A Machine applies Commands one by one, in the order of the log, and nothing else changes it: the same
// commands give the same Machine on every node. It does no I/O, reads no clock and is not safe
// for concurrent use; whoever owns it brings a lock. It keeps the values it is given
// and hands out its own, so neither side may write into them afterwards.
package kv

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"orrery/fabric"
)

// Limits of the table. They are part of the state machine: all nodes must agree on them.
const (
	MaxKey   = 1 << 10   // bytes of a key
	MaxValue = 256 << 10 // bytes of a value
	// MaxSize bounds the bytes of all keys and values together, and so the size of a
	// snapshot that travels in one message.
	MaxSize = 64 << 20
)

var (
	// ErrTooLarge says that a key or value is larger than the table takes.
	ErrTooLarge = errors.New("too large")
	// ErrFull says that the keys and values together would be larger than the table takes.
	ErrFull = errors.New("table is full")
	// ErrBadKey says that a key is empty.
	ErrBadKey = errors.New("bad key")
	// ErrSuperseded says that a newer incarnation of the client has written since, so the command was not applied.
	ErrSuperseded = errors.New("superseded by a newer incarnation of the same node")
	// ErrSealed says that keys without the prefix Own are kept elsewhere from now on (SealKey).
	ErrSealed = errors.New("kept elsewhere by now")
	// ErrBadEncoding says that bytes are not what this package encoded.
	ErrBadEncoding = errors.New("bad encoding")
)

// Own begins the keys that are always the table's own: what is needed before there are chains, and the table of the chains themselves.
const Own = "fabric/"

// SealKey is the key that seals the table: while it is there, no key that does not begin with Own can be read strongly or written. They are being copied to
// where they are kept from then on. What it says is its writer's.
const SealKey = Own + "shared"

// Op is what a Command does.
type Op byte

// The operations. The numbers are in logs on disk.
const (
	OpPut    Op = 1 // write whatever is there
	OpSwap   Op = 2 // write if the revision is Expect
	OpDelete Op = 3 // delete if the revision is Expect, or whatever is there for 0
)

// Command is one write. Client, Incarnation and Sequence name it: a
// command that is applied twice has the effect and the result of the first time.
type Command struct {
	Client      uint64 // the node that asks
	Incarnation uint64 // grows with every start of that node
	Sequence    uint64 // grows with every command of that incarnation; from 1
	// Floor is the smallest sequence whose result the client may still ask for.
	// Results below it are forgotten, and commands below it are never applied.
	Floor  uint64
	Op     Op
	Key    string
	Expect uint64
	Value  []byte
}

// Outcome is how a command ended. The numbers are on disk.
type Outcome byte

// The outcomes.
const (
	Done       Outcome = 0
	Conflict   Outcome = 1
	Superseded Outcome = 2
	Full       Outcome = 3
	Sealed     Outcome = 4
)

// Result is what the client of a command is told.
type Result struct {
	Outcome  Outcome
	Revision uint64 // of the table after the command
}

// Err is nil for a command that was done and the matching sentinel otherwise.
func (r Result) Err() error {
	switch r.Outcome {
	case Done:
		return nil
	case Conflict:
		return fabric.ErrConflict
	case Superseded:
		return ErrSuperseded
	case Full:
		return fmt.Errorf("%w: keys and values are limited to %d bytes together", ErrFull, MaxSize)
	case Sealed:
		return ErrSealed
	}
	return fmt.Errorf("%w: outcome %d", ErrBadEncoding, r.Outcome)
}

// Session is what the machine remembers of one client.
type Session struct {
	Incarnation uint64
	Floor       uint64
	Results     map[uint64]Result // by sequence, none below Floor
}

// Machine is the table's state.
type Machine struct {
	entries  map[string]fabric.Entry
	keys     []string // sorted
	revision uint64
	size     int // bytes of keys and values
	sessions map[uint64]*Session
}

// New returns an empty machine.
func New() *Machine {
	return &Machine{entries: map[string]fabric.Entry{}, sessions: map[uint64]*Session{}}
}

// Check says whether a key and value are within the limits.
func Check(key string, value []byte) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: it is empty", ErrBadKey)
	case len(key) > MaxKey:
		return fmt.Errorf("key of %d bytes: %w (limit %d)", len(key), ErrTooLarge, MaxKey)
	case len(value) > MaxValue:
		return fmt.Errorf("value of %s has %d bytes: %w (limit %d; keep large data in the snapshot store)", key, len(value), ErrTooLarge, MaxValue)
	}
	return nil
}

// Apply carries out a command. The entry is what it changed; nil if it changed nothing.
func (m *Machine) Apply(c Command) (Result, *fabric.Entry) {
	s := m.session(c)
	if c.Incarnation < s.Incarnation || c.Sequence < s.Floor {
		return Result{Outcome: Superseded, Revision: m.revision}, nil
	}
	if r, ok := s.Results[c.Sequence]; ok {
		return r, nil
	}
	outcome, changed := m.write(c)
	r := Result{Outcome: outcome, Revision: m.revision}
	s.Results[c.Sequence] = r
	return r, changed
}

// session finds the client's session and brings it to the command's incarnation and floor.
func (m *Machine) session(c Command) *Session {
	s := m.sessions[c.Client]
	if s == nil || c.Incarnation > s.Incarnation {
		s = &Session{Incarnation: c.Incarnation, Results: map[uint64]Result{}}
		m.sessions[c.Client] = s
	}
	if c.Incarnation == s.Incarnation && c.Floor > s.Floor {
		s.Floor = c.Floor
		maps.DeleteFunc(s.Results, func(sequence uint64, _ Result) bool { return sequence < c.Floor })
	}
	return s
}

func (m *Machine) write(c Command) (Outcome, *fabric.Entry) {
	if m.Sealed(c.Key) != nil {
		return Sealed, nil
	}
	old, exists := m.entries[c.Key]
	if c.Op == OpSwap && c.Expect != old.Revision {
		return Conflict, nil
	}
	if c.Op == OpDelete {
		switch {
		case c.Expect != 0 && c.Expect != old.Revision:
			return Conflict, nil
		case !exists:
			return Done, nil
		}
		m.revision++
		m.remove(c.Key)
		return Done, &fabric.Entry{Key: c.Key, Revision: m.revision}
	}
	grow := len(c.Value) - len(old.Value)
	if !exists {
		grow += len(c.Key)
	}
	if grow > 0 && m.size+grow > MaxSize {
		return Full, nil
	}
	m.revision++
	e := fabric.Entry{Key: c.Key, Value: c.Value, Revision: m.revision}
	if e.Value == nil {
		e.Value = []byte{} // nil means deleted in a fabric.Change
	}
	m.set(e)
	return Done, &e
}

func (m *Machine) set(e fabric.Entry) {
	old, exists := m.entries[e.Key]
	if !exists {
		at, _ := slices.BinarySearch(m.keys, e.Key)
		m.keys = slices.Insert(m.keys, at, e.Key)
		m.size += len(e.Key)
	}
	m.size += len(e.Value) - len(old.Value)
	m.entries[e.Key] = e
}

func (m *Machine) remove(key string) {
	at, _ := slices.BinarySearch(m.keys, key)
	m.keys = slices.Delete(m.keys, at, at+1)
	m.size -= len(key) + len(m.entries[key].Value)
	delete(m.entries, key)
}

// Sealed is ErrSealed if a key, or the keys with a prefix, are not to be read or written here any more.
func (m *Machine) Sealed(key string) error {
	if _, ok := m.entries[SealKey]; ok && !strings.HasPrefix(key, Own) {
		return fmt.Errorf("%s: %w", key, ErrSealed)
	}
	return nil
}

// Get returns a key's entry.
func (m *Machine) Get(key string) (fabric.Entry, bool) {
	e, ok := m.entries[key]
	return e, ok
}

// List returns the entries whose keys begin with prefix, sorted by key.
func (m *Machine) List(prefix string) []fabric.Entry {
	from, _ := slices.BinarySearch(m.keys, prefix)
	var found []fabric.Entry
	for _, key := range m.keys[from:] {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		found = append(found, m.entries[key])
	}
	return found
}

// Revision is the number of changes so far.
func (m *Machine) Revision() uint64 { return m.revision }

// Session returns what is remembered of a client; nil for one that never wrote. The caller must not change it.
func (m *Machine) Session(client uint64) *Session { return m.sessions[client] }

// Difference lists what has to change in old to get m: entries as in a fabric.Change.
func (m *Machine) Difference(old *Machine) []fabric.Entry {
	var changed []fabric.Entry
	for _, key := range old.keys {
		if _, ok := m.entries[key]; !ok {
			changed = append(changed, fabric.Entry{Key: key, Revision: m.revision})
		}
	}
	for _, key := range m.keys {
		if e := m.entries[key]; e.Revision != old.entries[key].Revision {
			changed = append(changed, e)
		}
	}
	return changed
}
