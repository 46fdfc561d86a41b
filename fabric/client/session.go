package client

import (
	"math/rand/v2"
	"sync"
)

// session numbers a client's commands to one chain, so that a command that is sent twice is done once.
type session struct {
	client uint64

	mu    sync.Mutex
	next  uint64 // the last number that was given
	floor uint64 // the smallest one that somebody waits for
	over  []bool // of floor, floor+1 and so on: nobody waits any more
}

func newSession() *session {
	for {
		if id := rand.Uint64(); id != 0 { //nolint:gosec // has to differ, not to be secret
			return &session{client: id, floor: 1}
		}
	}
}

// begin numbers a command.
func (s *session) begin() (request, floor uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	s.over = append(s.over, false)
	return s.next, s.floor
}

// end says that nobody waits for a command any more. Of no session it does nothing.
func (s *session) end(request uint64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over[request-s.floor] = true
	n := 0
	for n < len(s.over) && s.over[n] {
		n++
	}
	s.floor += uint64(n)
	s.over = s.over[n:]
	if len(s.over) == 0 {
		s.over = nil
	}
}
