package membership

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/memberlist"

	"orrery/fabric"
)

// Event is a small message to all members.
type Event struct {
	// Time is Lamport's: an event that was caused by another has a greater one.
	Time    uint64        `json:"t"`
	From    fabric.NodeID `json:"f"`
	Name    string        `json:"n"`
	Payload []byte        `json:"p,omitempty"`
	// Nonce tells events of a sender's lives apart, whose times may repeat.
	Nonce uint64 `json:"x"`
}

// What an event may carry, so that it fits into a datagram with others.
const (
	MaxEventName    = 64
	MaxEventPayload = 512
)

const (
	leaveName     = "\x00leave" // not a name that Broadcast takes
	rememberedIDs = 4096
	waitingEvents = 256
	maxQueued     = 1024 // events to be sent; older ones give way
)

// Broadcast spreads an event. Who is reachable gets it within seconds, at most once, and probably; it is not stored. The sender
// itself is not told.
func (m *Membership) Broadcast(name string, payload []byte) error {
	if name == "" || len(name) > MaxEventName || name[0] == 0 {
		return fmt.Errorf("cannot broadcast event %q: its name has 1 to %d bytes", name, MaxEventName)
	}
	if len(payload) > MaxEventPayload {
		return fmt.Errorf("cannot broadcast event %s: %d bytes, and at most %d are possible (put it into the table)", name, len(payload), MaxEventPayload)
	}
	_, err := m.events.send(name, payload)
	return err
}

// events is the part of gossip that carries events.
type events struct {
	self    fabric.NodeID
	queue   memberlist.TransmitLimitedQueue
	arrived chan Event

	alive atomic.Int64 // members, for how often to send

	mu    sync.Mutex
	clock uint64
	seen  map[seenKey]bool
	order []seenKey // of seen, a ring
	next  int
}

type seenKey struct {
	from  fabric.NodeID
	time  uint64
	nonce uint64
}

func newEvents(self fabric.NodeID, mult int) *events {
	e := &events{self: self, arrived: make(chan Event, waitingEvents), seen: map[seenKey]bool{}, order: make([]seenKey, 0, 64)}
	e.queue.RetransmitMult = mult
	e.queue.NumNodes = func() int { return max(1, int(e.alive.Load())) }
	return e
}

func (e *events) send(name string, payload []byte) (sent <-chan struct{}, err error) {
	e.mu.Lock()
	e.clock++
	event := Event{Time: e.clock, From: e.self, Name: name, Payload: payload, Nonce: rand.Uint64()}
	e.isNew(event)
	e.mu.Unlock()
	content, err := json.Marshal(event)
	if err != nil {
		return nil, err
	}
	return e.enqueue(content), nil
}

// leave says that this node leaves; the channel is closed once that was sent often enough.
func (e *events) leave() <-chan struct{} {
	sent, err := e.send(leaveName, nil)
	if err != nil {
		closed := make(chan struct{})
		close(closed)
		return closed
	}
	return sent
}

func (e *events) enqueue(content []byte) <-chan struct{} {
	b := &broadcast{content: content, done: make(chan struct{})}
	e.queue.QueueBroadcast(b)
	if e.queue.NumQueued() > maxQueued { // a node that is alone sends nothing
		e.queue.Prune(maxQueued)
	}
	return b.done
}

// take takes an event in and passes it on, unless it was here before. ok says that it was a leaver's.
func (e *events) take(content []byte) (leaver fabric.NodeID, ok bool) {
	event, err := decodeEvent(content)
	if err != nil {
		return "", false
	}
	e.mu.Lock()
	e.clock = max(e.clock, event.Time)
	news := event.From != e.self && e.isNew(event)
	e.mu.Unlock()
	if !news {
		return "", false
	}
	e.enqueue(append([]byte(nil), content...))
	if event.Name == leaveName {
		return event.From, true
	}
	select {
	case e.arrived <- event:
	default: // nobody listens fast enough; gossip must not wait
	}
	return "", false
}

func decodeEvent(content []byte) (Event, error) {
	var event Event
	if err := json.Unmarshal(content, &event); err != nil {
		return event, err
	}
	if event.Name == "" || len(event.Name) > MaxEventName || len(event.Payload) > MaxEventPayload || event.From == "" || event.Time == 0 {
		return event, errors.New("no event")
	}
	return event, nil
}

// isNew remembers an event; the caller holds the lock.
func (e *events) isNew(event Event) bool {
	key := seenKey{event.From, event.Time, event.Nonce}
	if e.seen[key] {
		return false
	}
	e.seen[key] = true
	if len(e.order) < rememberedIDs {
		e.order = append(e.order, key)
		return true
	}
	delete(e.seen, e.order[e.next])
	e.order[e.next] = key
	e.next = (e.next + 1) % rememberedIDs
	return true
}

func (e *events) pending(overhead, limit int) [][]byte { return e.queue.GetBroadcasts(overhead, limit) }

type clockState struct {
	Clock uint64 `json:"clock"`
}

func (e *events) state() []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	content, err := json.Marshal(clockState{e.clock})
	if err != nil {
		return nil
	}
	return content
}

func (e *events) merge(content []byte) {
	var said clockState
	if json.Unmarshal(content, &said) != nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.clock = max(e.clock, said.Clock)
}

// broadcast is an event on its way.
type broadcast struct {
	content []byte
	done    chan struct{}
	once    sync.Once
}

var _ memberlist.UniqueBroadcast = (*broadcast)(nil)

// Invalidates is memberlist's: no event replaces another.
func (b *broadcast) Invalidates(memberlist.Broadcast) bool { return false }

// Message is memberlist's: the bytes.
func (b *broadcast) Message() []byte { return b.content }

// Finished is memberlist's: it was sent as often as is needed.
func (b *broadcast) Finished() { b.once.Do(func() { close(b.done) }) }

// UniqueBroadcast is memberlist's mark for events that replace nothing.
func (b *broadcast) UniqueBroadcast() {}
