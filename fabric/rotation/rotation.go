// Package rotation changes the key that encrypts the membership's gossip, on all nodes, while they go on.
//
// The table's Record says which key, by its fingerprint, and how far the change is: all nodes add the key, then all use it,
// then all remove the others. Keys are never in the table; a node that lacks one asks another node, over mutual TLS. Every node's Rotator follows the
// record by itself; Rotate takes it to the end, and goes on where another Rotate was interrupted.
//
// At any step each node can read what any other sends, but for nodes that are away, which catch up when they are back: their table and their questions do
// not need the gossip. The package has no goroutine outside Run, Rotate and Follow.
package rotation

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/internal/clock"
)

// Key is where the table has the Record.
const Key = "fabric/gossip"

// ErrKeyLost says that nobody who can be reached has the key.
var ErrKeyLost = errors.New("no node that can be reached has the key")

// Phase is how far a rotation is.
type Phase string

// The phases, in order.
const (
	Adding   Phase = "add"    // all nodes learn the key
	Using    Phase = "use"    // all nodes encrypt with it
	Removing Phase = "remove" // all nodes forget the other keys
	Done     Phase = "done"
)

var phases = []Phase{Adding, Using, Removing, Done} //nolint:gochecknoglobals // a constant

// Record is a rotation in the table.
type Record struct {
	Serial uint64        `json:"serial"` // of rotations; one more with each
	Phase  Phase         `json:"phase"`
	Key    string        `json:"key"`    // Fingerprint of the new key
	Holder fabric.NodeID `json:"holder"` // who made the key
	By     string        `json:"by"`
	Begun  time.Time     `json:"begun"`
	Ended  time.Time     `json:"ended,omitzero"`
}

// after says whether a record is a step further than another.
func (r Record) after(than Record) bool {
	if r.Serial != than.Serial {
		return r.Serial > than.Serial
	}
	return slices.Index(phases, r.Phase) > slices.Index(phases, than.Phase)
}

// Fingerprint names a key without giving it away.
func Fingerprint(key []byte) string {
	sum := sha256.Sum256(append([]byte("orrery gossip key\x00"), key...))
	return hex.EncodeToString(sum[:8])
}

// Ring are this node's keys, the one in use first.
type Ring interface {
	Keys() [][]byte
	// Set uses these keys from now on, and after a restart.
	Set(keys [][]byte) error
}

// Answer is what a node says of its keys to another one.
type Answer struct {
	Record Record   `json:"record"` // that it has followed
	Keys   [][]byte `json:"keys"`
}

// Config is what a Rotator needs.
type Config struct {
	Self  fabric.NodeID
	Table fabric.Table
	Ring  Ring
	// Nodes are all that belong to the cluster. Alive says whether one is there, as far as is known.
	Nodes func(ctx context.Context) ([]fabric.Identity, error)
	Alive func(id fabric.NodeID) bool
	// Ask has another node answer Rotator.Answer. Turn has it do Rotator.Follow.
	Ask  func(ctx context.Context, id fabric.NodeID) (Answer, error)
	Turn func(ctx context.Context, id fabric.NodeID, r Record) error
	// Patience is for how long a node that is alive may fail to take a step; 0: 15 s.
	Patience time.Duration
	Logger   *slog.Logger // nil: discard
}

// Rotator is a node's part in rotations. Safe for concurrent use.
type Rotator struct {
	config Config

	mu       sync.Mutex // held while the ring changes
	followed Record
}

// askTime is how long another node has to answer.
const askTime = 3 * time.Second

// New returns a node's Rotator, which does nothing by itself before Run.
func New(c Config) *Rotator {
	if c.Patience == 0 {
		c.Patience = 15 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Rotator{config: c}
}

// Run follows the record until ctx ends or the table is closed.
func (r *Rotator) Run(ctx context.Context) error {
	changes, err := r.config.Table.Watch(ctx, Key)
	if err != nil {
		return fmt.Errorf("cannot follow the rotation of the gossip's key: %w", err)
	}
	var newest Record
	var again <-chan time.Time
	for {
		select {
		case change, ok := <-changes:
			if !ok {
				return ctx.Err()
			}
			for _, e := range change.Entries {
				if record, err := decode(e.Value); err == nil {
					newest = record
				}
			}
		case <-again:
		}
		again = nil
		if err := r.Follow(ctx, newest); err != nil && ctx.Err() == nil {
			r.config.Logger.WarnContext(ctx, "the gossip's key is not changed yet", "serial", newest.Serial, "phase", newest.Phase, "error", err)
			again = time.After(askTime)
		}
	}
}

func decode(value []byte) (record Record, err error) {
	if err = json.Unmarshal(value, &record); err == nil && !slices.Contains(phases, record.Phase) {
		err = fmt.Errorf("phase %q is not known (is this node's version older than the others'?)", record.Phase)
	}
	return record, err
}

// Answer is what this node tells another one of its keys.
func (r *Rotator) Answer() Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Answer{Record: r.followed, Keys: r.config.Ring.Keys()}
}

// Adopt takes over what another node said, if that node is further. It is for a node that does not have the table, and may be alone because all others changed the key.
func (r *Rotator) Adopt(a Answer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(a.Keys) == 0 || !a.Record.after(r.followed) {
		return nil
	}
	if err := r.config.Ring.Set(a.Keys); err != nil {
		return fmt.Errorf("cannot take over the gossip's keys: %w", err)
	}
	r.followed = a.Record
	return nil
}

// Follow makes this node's keys as a record says. An older record than one that was followed changes nothing.
func (r *Rotator) Follow(ctx context.Context, record Record) error {
	key, err := r.keyOf(ctx, record)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !record.after(r.followed) {
		return nil
	}
	keys := r.config.Ring.Keys()
	if err := r.config.Ring.Set(arranged(keys, key, indexOf(keys, record.Key), record.Phase)); err != nil {
		return fmt.Errorf("cannot change the gossip's keys: %w", err)
	}
	r.followed = record
	return nil
}

// keyOf is a record's key: this node's, or else another one's. Others are asked without the lock, for they may be asking this node. Of a
// record that is not to be followed the key may be nil.
func (r *Rotator) keyOf(ctx context.Context, record Record) ([]byte, error) {
	r.mu.Lock()
	keys, news := r.config.Ring.Keys(), record.after(r.followed)
	r.mu.Unlock()
	if at := indexOf(keys, record.Key); at >= 0 {
		return keys[at], nil
	}
	if !news {
		return nil, nil
	}
	return r.find(ctx, record)
}

func indexOf(keys [][]byte, fingerprint string) int {
	return slices.IndexFunc(keys, func(k []byte) bool { return Fingerprint(k) == fingerprint })
}

// arranged are the keys of a phase; the new one is at an index of keys, or not among them.
func arranged(keys [][]byte, key []byte, at int, phase Phase) [][]byte {
	others := slices.Clone(keys)
	if at >= 0 {
		others = slices.Delete(others, at, at+1)
	}
	switch {
	case phase == Removing, phase == Done:
		return [][]byte{key}
	case phase == Using:
		return slices.Insert(others, 0, key)
	case at >= 0:
		return keys
	}
	return append(others, key)
}

// find asks all other nodes for a key, at once.
func (r *Rotator) find(ctx context.Context, record Record) ([]byte, error) {
	nodes, err := r.config.Nodes(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	found := make(chan []byte, len(nodes))
	var asking sync.WaitGroup
	for _, n := range nodes {
		if n.ID == r.config.Self {
			continue
		}
		asking.Go(func() {
			a, err := r.config.Ask(ctx, n.ID)
			if err != nil {
				return
			}
			for _, key := range a.Keys {
				if Fingerprint(key) == record.Key {
					found <- key
					cancel()
				}
			}
		})
	}
	asking.Wait()
	select {
	case key := <-found:
		return key, nil
	default:
		return nil, fmt.Errorf("key %s: %w", record.Key, ErrKeyLost)
	}
}

// newKey makes a key of the size that the gossip uses.
func newKey() ([]byte, error) {
	key := make([]byte, 32)
	_, err := rand.Read(key)
	return key, err
}

// pause is between attempts to have a node take a step.
func pause(ctx context.Context) bool { return clock.Wait(ctx, 200*time.Millisecond) }
