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
// Events of one sender go in one after the other without holes. Where one is missing the others wait until its sender and two more nodes were asked for it in vain, or
// for patience where those are not there; then it is missed. Among senders an event waits for settle, and then goes in after all that are there and have a smaller Lamport time.
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
	held  []*held   // in the order of marks, all after done
	hole  time.Time // since when something is missing before held
	asked int       // how many nodes had nothing that fills the hole, and
	self  bool      // whether the sender was among them, or is not there
	gone  bool      // and whether that were enough
}

// held is an event that waits.
type held struct {
	*envelope
	content  []byte // of a payload that is not inside
	ready    bool   // content is there, or not needed
	fetching bool
	failed   bool // nobody gave the content
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
	i, _ := s.find(e.At)
	switch {
	case q.knows(e.id) || e.time > clock+maxJump:
		return false, true
	case len(s.held) >= maxWaitingEach || q.waiting >= maxWaiting:
		return false, false
	}
	s.held = slices.Insert(s.held, i, &held{envelope: e, ready: e.size == 0, arrived: now})
	q.waiting++
	return true, true
}

// find is where an event of a sender is among those that wait, or would be.
func (s *stream) find(at mark) (i int, found bool) {
	return slices.BinarySearchFunc(s.held, at, func(h *held, m mark) int { return h.At.compare(m) })
}

// knows says whether an event is in the log, is given up, or waits.
func (q *sequencer) knows(e id) bool {
	s := q.streams[e.From]
	if s == nil {
		return false
	}
	_, found := s.find(e.At)
	return found || e.At.compare(s.done) <= 0
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
			if !h.ready && !h.fetching && !h.failed {
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
	var turns, events []turn
	var limit *held
	for from, s := range q.streams {
		for _, t := range q.runnable(from, s, now) {
			if t.event == nil {
				turns = append(turns, t)
				continue
			}
			events = append(events, t)
			if now.Sub(t.event.arrived) >= q.settle && (limit == nil || compareHeld(t.event, limit) > 0) {
				limit = t.event
			}
		}
	}
	slices.SortFunc(events, func(a, b turn) int { return compareHeld(a.event, b.event) })
	for _, t := range events {
		if limit != nil && compareHeld(t.event, limit) <= 0 {
			turns = append(turns, t)
		}
	}
	return turns
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
	if len(turns) > 0 || len(s.held) == 0 || s.held[0].follows(at) {
		s.filled()
	}
	switch {
	case len(turns) > 0 || len(s.held) == 0:
		return turns
	case s.held[0].follows(at): // its content is missing
		if !s.held[0].failed {
			return nil
		}
	case s.hole.IsZero():
		s.hole = now
		return nil
	case !s.hopeless(now.Sub(s.hole), q.patience):
		return nil
	}
	return []turn{s.giveUp(from)}
}

// filled notes that nothing is missing before the first event that waits.
func (s *stream) filled() { s.hole, s.asked, s.self, s.gone = time.Time{}, 0, false, false }

// hopeless says whether what is missing is not waited for any longer.
func (s *stream) hopeless(waited, patience time.Duration) bool {
	return s.gone || s.self && waited >= patience || waited >= isolated*patience
}

const (
	enoughAsked = 3  // nodes without an event, its sender among them, after which nobody has it
	isolated    = 12 // patiences, where nobody could be asked, or the sender could not
)

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
	s.filled()
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

// asked says that a node, one of those that are there, was asked for everything, and had no more. Of what a sender that is there has nobody else can say that it is gone.
func (q *sequencer) asked(node fabric.NodeID, there []fabric.NodeID, began time.Time) {
	for from, s := range q.streams {
		if s.hole.IsZero() || s.hole.After(began) {
			continue
		}
		s.asked++
		s.self = s.self || from == node || !slices.Contains(there, from)
		s.gone = s.self && s.asked >= min(enoughAsked, len(there))
	}
}

// holes are the senders of whom something is missing.
func (q *sequencer) holes() (senders []fabric.NodeID) {
	for from, s := range q.streams {
		if !s.hole.IsZero() {
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

// have says up to where each sender's events are here, in the log or waiting.
func (q *sequencer) have() map[fabric.NodeID]mark {
	all := q.marks()
	for from, s := range q.streams {
		at := s.done
		for _, h := range s.held {
			if !h.follows(at) {
				break
			}
			at = h.At
		}
		if at != (mark{}) {
			all[from] = at
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
