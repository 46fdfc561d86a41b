// Package rendezvous is where two devices meet that have no channel of their own yet (MSC4108, insecure rendezvous session): one opens a session and shows
// its address as a picture, the other reads that, and they write to each other by turns. What they write is theirs to encrypt; whoever has a session's id
// may read and replace what it holds.
//
// Sessions are kept in memory, a bounded number of them, each for a short time and with little in it.
package rendezvous

import (
	"crypto/rand"
	"errors"
	"sync"
	"time"
)

// MaxPayload is how much a session may hold: "The server enforce a maximum payload size of 4KB".
const MaxPayload = 4 << 10

// Lifetime is how long a session lasts after it was opened: "The rendezvous session needs to persist for the duration of the login", in which somebody may have
// to log in on a page.
const Lifetime = 5 * time.Minute

// maxSessions bounds what all sessions hold to some four megabytes.
const maxSessions = 1000

var (
	// ErrNotFound is the error if a session was closed, has expired or never was.
	ErrNotFound = errors.New("there is no such session (it may have expired)")
	// ErrTooLarge is the error if what a device says is too large.
	ErrTooLarge = errors.New("a session holds at most 4 KiB")
	// ErrChanged is the error if the other device wrote something in between.
	ErrChanged = errors.New("the session holds something newer")
	// ErrMany is the error if there are too many sessions.
	ErrMany = errors.New("too many devices meet here (try again in some minutes)")
)

// Session is what a session holds.
type Session struct {
	Payload []byte
	Tag     string // another one for each time that something was written
	Changed time.Time
	Expires time.Time
}

// Sessions are those of a server. The zero value has none.
type Sessions struct {
	mu  sync.Mutex
	all map[string]Session
}

// Open opens a session that holds a payload. The error is ErrTooLarge or ErrMany.
func (s *Sessions) Open(payload []byte, now time.Time) (id string, opened Session, err error) {
	if len(payload) > MaxPayload {
		return "", Session{}, ErrTooLarge
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[string]Session{}
	}
	if len(s.all) >= maxSessions {
		s.sweep(now)
	}
	if len(s.all) >= maxSessions {
		return "", Session{}, ErrMany
	}
	id = rand.Text()
	s.all[id] = Session{Payload: payload, Tag: rand.Text(), Changed: now, Expires: now.Add(Lifetime)}
	return id, s.all[id], nil
}

// sweep forgets what has expired.
func (s *Sessions) sweep(now time.Time) {
	for id, one := range s.all {
		if !now.Before(one.Expires) {
			delete(s.all, id)
		}
	}
}

// Get is what a session holds. The error is ErrNotFound.
func (s *Sessions) Get(id string, now time.Time) (Session, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.find(id, now)
}

// find is a session that has not expired.
func (s *Sessions) find(id string, now time.Time) (Session, error) {
	one, ok := s.all[id]
	if ok && !now.Before(one.Expires) {
		delete(s.all, id)
		ok = false
	}
	if !ok {
		return Session{}, ErrNotFound
	}
	return one, nil
}

// Put replaces what a session holds, if that is still what has the tag. The error is ErrNotFound, ErrTooLarge, or ErrChanged with what is there instead.
func (s *Sessions) Put(id, tag string, payload []byte, now time.Time) (Session, error) {
	if len(payload) > MaxPayload {
		return Session{}, ErrTooLarge
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one, err := s.find(id, now)
	if err != nil {
		return one, err
	}
	if one.Tag != tag {
		return one, ErrChanged
	}
	one.Payload, one.Tag, one.Changed = payload, rand.Text(), now
	s.all[id] = one
	return one, nil
}

// Close ends a session. The error is ErrNotFound.
func (s *Sessions) Close(id string, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.find(id, now)
	delete(s.all, id)
	return err
}
