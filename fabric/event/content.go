package event

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"orrery/fabric"
	"orrery/fabric/event/journal"
	"orrery/fabric/rpc"
	"orrery/internal/clock"
)

// How large payloads spread: a node gives one to a few others, and tells the rest to ask those. So the sender's work does not grow with the cluster.
const (
	maxFetches   = 4  // at once
	maxGives     = 4  // at once
	enoughGiven  = 4  // copies of one payload that a node gives before it refers to those who have it
	enoughRounds = 10 // about eight seconds
	maxReferrals = 8  // one after the other: 4 to the 8th nodes
	fetchPause   = 50 * time.Millisecond
	fetchTimeout = 20 * time.Second
	fetchFor     = 12 // patiences, after which nobody is asked any more
)

// ContentRequest asks for the payload of an event.
type ContentRequest struct {
	id
	Rounds int `json:"rounds"` // how often all nodes that were named had nothing to give; after some the node that is asked gives it itself
}

// ContentAnswer is the payload, or who has it.
type ContentAnswer struct {
	Payload []byte          `json:"payload,omitempty"`
	Ask     []fabric.NodeID `json:"ask,omitempty"`
}

// gives is what this node gives to others, and fetches from them.
type gives struct {
	fetching atomic.Int64

	mu    sync.Mutex
	now   int
	given map[id][]fabric.NodeID
	order []id // of given, oldest first
}

const rememberedGives = 256

// begin takes a place for giving e to node, which then is one of those who have it; refer are others to ask instead.
func (g *gives) begin(e id, node fabric.NodeID, rounds int) (refer []fabric.NodeID, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	has := g.given[e]
	if len(has) >= enoughGiven && rounds < enoughRounds && !slices.Contains(has, node) {
		return slices.Clone(has), nil
	}
	if g.now >= maxGives {
		return nil, fmt.Errorf("%w: it gives %d payloads already", ErrBusy, g.now)
	}
	g.now++
	if len(has) < enoughGiven && !slices.Contains(has, node) {
		g.note(e, node)
	}
	return nil, nil
}

func (g *gives) note(e id, node fabric.NodeID) {
	if g.given == nil {
		g.given = map[id][]fabric.NodeID{}
	}
	if g.given[e] == nil {
		g.order = append(g.order, e)
	}
	g.given[e] = append(g.given[e], node)
	if len(g.order) > rememberedGives {
		delete(g.given, g.order[0])
		g.order = slices.Delete(g.order, 0, 1)
	}
}

func (g *gives) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.now--
}

// serveContent gives another node the payload of an event in the log.
func (s *Service) serveContent(ctx context.Context, q *ContentRequest) (*ContentAnswer, error) {
	caller, ok := rpc.Caller(ctx)
	if !ok {
		return nil, fabric.ErrForbidden
	}
	record, ok := s.find(q.id)
	if !ok {
		return nil, fmt.Errorf("event %d of %s: %w", q.At.Seq, q.From, fabric.ErrNotFound)
	}
	refer, err := s.gives.begin(q.id, caller.ID, q.Rounds)
	if err != nil || refer != nil {
		return &ContentAnswer{Ask: refer}, err
	}
	defer s.gives.end()
	payload, err := s.log.Body(record)
	if err != nil {
		return nil, err
	}
	s.counters.given.Add(1)
	return &ContentAnswer{Payload: payload}, nil
}

// find looks an event up in the log, from its newest end.
func (s *Service) find(wanted id) (journal.Record, bool) {
	records, _ := s.log.After(0, int(s.log.Next())) //nolint:gosec // bounded by MaxRecords
	for _, r := range slices.Backward(records) {
		if e, err := s.envelopeOf(r); err == nil && e.id == wanted {
			return r, true
		}
	}
	return journal.Record{}, false
}

// fetch brings the payload of an event that waits for it.
func (s *Service) fetch(ctx context.Context, h *held) {
	defer s.gives.fetching.Add(-1)
	ctx, cancel := context.WithTimeout(ctx, fetchFor*s.config.Patience)
	defer cancel()
	content, err := s.ask(ctx, h.envelope)
	s.mu.Lock()
	if err == nil {
		s.sequence.arrivedContent(h, content)
	} else {
		h.fetching, h.failed = false, true
		s.config.Logger.WarnContext(ctx, "payload of an event not fetched", "sender", h.From, "name", h.name, "bytes", h.size, "error", err)
	}
	s.mu.Unlock()
	s.wake()
}

// ask asks one node after the other for the payload of e: first its sender, then who is said to have it, then anyone.
func (s *Service) ask(ctx context.Context, e *envelope) ([]byte, error) {
	next := []fabric.NodeID{e.From}
	var last error
	rounds, referrals := 0, 0
	for tries := 0; ; {
		if len(next) == 0 {
			if tries++; referrals > 0 {
				rounds, referrals = rounds+1, 0
			}
			wait := min(fetchPause<<min(tries, 4), time.Second)
			if !clock.Wait(ctx, wait/2+rand.N(wait)) {
				return nil, errors.Join(last, ctx.Err())
			}
			next = s.somebody(e.From)
		}
		node := next[0]
		next = next[1:]
		answer, err := s.askNode(ctx, node, ContentRequest{e.id, rounds})
		switch {
		case ctx.Err() != nil:
			return nil, errors.Join(err, ctx.Err())
		case err != nil:
			last = err
		case len(answer.Ask) > 0 && referrals < maxReferrals:
			referrals++
			next = answer.Ask[:min(len(answer.Ask), enoughGiven)]
			rand.Shuffle(len(next), func(i, j int) { next[i], next[j] = next[j], next[i] })
		case e.complete(answer.Payload):
			return answer.Payload, nil
		case len(answer.Ask) > 0: // in circles
		default:
			s.counters.garbage.Add(1)
			last = fmt.Errorf("node %s gave something else than what %s announced", node, e.From)
		}
	}
}

func (s *Service) askNode(ctx context.Context, node fabric.NodeID, q ContentRequest) (*ContentAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	return rpc.Call[ContentRequest, ContentAnswer](ctx, s.config.Peer(node), procContent, &q)
}

// somebody is the sender or, as often, another node that is there.
func (s *Service) somebody(sender fabric.NodeID) []fabric.NodeID {
	all := s.others()
	if len(all) == 0 || rand.N(2) == 0 {
		return []fabric.NodeID{sender}
	}
	return []fabric.NodeID{all[rand.N(len(all))]}
}
