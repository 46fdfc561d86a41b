package room

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"orrery/matrix"
	"orrery/matrix/auth"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Draft is an event that somebody on this server wants to send.
type Draft struct {
	Type     string
	Sender   string
	StateKey *string // nil unless it is a state event
	Content  canonical.Value
	Redacts  string // of a redaction
	TxnID    string // by which the sender's device knows it
	Time     int64  // milliseconds since 1970, as an application service says it; 0: now
}

// Turn is what somebody does in a room at one time.
type Turn struct {
	room     *Room
	changed  map[matrix.Key]*Entry
	ends     []end
	new      []*Entry
	redacted map[string]*Entry // by the redaction's id, what it redacts
	id       string            // the room's
	public   *bool
	blocked  *bool
	also     []func(tx table.Tx, room int64) error
}

type waiter struct {
	f      func(*Turn) error
	result chan error
}

// Do takes a turn in the room. What the function sends is durable when Do returns nil; if the function returns an error nothing is sent.
func (r *Room) Do(ctx context.Context, f func(*Turn) error) error {
	w := &waiter{f, make(chan error, 1)}
	r.waiting.Lock()
	r.waiting.turns = append(r.waiting.turns, w)
	r.waiting.Unlock()
	r.turn.Lock()
	defer r.turn.Unlock()
	r.waiting.Lock()
	group := r.waiting.turns
	r.waiting.turns = nil
	r.waiting.Unlock()
	if len(group) > 0 { // otherwise somebody else took this turn
		r.take(context.WithoutCancel(ctx), group)
	}
	return <-w.result
}

// take takes turns one after another, and commits them together.
func (r *Room) take(ctx context.Context, group []*waiter) {
	err := r.refresh(ctx)
	if r.gone.Load() {
		err = fmt.Errorf("room %s is %w", r.row.RoomID, ErrNotFound)
	}
	if err != nil {
		for _, w := range group {
			w.result <- err
		}
		return
	}
	t := &Turn{room: r, changed: map[matrix.Key]*Entry{}, ends: r.ends, redacted: map[string]*Entry{}, id: r.row.RoomID}
	var done []*waiter
	for _, w := range group {
		before := *t
		before.changed, before.redacted = maps.Clone(t.changed), maps.Clone(t.redacted)
		if err := call(w.f, t); err != nil {
			*t = before
			w.result <- err
			continue
		}
		done = append(done, w)
	}
	err = r.commit(ctx, t)
	for _, w := range done {
		w.result <- err
	}
}

// call calls what a turn does. One that panics fails alone: others wait for theirs.
func call(f func(*Turn) error, t *Turn) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return f(t)
}

// State is the event in force at a key, with what this turn sent.
func (t *Turn) State(key matrix.Key) *Entry {
	if e, ok := t.changed[key]; ok {
		return e
	}
	return t.room.state[key] // only turns write it
}

// Membership is a user's, "" if there is none.
func (t *Turn) Membership(user string) string {
	if m := t.State(matrix.Key{Type: matrix.TypeMember, StateKey: user}); m != nil {
		return m.Membership()
	}
	return ""
}

// Levels are the power levels in force.
func (t *Turn) Levels() auth.Levels { return levels(t.room.version, t.State) }

// Also writes something in the same commit, given the room's number in the store.
func (t *Turn) Also(f func(tx table.Tx, room int64) error) { t.also = append(t.also, f) }

// Publish puts the room into the directory, or takes it out.
func (t *Turn) Publish(public bool) { t.public = &public }

// Send makes an event of a draft, if the room's rules allow it; the error is an auth.Rejection if they do not, and a Denial or ErrSelfDenied if the room's server ACL
// is against it.
func (t *Turn) Send(d Draft) (*Entry, error) {
	r := t.room
	made := event.Draft{
		RoomID: t.id, Type: d.Type, StateKey: d.StateKey, Sender: d.Sender, Content: d.Content, Redacts: d.Redacts, Timestamp: cmp.Or(d.Time, r.rooms.c.Now().UnixMilli()),
	}
	if r.version.IDs == matrix.IDGiven {
		made.ID = "$" + rand.Text() + ":" + r.rooms.c.Server
	}
	if d.Type == matrix.TypeCreate && r.version.CreateIsRoom {
		made.RoomID, made.Timestamp = "", r.rooms.moment(made.Timestamp)
	}
	for _, x := range t.ends {
		made.Prev = append(made.Prev, x.Ref)
		made.Depth = max(made.Depth, x.depth+1)
	}
	key := matrix.Key{Type: d.Type}
	if d.StateKey != nil {
		key.StateKey = *d.StateKey
	}
	for _, k := range auth.Select(r.version, d.Type, d.Sender, key.StateKey, d.Content) {
		if e := t.State(k); e != nil {
			made.Auth = append(made.Auth, e.Ref())
		}
	}
	e, err := event.Make(r.version, made, r.rooms.c.Server, r.rooms.c.Key)
	if err != nil {
		return nil, err
	}
	if err := auth.Check(e, func(k matrix.Key) *event.Event {
		if found := t.State(k); found != nil {
			return found.Event
		}
		return nil
	}); err != nil {
		return nil, err
	}
	if err := t.bars(d); err != nil {
		return nil, err
	}
	entry := &Entry{Event: e, TxnID: d.TxnID}
	t.id = e.RoomID()
	t.new = append(t.new, entry)
	t.ends = []end{{e.Ref(), e.Depth()}}
	if d.StateKey != nil {
		t.changed[key] = entry
	}
	return entry, nil
}

// Redact notes what a redaction that this turn sent redacts.
func (t *Turn) Redact(by, what *Entry) { t.redacted[by.ID()] = what }

// commit makes durable what turns sent, and only then shows it.
func (r *Room) commit(ctx context.Context, t *Turn) error {
	if len(t.new) == 0 && len(t.also) == 0 && t.public == nil && t.blocked == nil {
		return nil
	}
	row := r.row
	row.RoomID, row.Version = t.id, r.version.ID
	if t.public != nil {
		row.Public = *t.public
	}
	if t.blocked != nil {
		row.Blocked = *t.blocked
	}
	if row.ID == 0 { // before somebody can find it in the store
		r.rooms.put(t.id, r)
	}
	var done written
	err := r.rooms.c.Stream.Update(ctx, func(tx table.Tx, advance func(int) (int64, error)) (err error) {
		if r.row.ID == 0 {
			if row, err = store.NewRoom(tx, row); err != nil {
				return err
			}
		}
		row.State = r.row.State
		if done, err = t.writeAll(tx, row, advance); err != nil {
			return err
		}
		if n := len(done.afters); n > 0 {
			row.State = done.afters[n-1]
		}
		if row == r.row {
			return nil
		}
		return store.Rooms.Put(tx, row)
	}, func() {
		for i, e := range t.new {
			e.Order, e.After, e.Replaces = done.orders[i], done.afters[i], done.replaces[i]
		}
		r.show(row, t)
		r.rooms.c.Committed(r, t.new)
	})
	if err != nil {
		if r.row.ID == 0 {
			r.rooms.put(t.id, nil)
		} else {
			r.doubtful.Store(true)
		}
		return fmt.Errorf("cannot send into room %s: %w", t.id, err)
	}
	r.rooms.c.Watch(r, t.new)
	return nil
}

// refresh reads the room again if it is not known whether the last commit was one: a database can be lost after it has committed and before it says so.
func (r *Room) refresh(ctx context.Context) error {
	if !r.doubtful.Load() {
		return nil
	}
	found, last := newRoom(r.rooms, r.version), r.Last()
	if err := r.rooms.c.Stream.DB().View(ctx, func(tx table.Tx) error { return found.load(tx, r.row.RoomID) }); err != nil {
		return err
	}
	if err := r.rooms.c.Stream.Refresh(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	r.setRow(found.row)
	r.state, r.joined, r.members, r.ends, r.written, r.timeline = found.state, found.joined, nil, found.ends, found.written, found.timeline
	r.census++
	first, _ := slices.BinarySearchFunc(r.timeline, last+1, byOrder)
	new := slices.Clone(r.timeline[first:])
	r.bump(new)
	r.mu.Unlock()
	r.doubtful.Store(false)
	if len(new) > 0 {
		r.rooms.c.Committed(r, new)
		r.rooms.c.Watch(r, new)
	}
	return nil
}

// written is what the commit made of each event: its order, the state after it, and the order of what it replaced.
type written struct{ orders, afters, replaces []int64 }

// writeAll writes what was sent, and is its orders and the room's states after each.
func (t *Turn) writeAll(tx table.Tx, row store.Room, advance func(int) (int64, error)) (done written, err error) {
	first, err := advance(max(len(t.new), 1)) // something to tell
	if err != nil {
		return done, err
	}
	changed := map[matrix.Key]int64{}
	for i, e := range t.new {
		order, replaces := first+int64(i), int64(0)
		if _, isState := e.StateKey(); isState {
			if old := t.room.state[e.Key()]; old != nil {
				replaces = old.Order
			}
			replaces = cmp.Or(changed[e.Key()], replaces)
			changed[e.Key()] = order
		}
		if row.State, err = t.write(tx, row, e, order, replaces); err != nil {
			return done, err
		}
		done.orders, done.afters, done.replaces = append(done.orders, order), append(done.afters, row.State), append(done.replaces, replaces)
	}
	if err := t.writeEnds(tx, row.ID); err != nil {
		return done, err
	}
	return done, t.writeAlso(tx, row.ID, done.orders)
}

// write writes an event, and is the room's state after it.
func (t *Turn) write(tx table.Tx, row store.Room, e *Entry, order, replaces int64) (int64, error) {
	after := row.State
	if _, isState := e.StateKey(); isState {
		var err error
		if after, err = store.WriteState(tx, row.State, store.State{e.Key(): order}); err != nil {
			return 0, err
		}
	}
	if e.Type() == matrix.TypeMember {
		if err := become(tx, row.ID, e, order); err != nil {
			return 0, err
		}
	}
	if what := t.redacted[e.ID()]; what != nil {
		if err := t.room.rooms.c.Redacting(tx, row.ID, what); err != nil {
			return 0, err
		}
		if err := redact(tx, row.ID, what, e.ID()); err != nil {
			return 0, err
		}
	}
	if err := putRelation(tx, row.ID, e.Event, order); err != nil {
		return 0, err
	}
	return after, store.Events.Put(tx, store.Event{
		Room: row.ID, Order: order, EventID: e.ID(), Type: e.Type(), Sender: e.Sender(), State: after, JSON: e.JSON(), TxnID: e.TxnID, Replaces: replaces,
	})
}

// become notes what a user is in the room; an event that changes only how they are shown does not make them come again.
func become(tx table.Tx, room int64, e *Entry, order int64) error {
	user, _ := e.StateKey()
	old, ok, err := store.Members.Get(tx, user, room)
	if err != nil || ok && old.Membership == e.Membership() && !old.Forgotten {
		return err
	}
	return store.Members.Put(tx, store.Member{User: user, Room: room, Membership: e.Membership(), Order: order})
}

func redact(tx table.Tx, room int64, what *Entry, by string) error {
	row, ok, err := store.Events.Get(tx, room, what.Order)
	if err != nil || !ok {
		return err
	}
	if target, _, ok := relation(what.Event); ok { // what is redacted relates to nothing any more
		if err := store.Relations.Delete(tx, room, target, what.Order); err != nil {
			return err
		}
	}
	row.JSON, row.Redacted = what.Event.Redacted().JSON(), by
	return store.Events.Put(tx, row)
}

// kept are those of the ends that the store has to have: none if the only one is the last event.
func (t *Turn) kept() []end {
	if n := len(t.new); n > 0 && len(t.ends) == 1 && t.ends[0].ID == t.new[n-1].ID() {
		return nil
	}
	return t.ends
}

// writeAlso writes what others want in the same commit.
func (t *Turn) writeAlso(tx table.Tx, number int64, orders []int64) error {
	for _, f := range t.also {
		if err := f(tx, number); err != nil {
			return err
		}
	}
	if t.room.rooms.c.Writing == nil || len(t.new) == 0 {
		return nil
	}
	return t.room.rooms.c.Writing(tx, t.room, number, t.new, orders)
}

// writeEnds writes the ends that are new, and removes those that are none any more.
func (t *Turn) writeEnds(tx table.Tx, room int64) error {
	if len(t.new) == 0 {
		return nil
	}
	kept := t.kept()
	for _, id := range t.room.written {
		if slices.ContainsFunc(kept, func(other end) bool { return other.ID == id }) {
			continue
		}
		if err := store.Extremities.Delete(tx, room, id); err != nil {
			return err
		}
	}
	for _, x := range kept {
		if err := store.Extremities.Put(tx, store.Extremity{Room: room, EventID: x.ID, Hash: x.Hash, Depth: x.depth}); err != nil {
			return err
		}
	}
	return nil
}

// show puts what was committed where everybody sees it.
func (r *Room) show(row store.Room, t *Turn) {
	r.mu.Lock()
	r.setRow(row)
	for key, e := range t.changed {
		r.set(key, e)
	}
	r.ends = t.ends
	if len(t.new) > 0 {
		r.written = nil
		for _, x := range t.kept() {
			r.written = append(r.written, x.ID)
		}
	}
	r.timeline = append(r.timeline, t.new...)
	r.bump(t.new)
	for by, what := range t.redacted {
		r.replace(what, by)
	}
	if n := len(r.timeline); n > 2*keepTimeline {
		r.timeline = slices.Clone(r.timeline[n-keepTimeline:])
	}
	r.mu.Unlock()
}

// setRow takes over what changes of a row; the rest is read without the mutex.
func (r *Room) setRow(row store.Room) {
	if r.row.ID == 0 {
		r.row = row
		return
	}
	r.row.State, r.row.Public, r.row.Blocked = row.State, row.Public, row.Blocked
}

// replace puts a redacted event in place of the whole one.
func (r *Room) replace(what *Entry, by string) {
	redacted := *what
	redacted.Event, redacted.Redacted = what.Event.Redacted(), by
	for i, e := range r.timeline {
		if e.Order == what.Order {
			r.timeline = slices.Clone(r.timeline) // others read the old one
			r.timeline[i] = &redacted
		}
	}
	if _, isState := what.StateKey(); isState {
		if e := r.state[what.Key()]; e != nil && e.Order == what.Order {
			r.state[what.Key()] = &redacted
		}
	}
}

// Create makes a room of a version by a first turn, which begins with its create event. The room's id is known afterwards.
func (r *Rooms) Create(ctx context.Context, version *matrix.Version, f func(*Turn) error) (*Room, error) {
	made := newRoom(r, version)
	if !version.CreateIsRoom {
		made.row.RoomID = "!" + rand.Text() + ":" + r.c.Server
	}
	if err := made.Do(ctx, f); err != nil {
		return nil, err
	}
	return made, nil
}

// moment is a time at which no other room was created: rooms whose id is the hash of how they were created would be the same one.
func (r *Rooms) moment(now int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.created = max(now, r.created+1)
	return r.created
}

// put makes a room findable, or with nil no more.
func (r *Rooms) put(id string, room *Room) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if room == nil {
		delete(r.all, id)
		return
	}
	p := &place{room: room}
	p.loaded.Do(func() {})
	r.all[id] = p
}
