package event

import (
	"cmp"
	"slices"
	"time"

	"orrery/fabric"
)

// What waits for its turn at the most.
const (
	maxWaiting      = 8192
	maxWaitingEach  = 1024
	maxWaitingBytes = 8 * MaxPayload
	maxSenders      = 4096
	maxJump         = 1 << 40 // of Lamport's time, in one event
)

// sequencer decides when events that came in any order go into the log: a pure state machine, whose caller says what time it is.
//
// Events of one sender go in one after the other without holes. Where one is missing the others wait for patience, or until nobody has it any
// more; then it is missed. Among senders an event waits for settle, and then goes in after all that are there and have a smaller Lamport time.
type sequencer struct {
	settle, patience time.Duration

	streams map[fabric.NodeID]*stream
	waiting int
	bytes   int // of content that waits
}

// stream is what is known of one sender.
type stream struct {
	done  mark   // everything up to here is in the log, or missed
	known bool   // done is not where this node came in
	time  uint64 // of the last event in the log
	last  time.Time
	held  []*held // in the order of marks, all after done
	hole  time.Time
	asked int // how many nodes had nothing that fills the hole
}

// held is an event that waits.
type held struct {
	*envelope
	content  []byte // of a payload that is not inside
	ready    bool   // content is there, or not needed
	fetching bool
	arrived  time.Time
	order    uint64 // its time, and more than that of the sender's event before it
}

// turn is what goes into the log next: an event, or how many of a sender are missed.
type turn struct {
	event  *held
	from   fabric.NodeID
	missed uint64
	to     mark // where the sender is afterwards
}

func newSequencer(settle, patience time.Duration) *sequencer {
	return &sequencer{settle: settle, patience: patience, streams: map[fabric.NodeID]*stream{}}
}

// offer takes an event in, unless it is known. room is false where there is no place for it: it will be offered again.
func (q *sequencer) offer(e *envelope, clock uint64, now time.Time) (fresh, room bool) {
	s := q.streams[e.From]
	if s == nil {
		if len(q.streams) >= maxSenders {
			return false, true
		}
		s = &stream{last: now}
		q.streams[e.From] = s
	}
	i, found := slices.BinarySearchFunc(s.held, e.At, func(h *held, m mark) int { return h.At.compare(m) })
	switch {
	case found || e.At.compare(s.done) <= 0 || e.time > clock+maxJump:
		return false, true
	case len(s.held) >= maxWaitingEach || q.waiting >= maxWaiting:
		return false, false
	}
	s.held = slices.Insert(s.held, i, &held{envelope: e, ready: e.size == 0, arrived: now})
	q.waiting++
	return true, true
}

// arrivedContent gives an event its payload.
func (q *sequencer) arrivedContent(h *held, content []byte) {
	h.content, h.ready, h.fetching = content, true, false
	q.bytes += len(content)
}

// wanted are events whose payload should be fetched now, at most n of them, those of each sender in order.
func (q *sequencer) wanted(n int) []*held {
	var all []*held
	room := maxWaitingBytes - q.bytes
	for _, s := range q.streams {
		for _, h := range s.held {
			if h.fetching {
				room -= h.size
			}
		}
	}
	for _, s := range q.streams {
		for i, h := range s.held {
			if len(all) == n || room < h.size && i > 0 { // the first one may be what all others wait for
				break
			}
			if !h.ready && !h.fetching {
				h.fetching = true
				room -= h.size
				all = append(all, h)
			}
		}
	}
	return all
}

// next lists what goes into the log now, in order. The caller writes it there and then calls done for each; it writes only what comes before a failure.
func (q *sequencer) next(now time.Time) []turn {
	var runnable []turn
	var limit *held
	for from, s := range q.streams {
		for _, t := range q.runnable(from, s, now) {
			runnable = append(runnable, t)
			if due := t.event != nil && now.Sub(t.event.arrived) >= q.settle; due && (limit == nil || compareHeld(t.event, limit) > 0) {
				limit = t.event
			}
		}
	}
	runnable = slices.DeleteFunc(runnable, func(t turn) bool {
		return t.event != nil && (limit == nil || compareHeld(t.event, limit) > 0)
	})
	slices.SortFunc(runnable, func(a, b turn) int {
		if a.event == nil || b.event == nil { // what is given up comes first, and is the only turn of its sender
			return cmp.Or(compareBool(a.event != nil, b.event != nil), cmp.Compare(a.from, b.from))
		}
		return compareHeld(a.event, b.event)
	})
	return runnable
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

func compareHeld(a, b *held) int {
	return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.From, b.From), a.At.compare(b.At))
}

// runnable are the events of a sender that nothing of the same sender holds up. A hole that is given up comes alone.
func (q *sequencer) runnable(from fabric.NodeID, s *stream, now time.Time) []turn {
	var turns []turn
	at, order := s.done, s.time
	for _, h := range s.held {
		if !h.follows(at) || !h.ready {
			break
		}
		h.order = max(h.time, order+1)
		at, order = h.At, h.order
		turns = append(turns, turn{event: h, from: from, to: h.At})
	}
	if len(turns) > 0 || len(s.held) == 0 {
		s.hole, s.asked = time.Time{}, 0
		return turns
	}
	first := s.held[0]
	if s.hole.IsZero() {
		s.hole = now
	}
	if now.Sub(s.hole) < q.patience && (s.asked < enoughAsked || first.follows(s.done)) || first.fetching {
		return nil
	}
	return []turn{s.giveUp(from)}
}

// enoughAsked is after how many nodes without an event it is taken to be gone.
const enoughAsked = 3

// giveUp passes over the hole before the first event that waits, or over that event if its payload does not come.
func (s *stream) giveUp(from fabric.NodeID) turn {
	first := s.held[0]
	t := turn{from: from, to: first.prior, missed: 1}
	switch {
	case first.follows(s.done):
		t.to = first.At
	case !s.known:
		t.missed = 0
	case first.At.Life == s.done.Life:
		t.missed = first.At.Seq - s.done.Seq - 1
	}
	return t
}

// follows says whether nothing can be missing between m and the event.
func (e *envelope) follows(m mark) bool { return e.prior.compare(m) <= 0 }

// done says that a turn is in the log.
func (q *sequencer) done(t turn, now time.Time) {
	s := q.streams[t.from]
	s.done, s.known, s.last = t.to, true, now
	s.hole, s.asked = time.Time{}, 0
	if t.event != nil {
		s.time = t.event.order
	}
	gone := 0
	for gone < len(s.held) && s.held[gone].At.compare(t.to) <= 0 {
		q.bytes -= len(s.held[gone].content)
		gone++
	}
	s.held = slices.Delete(s.held, 0, gone)
	q.waiting -= gone
}

// asked says that a node was asked for everything, and had no more. The sender itself knows best.
func (q *sequencer) asked(node fabric.NodeID, began time.Time) {
	for from, s := range q.streams {
		if s.hole.IsZero() || s.hole.After(began) {
			continue
		}
		if s.asked++; from == node {
			s.asked = enoughAsked
		}
	}
}

// holes are the senders of whom something is missing.
func (q *sequencer) holes() (senders []fabric.NodeID) {
	for from, s := range q.streams {
		if !s.hole.IsZero() && !s.held[0].follows(s.done) {
			senders = append(senders, from)
		}
	}
	return senders
}

// marks say how far each sender is in the log.
func (q *sequencer) marks() map[fabric.NodeID]mark {
	all := make(map[fabric.NodeID]mark, len(q.streams))
	for from, s := range q.streams {
		if s.known {
			all[from] = s.done
		}
	}
	return all
}

// appended notes an event that is in the log without having waited: an own one, or one from before the start.
func (q *sequencer) appended(e id, lamport uint64, now time.Time) {
	s := q.streams[e.From]
	if s == nil {
		s = &stream{}
		q.streams[e.From] = s
	}
	if e.At.compare(s.done) > 0 {
		s.done = e.At
	}
	s.known, s.time, s.last = true, max(s.time, lamport), now
}

// forget drops senders, but for self, of whom nothing was heard since a time: their events are not kept anywhere.
func (q *sequencer) forget(since time.Time, self fabric.NodeID) {
	for from, s := range q.streams {
		if len(s.held) == 0 && s.last.Before(since) && from != self {
			delete(q.streams, from)
		}
	}
}
