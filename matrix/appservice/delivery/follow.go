package delivery

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	gosync "sync"

	"orrery/matrix/appservice"
	"orrery/matrix/canonical"
	"orrery/matrix/keys"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

var (
	_ sync.Follower = (*Delivery)(nil)
	_ keys.Follower = (*Delivery)(nil)
)

// maxPassing is how much of what is kept nowhere waits for a sender.
const maxPassing = 1000

// passing is what is told only to a service that can be reached: who types, by room, and who is there, by user. What is newer takes the place of what is older.
type passing struct {
	mu     gosync.Mutex
	closed bool // the service cannot be reached
	events map[string]json.RawMessage
}

func newPassing() *passing { return &passing{events: map[string]json.RawMessage{}} }

func (p *passing) put(of string, event json.RawMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.events[of]; !p.closed && (known || len(p.events) < maxPassing) {
		p.events[of] = event
	}
}

// take is all of it, in the order of whom it is about.
func (p *passing) take() (all []json.RawMessage) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, of := range slices.Sorted(maps.Keys(p.events)) {
		all = append(all, p.events[of])
	}
	clear(p.events)
	return all
}

// reach says whether the service can be reached.
func (p *passing) reach(can bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed = !can; p.closed {
		clear(p.events)
	}
}

func ephemeral(s *appservice.Service) bool { return s.Ephemeral }
func encrypted(s *appservice.Service) bool { return s.Encryption }

// some says whether any service is as a function wants it.
func (d *Delivery) some(is func(*appservice.Service) bool) bool {
	return slices.ContainsFunc(d.services.Load().All(), is)
}

// inRoom calls a function with the senders of the services that hear of what happens in a room.
func (d *Delivery) inRoom(ctx context.Context, r *room.Room, wanted func(*appservice.Service) bool, f func(*sender)) {
	if !d.some(wanted) {
		return
	}
	var found []*appservice.Service
	err := d.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		found, err = d.interested(tx, r, wanted)
		return err
	})
	if err != nil { // what is lost is told again by the next change
		d.c.Logger.DebugContext(ctx, "application services were not told of something", "room", r.ID(), "error", err)
		return
	}
	for _, one := range found {
		if s := d.sender(one.ID); s != nil {
			f(s)
		}
	}
}

// Typing is that of sync.Follower.
func (d *Delivery) Typing(ctx context.Context, r *room.Room, event json.RawMessage) {
	d.inRoom(ctx, r, ephemeral, func(s *sender) { s.pass("typing "+r.ID(), sync.WithRoom(event, r.ID())) })
}

// Receipt is that of sync.Follower.
func (d *Delivery) Receipt(tx table.Tx, r *room.Room, receipt store.Receipt) error {
	if !d.some(ephemeral) {
		return nil
	}
	found, err := d.interested(tx, r, func(s *appservice.Service) bool {
		return s.Ephemeral && (receipt.Type != sync.ReadPrivate || s.HasUser(receipt.User))
	})
	for _, s := range found {
		if err := store.QueuedReceipts.Put(tx, store.QueuedReceipt{
			Service: s.ID, Room: receipt.Room, User: receipt.User, Type: receipt.Type, Thread: receipt.Thread, Position: receipt.Position,
		}); err != nil {
			return err
		}
	}
	return err
}

// Received is that of sync.Follower.
func (d *Delivery) Received(ctx context.Context, r *room.Room) {
	d.inRoom(ctx, r, ephemeral, func(s *sender) { poke(s.news) })
}

// Presence is that of sync.Follower.
func (d *Delivery) Presence(ctx context.Context, user string, event json.RawMessage) {
	if !d.some(ephemeral) {
		return
	}
	told := map[string]bool{}
	tell := func(s *sender) {
		if id := s.service.Load().ID; !told[id] {
			told[id] = true
			s.pass("presence "+user, event)
		}
	}
	for _, one := range d.services.Load().All() {
		if s := d.sender(one.ID); s != nil && one.Ephemeral && one.HasUser(user) {
			tell(s)
		}
	}
	rooms, err := d.joined.JoinedRooms(ctx, user)
	if err != nil {
		d.c.Logger.DebugContext(ctx, "application services were not told of a presence", "user", user, "error", err)
	}
	for _, r := range rooms {
		d.inRoom(ctx, r, func(s *appservice.Service) bool { return s.Ephemeral && !told[s.ID] }, tell)
	}
}

// Devices is that of sync.Follower.
func (d *Delivery) Devices(string) { d.wake(encrypted) }

// Message is that of keys.Follower.
func (d *Delivery) Message(tx table.Tx, user, device string, position int64, message []byte) error {
	for _, s := range d.services.Load().All() {
		if !s.Encryption || s.URL == "" || !s.HasUser(user) {
			continue
		}
		v, err := canonical.Parse(message, canonical.Lax)
		if err != nil {
			return err
		}
		v = v.With("to_user_id", canonical.Text(user)).With("to_device_id", canonical.Text(device))
		last, _, err := store.Queue.First(tx, table.Range{Prefix: []any{s.ID, position}, Descending: true})
		if err != nil {
			return err
		}
		if err := store.Queue.Put(tx, store.Queued{Service: s.ID, Position: position, Part: last.Part + 1, User: user, Device: device, JSON: v.JSON()}); err != nil {
			return err
		}
	}
	return nil
}

// Counted is that of keys.Follower.
func (d *Delivery) Counted(tx table.Tx, user, device string) error {
	for _, s := range d.services.Load().All() {
		if !s.Encryption || s.URL == "" || !s.HasUser(user) {
			continue
		}
		old, _, err := store.AllChangedKeys.Get(tx, s.ID, user, device)
		if err != nil {
			return err
		}
		if err := store.AllChangedKeys.Put(tx, store.ChangedKeys{Service: s.ID, User: user, Device: device, Times: old.Times + 1}); err != nil {
			return err
		}
	}
	return nil
}

// Committed is that of keys.Follower.
func (d *Delivery) Committed(users ...string) {
	d.wake(func(s *appservice.Service) bool { return s.Encryption && slices.ContainsFunc(users, s.HasUser) })
}
