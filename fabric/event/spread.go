package event

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"orrery/fabric"
	"orrery/fabric/rpc"
	"orrery/internal/clock"
)

// GossipName is the name under which events travel in the membership's gossip.
const GossipName = "event"

// Gossip carries a few events a second; of more only the newest, which tells the others to ask for those before it.
const (
	gossipBurst = 8
	gossipPause = 250 * time.Millisecond // for one more
)

// What one answer to a pull holds.
const (
	pullEvents  = 512
	pullPages   = 64 // then somebody else is asked
	pullTimeout = 5 * time.Second
)

// Procedures between nodes.
const (
	procPull    = "/orrery.event.v1.Peers/Pull"
	procContent = "/orrery.event.v1.Peers/Content"
	procDeliver = "/orrery.event.v1.Peers/Deliver"
	procAsk     = "/orrery.event.v1.Peers/Ask"
)

// PullRequest says what a node has.
type PullRequest struct {
	Have map[fabric.NodeID]mark `json:"have"`
}

// PullAnswer are events that it lacks, those of each sender in order.
type PullAnswer struct {
	Events []Pulled `json:"events,omitempty"`
	More   bool     `json:"more,omitempty"`
}

// Pulled is an event on its way from node to node, which knows how long it was kept by those before: so what is passed on is never older than Keep,
// whatever the nodes' clocks say.
type Pulled struct {
	Envelope []byte        `json:"envelope"`
	Age      time.Duration `json:"age"`
}

// Heard takes in what another node's Broadcast brought; what is not of GossipName is passed over.
func (s *Service) Heard(name string, payload []byte) {
	if name != GossipName {
		return
	}
	s.take(payload, 0)
}

// take takes an envelope in, wherever it comes from; nil where it is none. room is false where there is no place for it now.
func (s *Service) take(encoded []byte, age time.Duration) (e *envelope, room bool) {
	e, err := s.verifier.open(slices.Clone(encoded), func(i id) bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.sequence.knows(i)
	})
	if err != nil {
		s.counters.garbage.Add(1)
		s.config.Logger.Debug("event refused", "error", err)
		return nil, true
	}
	e.age = max(0, age)
	s.mu.Lock()
	fresh, room := s.sequence.offer(e, s.clock, time.Now())
	s.mu.Unlock()
	if fresh {
		s.wake()
	} else {
		s.counters.duplicates.Add(1)
	}
	return e, room
}

// gossip broadcasts the newest own event, if that was not done yet and it is not too often.
func (s *Service) gossip(now time.Time) {
	s.mu.Lock()
	for s.tokens < gossipBurst && now.Sub(s.refilled) >= gossipPause {
		s.tokens++
		s.refilled = s.refilled.Add(gossipPause)
	}
	if s.tokens == gossipBurst {
		s.refilled = now
	}
	e := s.stale
	if e == nil || s.tokens == 0 {
		s.mu.Unlock()
		return
	}
	s.tokens--
	s.stale = nil
	s.mu.Unlock()
	if err := s.config.Broadcast(GossipName, e.encoded); err != nil {
		s.config.Logger.Debug("event not gossiped: others will ask for it", "error", err)
	}
}

// pull asks others for what this node lacks: now and then, and when something is missing.
func (s *Service) pull(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var missing fabric.NodeID
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case missing = <-s.missing:
		}
		more := false
		peer, err := s.choose(missing)
		if err == nil {
			more, err = s.pullFrom(ctx, peer)
		}
		if err != nil {
			s.config.Logger.DebugContext(ctx, "events not asked for", "error", err)
		}
		s.sweep(time.Now())
		next := s.config.Interval/2 + rand.N(s.config.Interval)
		if more || errors.Is(err, errNoPeer) {
			next = min(next, s.config.Settle)
		}
		timer.Reset(next)
		if missing != "" && !clock.Wait(ctx, s.config.Settle/2) {
			return
		}
		for len(s.missing) > 0 { // of before the answer
			<-s.missing
		}
	}
}

// choose is whom to ask: half the time the node whose event is missing, otherwise any.
func (s *Service) choose(missing fabric.NodeID) (fabric.NodeID, error) {
	all := s.others()
	switch {
	case len(all) == 0:
		return "", errNoPeer
	case rand.N(2) == 0 && slices.Contains(all, missing):
		return missing, nil
	}
	return all[rand.N(len(all))], nil
}

// pullFrom takes over what a node has and this one lacks. It says whether there is more, for which there is no room now.
func (s *Service) pullFrom(ctx context.Context, peer fabric.NodeID) (more bool, err error) {
	began := time.Now()
	s.mu.Lock()
	have := s.sequence.have()
	s.mu.Unlock()
	for range pullPages {
		attempt, cancel := context.WithTimeout(ctx, pullTimeout)
		answer, err := rpc.Call[PullRequest, PullAnswer](attempt, s.config.Peer(peer), procPull, &PullRequest{have})
		cancel()
		if err != nil {
			return false, err
		}
		progress, room := s.takeAll(answer, have)
		if !room {
			return true, nil
		}
		if !answer.More || !progress {
			break
		}
	}
	there := s.others()
	s.mu.Lock()
	s.sequence.asked(peer, there, began)
	s.mu.Unlock()
	s.wake()
	return false, nil
}

// takeAll takes an answer in and notes in have what was in it.
func (s *Service) takeAll(answer *PullAnswer, have map[fabric.NodeID]mark) (progress, room bool) {
	room = true
	for _, p := range answer.Events[:min(len(answer.Events), pullEvents)] {
		e, fits := s.take(p.Envelope, p.Age)
		if e != nil && e.At.compare(have[e.From]) > 0 {
			have[e.From], progress = e.At, true
		}
		room = room && fits
	}
	return progress, room
}

// servePull answers another node's pull from the log.
func (s *Service) servePull(_ context.Context, q *PullRequest) (*PullAnswer, error) {
	answer := &PullAnswer{}
	if !s.knowsMore(q.Have) {
		return answer, nil
	}
	now := time.Now()
	for position := uint64(0); ; {
		records, _ := s.log.After(position, pullEvents)
		for _, r := range records {
			position = r.Position
			e, err := s.envelopeOf(r)
			if err != nil || e.At.compare(q.Have[e.From]) <= 0 {
				continue
			}
			age := e.age + now.Sub(r.Time)
			if age > s.config.Keep {
				continue
			}
			if len(answer.Events) == pullEvents {
				answer.More = true
				return answer, nil
			}
			answer.Events = append(answer.Events, Pulled{e.encoded, age})
		}
		if len(records) < pullEvents {
			return answer, nil
		}
	}
}

// knowsMore says whether the log may have something that is not in have.
func (s *Service) knowsMore(have map[fabric.NodeID]mark) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for from, at := range s.sequence.marks() {
		if at.compare(have[from]) > 0 {
			return true
		}
	}
	return false
}

// sweep drops what is too old.
func (s *Service) sweep(now time.Time) {
	s.log.Expire(now)
	s.mu.Lock()
	s.sequence.forget(now.Add(-2*s.config.Keep), s.self.ID)
	s.mu.Unlock()
	s.inboxes.sweep(now)
}
