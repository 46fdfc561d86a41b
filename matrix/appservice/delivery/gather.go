package delivery

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"orrery/matrix"
	"orrery/matrix/appservice"
	"orrery/matrix/canonical"
	"orrery/matrix/event"
	"orrery/matrix/keys"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// maxReceipts is how many receipts, and changes of keys and devices, are in one transaction.
const maxReceipts = 500

// gathered is a transaction that is being made, and what it is made of.
type gathered struct {
	appservice.Transaction

	queued   []store.Queued
	receipts []store.QueuedReceipt
	keys     []store.ChangedKeys
	devices  int64 // up to where changes of devices were looked at
	noted    int64 // how many of the queued are events
	all      bool  // no more are queued

	entries []*room.Entry
	bytes   int
	changed map[string]bool // users whose devices may have
}

// gather makes a transaction of what waits for the service.
func (s *sender) gather(ctx context.Context, service *appservice.Service) (*gathered, error) {
	g := &gathered{changed: map[string]bool{}}
	current := s.d.c.Stream.Current()
	if err := s.d.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		if err := g.readQueue(tx, service, current); err != nil {
			return err
		}
		if err := g.readReceipts(tx, service, current); err != nil || !service.Encryption {
			return err
		}
		return errors.Join(g.readCounts(tx, service), s.readDevices(tx, g, current))
	}); err != nil {
		return nil, err
	}
	for _, e := range g.entries {
		g.Events = append(g.Events, s.d.event(ctx, service, e))
	}
	if service.Encryption {
		return g, s.d.lists(ctx, service, g)
	}
	return g, nil
}

// readQueue takes events and messages to devices, as many as fit.
func (g *gathered) readQueue(tx table.Tx, service *appservice.Service, current int64) error {
	rows, err := store.Queue.All(tx, table.Range{Prefix: []any{service.ID}, Before: current + 1, Limit: appservice.MaxEvents + 1})
	if err != nil {
		return err
	}
	versions := map[int64]*matrix.Version{}
	for _, q := range rows {
		if len(g.queued) == appservice.MaxEvents || g.bytes > appservice.MaxBytes {
			return nil
		}
		g.queued = append(g.queued, q)
		if q.Room == 0 {
			g.bytes += len(q.JSON)
			g.ToDevice = append(g.ToDevice, q.JSON)
			g.keys = append(g.keys, store.ChangedKeys{User: q.User, Device: q.Device})
			continue
		}
		g.noted++
		if err := g.readEvent(tx, q, versions); err != nil {
			return err
		}
	}
	g.all = true
	return nil
}

// readEvent takes an event, as it is now: it may have been redacted, or its room be gone.
func (g *gathered) readEvent(tx table.Tx, q store.Queued, versions map[int64]*matrix.Version) error {
	row, ok, err := store.Events.Get(tx, q.Room, q.Position)
	if err != nil || !ok {
		return err
	}
	version := versions[q.Room]
	if version == nil {
		r, ok, err := store.Rooms.Get(tx, q.Room)
		if err != nil || !ok {
			return err
		}
		if version, err = matrix.FindVersion(r.Version); err != nil {
			return err
		}
		versions[q.Room] = version
	}
	e, err := event.Parse(version, row.JSON)
	if err != nil {
		return err
	}
	g.bytes += len(row.JSON)
	g.entries = append(g.entries, &room.Entry{Event: e, Order: row.Order, After: row.State, Redacted: row.Redacted})
	return nil
}

// readReceipts takes receipts, an event for each room.
func (g *gathered) readReceipts(tx table.Tx, service *appservice.Service, current int64) (err error) {
	if g.receipts, err = store.QueuedReceipts.All(tx, table.Range{Index: "position", Prefix: []any{service.ID}, Before: current + 1, Limit: maxReceipts}); err != nil {
		return err
	}
	rooms := map[string][]store.Receipt{}
	for _, q := range g.receipts {
		r, ok, err := store.Receipts.Get(tx, q.Room, q.User, q.Type, q.Thread)
		if err != nil {
			return err
		}
		if ok {
			rooms[q.Room] = append(rooms[q.Room], r)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(rooms)) {
		g.Ephemeral = append(g.Ephemeral, sync.ReceiptsOf(id, rooms[id]))
	}
	return nil
}

// readCounts says how many keys devices have that lost or got some, or get a message, which may be because of that.
func (g *gathered) readCounts(tx table.Tx, service *appservice.Service) error {
	changed, err := store.AllChangedKeys.All(tx, table.Range{Prefix: []any{service.ID}, Limit: maxReceipts})
	if err != nil {
		return err
	}
	g.keys = append(g.keys, changed...)
	for _, k := range g.keys {
		counts, err := keys.Counts(tx, k.User, k.Device)
		if err != nil {
			return err
		}
		unused, err := keys.UnusedFallbacks(tx, k.User, k.Device)
		if err != nil {
			return err
		}
		if g.Counts == nil {
			g.Counts, g.Fallbacks = map[string]map[string]map[string]int{}, map[string]map[string][]string{}
		}
		if g.Counts[k.User] == nil {
			g.Counts[k.User], g.Fallbacks[k.User] = map[string]map[string]int{}, map[string][]string{}
		}
		if len(counts) == 0 {
			counts["signed_curve25519"] = 0 // the one that all clients use is gone
		}
		g.Counts[k.User][k.Device], g.Fallbacks[k.User][k.Device] = counts, unused
	}
	return nil
}

// readDevices takes notice of users whose devices or keys changed.
func (s *sender) readDevices(tx table.Tx, g *gathered, current int64) error {
	g.devices = s.devices
	if g.devices == 0 {
		state, ok, err := store.ServiceStates.Get(tx, s.service.Load().ID)
		if err != nil {
			return err
		}
		if g.devices = state.Devices; !ok { // it hears of what comes from now on
			g.devices = current
			return nil
		}
	}
	rows, err := store.DeviceLists.All(tx, table.Range{Index: "position", From: g.devices + 1, Before: current + 1, Limit: maxReceipts})
	if err != nil {
		return err
	}
	for _, r := range rows {
		g.changed[r.User] = true
	}
	g.devices = current
	if len(rows) == maxReceipts {
		g.devices = rows[len(rows)-1].Position
		poke(s.news)
	}
	return nil
}

// event is an event as a service gets it: as clients do, and with what somebody who is invited sees of the room.
func (d *Delivery) event(ctx context.Context, service *appservice.Service, e *room.Entry) json.RawMessage {
	text := sync.Client(e, "", "", true)
	who, isState := e.StateKey()
	if !isState || e.Type() != matrix.TypeMember || e.Membership() != matrix.Invite || !service.HasUser(who) {
		return text
	}
	r, err := d.rooms.Find(ctx, e.RoomID())
	if err != nil || r.Membership(who) != matrix.Invite {
		return text
	}
	v, err := canonical.Parse(text, canonical.Lax)
	if err != nil {
		return text
	}
	var state []canonical.Value
	for _, s := range sync.Stripped(r, who) {
		if one, err := canonical.Parse(s, canonical.Lax); err == nil {
			state = append(state, one)
		}
	}
	unsigned := v.Get("unsigned")
	if unsigned.Kind() != canonical.Object {
		unsigned = canonical.Of()
	}
	return v.With("unsigned", unsigned.With("invite_room_state", canonical.List(state...))).JSON()
}

// lists says whose devices changed, or are no concern of the service any more: of those in its rooms, also of those who came into them or went.
func (d *Delivery) lists(ctx context.Context, service *appservice.Service, g *gathered) error {
	went := map[string]bool{}
	for _, e := range g.entries {
		who, isState := e.StateKey()
		switch {
		case !isState || e.Type() != matrix.TypeMember:
		case service.HasUser(who):
			if err := d.neighbours(ctx, e, g, went); err != nil {
				return err
			}
		case e.Membership() == matrix.Join:
			g.changed[who] = true
		default:
			went[who] = true
		}
	}
	for who := range g.changed {
		shares, err := d.shares(ctx, service, who)
		if err != nil {
			return err
		}
		if shares {
			g.Lists.Changed = append(g.Lists.Changed, who)
		}
	}
	for who := range went {
		shares, err := d.shares(ctx, service, who)
		if err != nil {
			return err
		}
		if !shares && !service.HasUser(who) {
			g.Lists.Left = append(g.Lists.Left, who)
		}
	}
	slices.Sort(g.Lists.Changed)
	slices.Sort(g.Lists.Left)
	return nil
}

// neighbours are those who share a room with one of the service's users who came or went; in rooms without encryption nobody needs their devices.
func (d *Delivery) neighbours(ctx context.Context, e *room.Entry, g *gathered, went map[string]bool) error {
	r, err := d.rooms.Find(ctx, e.RoomID())
	if errors.Is(err, room.ErrNotFound) {
		return nil
	}
	if err != nil || r.State(matrix.Key{Type: "m.room.encryption"}) == nil {
		return err
	}
	to := went
	if e.Membership() == matrix.Join {
		to = g.changed
	}
	for _, who := range r.Joined() {
		to[who] = true
	}
	return nil
}

// shares says whether a user is one of the service's, or in a room of which it hears.
func (d *Delivery) shares(ctx context.Context, service *appservice.Service, user string) (bool, error) {
	if service.HasUser(user) {
		return true, nil
	}
	rooms, err := d.joined.JoinedRooms(ctx, user)
	if err != nil {
		return false, err
	}
	found := false
	err = d.c.Stream.DB().View(ctx, func(tx table.Tx) error {
		for _, r := range rooms {
			in, err := d.interested(tx, r, func(s *appservice.Service) bool { return s.ID == service.ID })
			if found = found || len(in) > 0; err != nil || found {
				return err
			}
		}
		return nil
	})
	return found, err
}

// forget removes from what waits what a transaction was made of, unless it has changed meanwhile.
func (g *gathered) forget(tx table.Tx, service *appservice.Service) error {
	for _, q := range g.queued {
		if err := store.Queue.Delete(tx, q.Service, q.Position, q.Part); err != nil {
			return err
		}
		if q.Room == 0 && service.Encryption && service.OwnsUser(q.User) { // nobody else is to get it
			if err := store.ToDevices.Delete(tx, q.User, q.Device, q.Position); err != nil {
				return err
			}
		}
	}
	for _, q := range g.receipts {
		now, _, err := store.QueuedReceipts.Get(tx, q.Service, q.Room, q.User, q.Type, q.Thread)
		if err == nil && now.Position == q.Position {
			err = store.QueuedReceipts.Delete(tx, q.Service, q.Room, q.User, q.Type, q.Thread)
		}
		if err != nil {
			return err
		}
	}
	for _, k := range g.keys {
		now, ok, err := store.AllChangedKeys.Get(tx, service.ID, k.User, k.Device)
		if err == nil && ok && cmp.Or(k.Times, now.Times) == now.Times {
			err = store.AllChangedKeys.Delete(tx, service.ID, k.User, k.Device)
		}
		if err != nil {
			return err
		}
	}
	if g.devices == 0 {
		return nil
	}
	return store.ServiceStates.Put(tx, store.ServiceState{Service: service.ID, Devices: g.devices})
}
