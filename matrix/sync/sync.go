// Package sync tells clients what is new (clause client-server API, syncing).
//
// A Syncer knows who waits. A token is a position of the stream: all up to it was told. An answer is made of what is in memory, where it is recent.
package sync

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"orrery/matrix"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
	"orrery/matrix/table/watch"
)

// Syncer makes answers.
type Syncer struct {
	stream *store.Stream
	rooms  *room.Rooms // set by Serve

	mu      sync.Mutex
	waiting map[string]map[chan struct{}]bool // by user
	users   map[string]*user                  // those who synced

	ephemerals map[string]*ephemeral        // by the room's id
	unread     map[string]map[string]unread // by user and room

	news  news
	whole wholeFilters

	introductions introductions

	subscriptions bool // to threads

	connections connections
	present     present
	follower    Follower // nil: there is none
}

func (s *Syncer) now() time.Time { return time.Now() }

// user is what a user is in rooms.
type user struct {
	loaded sync.Once
	err    error

	mu    sync.Mutex
	rooms map[string]membership // by the room's id; never changed, but replaced
}

type membership struct {
	is    string
	order int64       // of the event that gave it
	was   *membership // before that, if it was known

	forgotten bool // the user has left the room and does not want to hear of it any more
}

// at is what it was at a position, and whether that is known.
func (m membership) at(position int64) (membership, bool) {
	if m.order > position && m.was != nil {
		m = *m.was
	}
	return m, m.order <= position
}

// New is a syncer of what goes through a stream over a database. Committed and Watch are for room.Config; Serve must be called before the first answer.
func New(stream *store.Stream, db *watch.DB) *Syncer {
	s := &Syncer{stream: stream, waiting: map[string]map[chan struct{}]bool{}, users: map[string]*user{}, ephemerals: map[string]*ephemeral{}, unread: map[string]map[string]unread{}}
	s.follow(db)
	return s
}

// Serve says whose rooms these are.
func (s *Syncer) Serve(rooms *room.Rooms) { s.rooms = rooms }

// Committed takes notice of events in a room, before they count as seen: whoever sees them finds what users are in the room.
func (s *Syncer) Committed(r *room.Room, events []*room.Entry) {
	for _, e := range events {
		if e.Type() != matrix.TypeMember {
			continue
		}
		who, _ := e.StateKey()
		s.mu.Lock()
		u := s.users[who]
		s.mu.Unlock()
		if u != nil {
			u.set(r.ID(), membership{is: e.Membership(), order: e.Order})
		}
	}
}

// Watch wakes those whom events in a room concern.
func (s *Syncer) Watch(r *room.Room, events []*room.Entry) {
	s.WakeRoom(r)
	for _, e := range events {
		if who, _ := e.StateKey(); e.Type() == matrix.TypeMember && e.Membership() != matrix.Join {
			s.Wake(who)
		}
	}
}

// WakeRoom lets answers to the members of a room be made again.
func (s *Syncer) WakeRoom(r *room.Room) {
	s.mu.Lock()
	few := len(s.waiting) < r.Size()
	var members []string
	for who := range s.waiting {
		if few && r.HasJoined(who) {
			members = append(members, who)
		}
	}
	s.mu.Unlock()
	if !few {
		members = r.Joined()
	}
	s.Wake(members...)
	s.Wake(r.ID()) // who looks into the room without being a member
}

func (u *user) set(room string, m membership) {
	u.mu.Lock()
	defer u.mu.Unlock()
	old, known := u.rooms[room]
	if m.order < old.order || m.is == old.is { // only how the user is shown changed
		return
	}
	if known {
		m.was = &membership{is: old.is, order: old.order}
	}
	u.rooms = maps.Clone(u.rooms)
	u.rooms[room] = m
}

// read sets what the store says, unless something newer is known.
func (u *user) read(all map[string]membership) {
	u.mu.Lock()
	defer u.mu.Unlock()
	maps.Copy(all, u.rooms)
	u.rooms = all
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

// user is what somebody is in rooms, also in those that they have forgotten: not all of their devices may know that they left. The caller must not change it.
func (s *Syncer) user(ctx context.Context, who string) (map[string]membership, error) {
	u, err := s.known(ctx, who)
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.rooms, nil
}

// purged says whether the reason of an error is that a room is gone: what its members were in it is forgotten after it, which may take a while, and answers are
// made meanwhile.
func (s *Syncer) purged(ctx context.Context, id string, err error) bool {
	if !errors.Is(err, room.ErrNotFound) {
		return false
	}
	_, err = s.rooms.Find(ctx, id)
	return errors.Is(err, room.ErrNotFound)
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
	found := map[string]membership{}
	err := db.View(ctx, func(tx table.Tx) error {
		all, err := store.Members.All(tx, table.Range{Prefix: []any{who}})
		if err != nil {
			return err
		}
		for _, m := range all {
			r, ok, err := store.Rooms.Get(tx, m.Room)
			if err != nil {
				return err
			}
			if ok {
				found[r.RoomID] = membership{is: m.Membership, order: m.Order, forgotten: m.Forgotten}
			}
		}
		return nil
	})
	if err == nil {
		u.read(found)
	}
	return err
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
	Anew      bool  // something was, but that is not so any more; Initial is set, too
	Since     int64 // up to where all was told; 0 for an initial one
	FullState bool
	After     After
	Timeout   time.Duration
	Filter    *Filter // nobody changes it
	NoDevice  bool    // nothing that concerns the device: messages to it are neither told nor taken for told
}

// Do makes an answer: at once if there is anything new or nothing was told yet, otherwise when there is, or after the timeout.
func (s *Syncer) Do(ctx context.Context, q *Request) (*Response, error) {
	woken, done := s.wait(q.User)
	defer done()
	timeout := time.NewTimer(q.Timeout)
	defer timeout.Stop()
	known := s.introductions.begin(q)
	for {
		resp, err := s.answer(ctx, q, known)
		if err != nil {
			return nil, err
		}
		if !q.Initial && !q.FullState && resp.empty() {
			select {
			case <-woken:
				continue
			case <-timeout.C:
			case <-ctx.Done():
			}
		}
		s.introductions.tell(q, known)
		return resp, nil
	}
}

// Peek waits until a room has events after a position, or until the timeout.
func (s *Syncer) Peek(ctx context.Context, r *room.Room, since int64, timeout time.Duration) {
	woken, done := s.wait(r.ID())
	defer done()
	ended := time.NewTimer(timeout)
	defer ended.Stop()
	for r.Last() <= since {
		select {
		case <-woken:
		case <-ended.C:
			return
		case <-ctx.Done():
			return
		}
	}
}
