// Package room runs the rooms of this server: their state and the end of their timeline in memory, everything in the store.
//
// What happens in a room happens in turns. A Turn sees the room's current state and sends events after it; all of them are durable when Do returns, or none
// is there. Turns that wait for one room at the same time are taken together, one after another, and share a commit. Whoever watches is told after the commit.
package room

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"orrery/matrix"
	"orrery/matrix/auth"
	"orrery/matrix/event"
	"orrery/matrix/signature"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

var (
	// ErrNotFound says that the server does not know a room or an event.
	ErrNotFound = errors.New("not found")
	// ErrExists says that a name is taken.
	ErrExists = errors.New("exists already")
)

// keepTimeline is how many events at the end of a room's timeline are in memory.
const keepTimeline = 128

// Config says whose rooms these are.
type Config struct {
	Stream *store.Stream
	Server string // its name
	Key    signature.Key
	Now    func() time.Time
	// Watch is called after events were committed and can be seen, in the order of their positions in each room. It must not wait.
	Watch func(r *Room, new []*Entry)
	// Committed is called before events that were committed count as seen. It must not wait, nor ask the room.
	Committed func(r *Room, new []*Entry)
	// Writing is called in the commit of events, with the room's number and the orders that they get; nil: nobody wants that. It may be called again for the same.
	Writing func(tx table.Tx, r *Room, number int64, new []*Entry, orders []int64) error
	// Redacting is called in the commit that redacts an event, with all of it and the room's number.
	Redacting func(tx table.Tx, room int64, what *Entry) error
	// Erased says whether a user wanted their events to be forgotten; nil: nobody did.
	Erased func(ctx context.Context, user string) (bool, error)
}

// Rooms are the rooms of a server.
type Rooms struct {
	c Config

	mu      sync.Mutex
	all     map[string]*place // by the room's id; those that were used
	created int64             // when the last room was
}

// place is where a room is found; it is read from the store once.
type place struct {
	loaded sync.Once
	room   *Room
	err    error
}

// New is the rooms in a database.
func New(c Config) *Rooms {
	if c.Committed == nil {
		c.Committed = func(*Room, []*Entry) {}
	}
	if c.Redacting == nil {
		c.Redacting = func(table.Tx, int64, *Entry) error { return nil }
	}
	if c.Watch == nil {
		c.Watch = func(*Room, []*Entry) {}
	}
	if c.Erased == nil {
		c.Erased = func(context.Context, string) (bool, error) { return false, nil }
	}
	return &Rooms{c: c, all: map[string]*place{}}
}

// Entry is an event in a room's timeline. It never changes: a redacted event is a new entry.
type Entry struct {
	*event.Event

	Order    int64  // in the room, and the position in the stream for those that came as they happened
	After    int64  // the room's state after it
	TxnID    string // by which its sender's device knows it
	Redacted string // the id of the redaction
	Replaces int64  // of a state event, the order of the one that it replaced; 0: none, or it is not known
}

// Room is a room.
type Room struct {
	rooms   *Rooms
	version *matrix.Version

	turn    sync.Mutex // held by whoever takes turns
	waiting struct {
		sync.Mutex
		turns []*waiter
	}

	gone     atomic.Bool // it was purged
	doubtful atomic.Bool // whether something was committed is not known, and must be read before the next turn

	servers atomic.Pointer[compiled] // which servers may take part, as it was asked last

	mu       sync.RWMutex // guards what follows
	row      store.Room
	state    map[matrix.Key]*Entry
	joined   map[string]bool // the members
	members  []string        // the same, sorted, once somebody asked; never changed
	census   int64           // counts the changes of joined
	ends     []end           // the events without events after them
	written  []string        // ids of those that the store has
	timeline []*Entry
	bumped   int64 // order of the newest event that shows that somebody does something
}

// end is an event without events after it.
type end struct {
	event.Ref

	depth int64
}

// Find is the room with an id.
func (r *Rooms) Find(ctx context.Context, id string) (*Room, error) {
	r.mu.Lock()
	p := r.all[id]
	if p == nil {
		p = &place{}
		r.all[id] = p
	}
	r.mu.Unlock()
	p.loaded.Do(func() {
		p.room = newRoom(r, nil)
		p.err = r.c.Stream.DB().View(context.WithoutCancel(ctx), func(tx table.Tx) error { return p.room.load(tx, id) })
	})
	if p.err != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.all[id] == p { // the next one who asks tries again
			delete(r.all, id)
		}
		return nil, p.err
	}
	if p.room.doubtful.Load() {
		if err := p.room.Do(ctx, func(*Turn) error { return nil }); err != nil {
			return nil, err
		}
	}
	if p.room.gone.Load() || p.room.Last() == 0 { // or it is being made
		return nil, fmt.Errorf("room %s is %w", id, ErrNotFound)
	}
	return p.room, nil
}

func newRoom(r *Rooms, version *matrix.Version) *Room {
	return &Room{rooms: r, version: version, state: map[matrix.Key]*Entry{}, joined: map[string]bool{}}
}

// set sets a piece of the room's state.
func (r *Room) set(key matrix.Key, e *Entry) {
	r.state[key] = e
	if key.Type != matrix.TypeMember {
		return
	}
	r.members = nil
	r.census++
	if e.Membership() == matrix.Join {
		r.joined[key.StateKey] = true
	} else {
		delete(r.joined, key.StateKey)
	}
}

// Joined are the members of the room, sorted.
func (r *Room) Joined() []string {
	r.mu.RLock()
	all := r.members
	r.mu.RUnlock()
	if all == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.members = slices.Sorted(maps.Keys(r.joined))
		all = r.members
	}
	return slices.Clip(all) // whoever appends makes a copy
}

// HasJoined says whether a user is a member.
func (r *Room) HasJoined(user string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.joined[user]
}

// AnyJoined says whether a member is as a function wants it.
func (r *Room) AnyJoined(is func(user string) bool) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for user := range r.joined {
		if is(user) {
			return true
		}
	}
	return false
}

// Census is another number whenever other users are members.
func (r *Room) Census() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.census
}

// Size is how many members the room has.
func (r *Room) Size() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.joined)
}

// load reads a room from the store.
func (r *Room) load(tx table.Tx, id string) (err error) {
	var ok bool
	if r.row, ok, err = store.FindRoom(tx, id); err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("room %s is %w", id, ErrNotFound)
	}
	if r.version, err = matrix.FindVersion(r.row.Version); err != nil {
		return err
	}
	state, err := store.ReadState(tx, r.row.State)
	if err != nil {
		return err
	}
	for key, order := range state {
		e, err := r.rooms.entry(tx, r.version, r.row.ID, order)
		if err != nil {
			return err
		}
		r.set(key, e)
	}
	ends, err := store.Extremities.All(tx, table.Range{Prefix: []any{r.row.ID}})
	for _, x := range ends {
		r.ends = append(r.ends, end{event.Ref{ID: x.EventID, Hash: x.Hash}, x.Depth})
		r.written = append(r.written, x.EventID)
	}
	if err != nil {
		return err
	}
	r.timeline, err = r.read(tx, table.Range{Descending: true, Limit: keepTimeline})
	slices.Reverse(r.timeline)
	if n := len(r.timeline); len(r.ends) == 0 && n > 0 {
		r.ends = []end{{r.timeline[n-1].Ref(), r.timeline[n-1].Depth()}}
	}
	r.bump(r.timeline)
	return err
}

// bumps are the types of events that show that somebody does something in a room (MSC4186, bump_stamp).
var bumps = []string{matrix.TypeCreate, "m.room.message", "m.room.encrypted", "m.sticker", "m.call.invite", "m.poll.start", "m.beacon_info"}

// bump takes notice of new events. If none of them counts, the first one does for a room of which nothing else is known.
func (r *Room) bump(events []*Entry) {
	for _, e := range events {
		if r.bumped == 0 || slices.Contains(bumps, e.Type()) {
			r.bumped = e.Order
		}
	}
}

// Ends are the events without events after them: one, unless events came from several sides at once (clause server-server API, forward extremities).
func (r *Room) Ends(ctx context.Context) (all []*Entry, err error) {
	r.mu.RLock()
	ends := r.ends
	r.mu.RUnlock()
	for _, x := range ends {
		e, err := r.Event(ctx, x.ID)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// Bumped is the order of the newest event that shows that somebody does something.
func (r *Room) Bumped() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.bumped
}

// entry reads the event at a place in a room's timeline.
func (r *Rooms) entry(tx table.Tx, version *matrix.Version, room, order int64) (*Entry, error) {
	row, ok, err := store.Events.Get(tx, room, order)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("event %d of room %d is %w", order, room, ErrNotFound)
	}
	return parse(version, row)
}

func parse(version *matrix.Version, row store.Event) (*Entry, error) {
	e, err := event.Parse(version, row.JSON)
	if err != nil {
		return nil, fmt.Errorf("event %s in the store: %w", row.EventID, err)
	}
	return &Entry{Event: e, Order: row.Order, After: row.State, TxnID: row.TxnID, Redacted: row.Redacted, Replaces: row.Replaces}, nil
}

// read reads a part of the timeline from the store; the range is one of orders.
func (r *Room) read(tx table.Tx, of table.Range) ([]*Entry, error) {
	of.Prefix = []any{r.row.ID}
	var all []*Entry
	for row, err := range store.Events.Scan(tx, of) {
		if err != nil {
			return nil, err
		}
		e, err := parse(r.version, row)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// ID is the room's id.
func (r *Room) ID() string { return r.row.RoomID }

// Number is the room's number in the store.
func (r *Room) Number() int64 { return r.row.ID }

// Version is the room's version.
func (r *Room) Version() *matrix.Version { return r.version }

// State is the event that is in force at a key, nil if there is none.
func (r *Room) State(key matrix.Key) *Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state[key]
}

// States are the events that are in force, of one type or, for "", of all; sorted by their order.
func (r *Room) States(kind string) []*Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var all []*Entry
	for key, e := range r.state {
		if kind == "" || key.Type == kind {
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b *Entry) int { return cmp.Compare(a.Order, b.Order) })
	return all
}

// Membership is a user's, "" if there is none.
func (r *Room) Membership(user string) string {
	if m := r.State(matrix.Key{Type: matrix.TypeMember, StateKey: user}); m != nil {
		return m.Membership()
	}
	return ""
}

// Levels are the power levels in force.
func (r *Room) Levels() auth.Levels {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return levels(r.version, func(key matrix.Key) *Entry { return r.state[key] })
}

func levels(version *matrix.Version, state func(matrix.Key) *Entry) auth.Levels {
	find := func(kind string) *event.Event {
		if e := state(matrix.Key{Type: kind}); e != nil {
			return e.Event
		}
		return nil
	}
	return auth.ReadLevels(version, find(matrix.TypeCreate), find(matrix.TypePowerLevels))
}

// Last is the position of the room's last event.
func (r *Room) Last() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if len(r.timeline) == 0 {
		return 0
	}
	return r.timeline[len(r.timeline)-1].Order
}

// cached is the end of the timeline. Nobody changes it.
func (r *Room) cached() []*Entry {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Clip(r.timeline)
}

// Timeline is the newest events after one order and up to another, oldest first, at most some; more says that there are others before them. The caller must not
// change them.
func (r *Room) Timeline(ctx context.Context, after, upTo int64, limit int) (found []*Entry, more bool, err error) {
	if found, more, known := r.recent(after, upTo, limit); known {
		return found, more, nil
	}
	err = r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		found, err = r.read(tx, table.Range{From: after + 1, Before: upTo + 1, Descending: true, Limit: limit + 1})
		return err
	})
	if more = len(found) > limit; more {
		found = found[:limit]
	}
	slices.Reverse(found)
	return found, more, err
}

func byOrder(e *Entry, order int64) int { return cmp.Compare(e.Order, order) }

// Page is events from an order on, towards newer or older ones, at most some.
func (r *Room) Page(ctx context.Context, of table.Range) (found []*Entry, err error) {
	err = r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		found, err = r.read(tx, of)
		return err
	})
	return found, err
}

// SentBy is the newest events that a user sent before an order, newest first: those of a part of the timeline of some length, and at most some. Next is the order of the last
// event that was looked at; more says whether there may be others before it.
func (r *Room) SentBy(ctx context.Context, user string, before int64, length, most int) (found []*Entry, next int64, more bool, err error) {
	err = r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		for row, err := range store.Events.Scan(tx, table.Range{Prefix: []any{r.row.ID}, Before: before, Descending: true, Limit: length}) {
			if err != nil {
				return err
			}
			next = row.Order
			length--
			if row.Sender != user {
				continue
			}
			e, err := parse(r.version, row)
			if err != nil {
				return err
			}
			if found = append(found, e); len(found) == most {
				more = true
				return nil
			}
		}
		more = length == 0
		return nil
	})
	return found, next, more, err
}

// Entries are those with some orders; nil for one that is not there.
func (r *Room) Entries(ctx context.Context, orders []int64) ([]*Entry, error) {
	found := make([]*Entry, len(orders))
	err := r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		for i, order := range orders {
			e, err := r.rooms.entry(tx, r.version, r.row.ID, order)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
			found[i] = e
		}
		return nil
	})
	return found, err
}

// Replaced are the state events that some events replaced, by their orders, as far as they are known.
func (r *Room) Replaced(ctx context.Context, events []*Entry) (map[int64]*Entry, error) {
	found := map[int64]*Entry{}
	r.mu.RLock()
	cached := r.timeline
	r.mu.RUnlock()
	var orders []int64
	for _, e := range events {
		if e.Replaces == 0 || found[e.Replaces] != nil {
			continue
		}
		if i, ok := slices.BinarySearchFunc(cached, e.Replaces, byOrder); ok {
			found[e.Replaces] = cached[i]
			continue
		}
		orders = append(orders, e.Replaces)
	}
	if len(orders) == 0 {
		return found, nil
	}
	read, err := r.Entries(ctx, orders)
	for _, e := range read {
		if e != nil {
			found[e.Order] = e
		}
	}
	return found, err
}

// Event is the event with an id, if it is one of the room.
func (r *Room) Event(ctx context.Context, id string) (found *Entry, err error) {
	for _, e := range slices.Backward(r.cached()) {
		if e.ID() == id {
			return e, nil
		}
	}
	err = r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		row, ok, err := store.FindEvent(tx, id)
		if err != nil {
			return err
		}
		if !ok || row.Room != r.row.ID {
			return fmt.Errorf("event %s is %w in room %s", id, ErrNotFound, r.row.RoomID)
		}
		found, err = parse(r.version, row)
		return err
	})
	return found, err
}

// StateAt is the events in force in a state of the room, as After of an entry names it.
func (r *Room) StateAt(ctx context.Context, id int64) (map[matrix.Key]*Entry, error) {
	if now := r.stateNow(id); now != nil {
		return now, nil
	}
	found := map[matrix.Key]*Entry{}
	err := r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		state, err := store.ReadState(tx, id)
		if err != nil {
			return err
		}
		for key, order := range state {
			if e := r.State(key); e != nil && e.Order == order {
				found[key] = e
				continue
			}
			if found[key], err = r.rooms.entry(tx, r.version, r.row.ID, order); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// Changes are the keys whose events differ between two states of the room, with those of the second; nil where it has none.
func (r *Room) Changes(ctx context.Context, from, to int64) (map[matrix.Key]*Entry, error) {
	if found := r.changed(from, to); found != nil {
		return found, nil
	}
	found := map[matrix.Key]*Entry{}
	err := r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		changed, err := store.Changed(tx, from, to)
		if err != nil {
			return err
		}
		for key, order := range changed {
			if e := r.State(key); order == 0 || e != nil && e.Order == order {
				found[key] = e
				if order == 0 {
					found[key] = nil
				}
				continue
			}
			if found[key], err = r.rooms.entry(tx, r.version, r.row.ID, order); err != nil {
				return err
			}
		}
		return nil
	})
	return found, err
}

// WasJoined says whether somebody was a member right before an event.
func (r *Room) WasJoined(ctx context.Context, user string, e *Entry) bool {
	before, _, err := r.Timeline(ctx, 0, e.Order-1, 1)
	if err != nil || len(before) == 0 {
		return false
	}
	m, err := r.After(ctx, before[0], matrix.Key{Type: matrix.TypeMember, StateKey: user})
	return err == nil && m != nil && m.Membership() == matrix.Join
}

// At is the event in force at one key of a state of the room, nil if there is none.
func (r *Room) At(ctx context.Context, state int64, key matrix.Key) (found *Entry, err error) {
	err = r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		order, err := store.ReadStateKey(tx, state, key)
		if err != nil || order == 0 {
			return err
		}
		found, err = r.rooms.entry(tx, r.version, r.row.ID, order)
		return err
	})
	return found, err
}

// Public says whether the room is in the directory.
func (r *Room) Public() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.row.Public
}
