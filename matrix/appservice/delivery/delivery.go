// Package delivery brings to application services what concerns them (clause application service API, pushing events).
//
// What a service is to be sent is noted in the commit in which it happens, so that nothing is forgotten. A sender for each service takes what was noted, in order,
// and makes a transaction of it, which is kept until the service has taken it: after a failure, or another start of the server, the same is sent again. One
// transaction is under way at a time. Who types and who is there is told only to a service that can be reached, and kept nowhere.
package delivery

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"orrery/matrix/appservice"
	"orrery/matrix/appservice/remote"
	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/table"
)

// Config says what a delivery needs.
type Config struct {
	Stream *store.Stream
	Remote *remote.Client
	Logger *slog.Logger
	Now    func() time.Time
}

// Joined are the rooms of which a user is a member.
type Joined interface {
	JoinedRooms(ctx context.Context, user string) ([]*room.Room, error)
}

// Delivery brings things to services.
type Delivery struct {
	c        Config
	services atomic.Pointer[appservice.Services]
	crowds   crowds
	metrics  metrics

	mu      sync.Mutex
	senders map[string]*sender // by the service's id
	begun   func(*sender)      // starts one; nil before Begin
	staged  map[*room.Room]map[string]int64

	ctx    context.Context //nolint:containedctx // of what goes on by itself, until Close
	cancel context.CancelFunc
	work   sync.WaitGroup
	rooms  *room.Rooms
	joined Joined
}

// New is a delivery to services. Write and Watch are for room.Config. Nothing is sent before Begin.
func New(c Config, services *appservice.Services) *Delivery {
	d := &Delivery{c: c, senders: map[string]*sender{}, staged: map[*room.Room]map[string]int64{}, metrics: newMetrics()}
	d.services.Store(services)
	return d
}

// Services are those to which things are brought; nil if there are none.
func (d *Delivery) Services() *appservice.Services {
	if d == nil {
		return nil
	}
	return d.services.Load()
}

// Remote makes requests to services.
func (d *Delivery) Remote() *remote.Client { return d.c.Remote }

// Serve says whose rooms these are. It must be called before the first request.
func (d *Delivery) Serve(rooms *room.Rooms, joined Joined) { d.rooms, d.joined = rooms, joined }

// Begin sends what was not sent yet, and from then on what comes. Only one process may do that.
func (d *Delivery) Begin(ctx context.Context) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ctx, d.cancel = context.WithCancel(context.WithoutCancel(ctx))
	d.begun = func(s *sender) {
		running, cancel := context.WithCancel(d.ctx)
		s.cancel = cancel
		d.work.Go(func() { s.run(running) })
	}
	d.arrange(d.services.Load())
}

// Change is other services from now on. Those that are still there go on where they were.
func (d *Delivery) Change(services *appservice.Services) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.services.Store(services)
	if d.begun != nil {
		d.arrange(services)
	}
}

// arrange has a sender run for each service to which something is sent, and no others.
func (d *Delivery) arrange(services *appservice.Services) {
	for id, s := range d.senders {
		if one := services.ByID(id); one == nil || one.URL == "" {
			s.cancel()
			delete(d.senders, id)
			if n := s.backlog.Load(); n > 0 {
				d.c.Logger.WarnContext(d.ctx, "an application service is sent nothing any more, and something waits for it (\"homeserver appservice drop\" drops it)", "service", id, "events", n)
			}
			d.metrics.drop(id)
		}
	}
	for _, one := range services.All() {
		if one.URL == "" {
			continue
		}
		s := d.senders[one.ID]
		if s == nil {
			s = &sender{d: d, news: make(chan struct{}, 1), again: make(chan struct{}, 1), passing: newPassing()}
			s.service.Store(one)
			d.senders[one.ID] = s
			d.begun(s)
			continue
		}
		s.service.Store(one)
		poke(s.again)
	}
}

// Close ends what goes on, and waits for it.
func (d *Delivery) Close() {
	if d == nil {
		return
	}
	d.mu.Lock()
	d.begun = nil
	cancel := d.cancel
	d.mu.Unlock()
	if cancel != nil {
		cancel()
	}
	d.work.Wait()
	d.c.Remote.Close()
}

// poke wakes who waits on a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// sender is that of a service, nil if there is none.
func (d *Delivery) sender(id string) *sender {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.senders[id]
}

// wake lets the senders of services look whether there is anything to send.
func (d *Delivery) wake(which func(*appservice.Service) bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, s := range d.senders {
		if which(s.service.Load()) {
			poke(s.news)
		}
	}
}

// Reached says that a service answered: what could not be sent before is sent now.
func (d *Delivery) Reached(id string) {
	if s := d.sender(id); s != nil {
		poke(s.again)
	}
}

// Write notes events for the services that they concern; it is room.Config's Writing.
func (d *Delivery) Write(tx table.Tx, r *room.Room, number int64, new []*room.Entry, orders []int64) error {
	services := d.services.Load()
	counts := map[string]int64{}
	for i, s := range services.All() {
		if s.URL == "" {
			continue
		}
		all, err := wholeRoom(tx, s, new[0].RoomID(), number)
		if err != nil {
			return err
		}
		t := tally{service: s, room: r, in: d.crowds.of(r, services)[i]}
		for n, e := range new {
			if !t.concerns(e) && !all {
				continue
			}
			counts[s.ID]++
			if err := store.Queue.Put(tx, store.Queued{Service: s.ID, Position: orders[n], Room: number}); err != nil {
				return err
			}
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if delete(d.staged, r); len(counts) > 0 {
		d.staged[r] = counts
	}
	return nil
}

// Watch wakes the senders of events that were committed; it is a part of room.Config's Watch.
func (d *Delivery) Watch(r *room.Room) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, n := range d.staged[r] {
		if s := d.senders[id]; s != nil {
			s.backlog.Add(n)
			poke(s.news)
		}
	}
	delete(d.staged, r)
}
