// Package sync tells clients what is new (clause client-server API, syncing).
//
// A Syncer knows who waits. A token is a position of the stream: all up to it was told. An answer is made of what is in memory, where it is recent.
package sync

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Syncer makes answers.
type Syncer struct {
	stream *store.Stream
	rooms  *room.Rooms // set by Serve

	mu      sync.Mutex
	waiting map[string]map[chan struct{}]bool // by user
	users   map[string]*user                  // those who synced

	ephemerals map[string]*ephemeral        // by the room's id
	tastes     map[string]*taste            // by user
	unread     map[string]map[string]unread // by user and room

	connections connections
	present     present
}

func (s *Syncer) now() time.Time { return time.Now() }

// user is what a user is in rooms.
type user struct {
	loaded sync.Once
	err    error

	mu    sync.Mutex
	rooms map[string]membership // by the room's id
}

type membership struct {
	is    string
	order int64 // of the event that gave it
}

// New is a syncer of what goes through a stream. Watch is for room.Config; Serve must be called before the first answer.
func New(stream *store.Stream) *Syncer {
	return &Syncer{
		stream: stream, waiting: map[string]map[chan struct{}]bool{}, users: map[string]*user{}, ephemerals: map[string]*ephemeral{},
		tastes: map[string]*taste{}, unread: map[string]map[string]unread{},
	}
}

// Serve says whose rooms these are.
func (s *Syncer) Serve(rooms *room.Rooms) { s.rooms = rooms }

// Watch takes notice of events in a room, and wakes those whom they concern.
func (s *Syncer) Watch(r *room.Room, events []*room.Entry) {
	concerned := map[string]bool{}
	for _, e := range events {
		if e.Type() != matrix.TypeMember {
			continue
		}
		who, _ := e.StateKey()
		concerned[who] = true
		s.mu.Lock()
		u := s.users[who]
		s.mu.Unlock()
		if u != nil {
			u.set(r.ID(), membership{e.Membership(), e.Order})
		}
	}
	for _, who := range r.Joined() {
		concerned[who] = true
	}
	s.Wake(slices.Collect(maps.Keys(concerned))...)
}

func (u *user) set(room string, m membership) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if old := u.rooms[room]; m.order >= old.order && m.is != old.is { // otherwise only how the user is shown changed
		u.rooms[room] = m
	}
}

// read sets what the store says, unless something newer is known.
func (u *user) read(room string, m membership) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, known := u.rooms[room]; !known {
		u.rooms[room] = m
	}
}

// Wake lets answers to users be made again.
func (s *Syncer) Wake(users ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range users {
		for c := range s.waiting[u] {
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}
}

// wait registers somebody who waits, until the function that it returns is called.
func (s *Syncer) wait(who string) (<-chan struct{}, func()) {
	c := make(chan struct{}, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting[who] == nil {
		s.waiting[who] = map[chan struct{}]bool{}
	}
	s.waiting[who][c] = true
	return c, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if delete(s.waiting[who], c); len(s.waiting[who]) == 0 {
			delete(s.waiting, who)
		}
	}
}

// user is what somebody is in rooms.
func (s *Syncer) user(ctx context.Context, who string) (map[string]membership, error) {
	u, err := s.known(ctx, who)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return maps.Clone(u.rooms), nil
}

// membership is what somebody is in a room.
func (s *Syncer) membership(ctx context.Context, who, room string) (membership, error) {
	u, err := s.known(ctx, who)
	if err != nil {
		return membership{}, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.rooms[room], nil
}

// known is somebody, read from the store the first time.
func (s *Syncer) known(ctx context.Context, who string) (*user, error) {
	s.mu.Lock()
	u := s.users[who]
	if u == nil {
		u = &user{rooms: map[string]membership{}}
		s.users[who] = u // before it is read: what happens meanwhile is newer
	}
	s.mu.Unlock()
	u.loaded.Do(func() { u.err = u.load(context.WithoutCancel(ctx), s.stream.DB(), who) })
	if u.err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users[who] == u {
			delete(s.users, who)
		}
		return nil, u.err
	}
	return u, nil
}

func (u *user) load(ctx context.Context, db table.DB, who string) error {
	return db.View(ctx, func(tx table.Tx) error {
		all, err := store.Members.All(tx, table.Range{Prefix: []any{who}})
		if err != nil {
			return err
		}
		for _, m := range all {
			r, ok, err := store.Rooms.Get(tx, m.Room)
			if err != nil {
				return err
			}
			if ok && !m.Forgotten {
				u.read(r.RoomID, membership{m.Membership, m.Order})
			}
		}
		return nil
	})
}

// Forget makes a user's rooms be read again.
func (s *Syncer) Forget(who string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.users, who)
}

// Request is what a client asks.
type Request struct {
	User      string
	Device    string
	Initial   bool  // nothing was told yet
	Since     int64 // up to where all was told; 0 for an initial one
	FullState bool
	After     After
	Timeout   time.Duration
	Filter    Filter
}

// Do makes an answer: at once if there is anything new or nothing was told yet, otherwise when there is, or after the timeout.
func (s *Syncer) Do(ctx context.Context, q Request) (*Response, error) {
	woken, done := s.wait(q.User)
	defer done()
	timeout := time.NewTimer(q.Timeout)
	defer timeout.Stop()
	for {
		resp, err := s.answer(ctx, q)
		if err != nil || q.Initial || q.FullState || !resp.empty() {
			return resp, err
		}
		select {
		case <-woken:
		case <-timeout.C:
			return resp, nil
		case <-ctx.Done():
			return resp, nil
		}
	}
}
