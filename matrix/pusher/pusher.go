// Package pusher notifies users by HTTP (clauses client-server API, push notifications, and push gateway API).
//
// Each pusher knows up to which position its user was notified; what comes after that is found when something happens in the user's rooms, so that a server that was
// down, or a gateway that was, miss nothing. What could not be sent for a day is given up.
package pusher

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	gosync "sync"
	"time"

	"orrery/matrix/room"
	"orrery/matrix/store"
	"orrery/matrix/sync"
	"orrery/matrix/table"
)

// How long a gateway is tried: after a failure again, then after twice as long, at the most.
const (
	firstWait = time.Second
	mostWait  = time.Hour
	giveUp    = 24 * time.Hour
)

// Config says what pushers need.
type Config struct {
	Stream *store.Stream
	Syncer *sync.Syncer
	Client *http.Client // reaches only what it may
	Logger *slog.Logger
	Now    func() time.Time
	Silent bool // users have pushers, and none sends anything
}

// Pushers are those of a server's users.
type Pushers struct {
	c      Config
	ctx    context.Context //nolint:containedctx // of what goes on by itself, until Close
	cancel context.CancelFunc
	work   gosync.WaitGroup

	mu     gosync.Mutex
	users  map[string]map[key]*sender
	closed bool
}

type key struct{ app, key string }

// sender sends for one pusher.
type sender struct {
	row     store.Pusher
	running bool
	gone    bool
	news    bool // something may have happened since it looked
	count   int  // that was sent last
}

// Open reads the pushers, and sends what was not sent yet. Close ends it.
func Open(ctx context.Context, c Config) (*Pushers, error) {
	p := &Pushers{c: c, users: map[string]map[key]*sender{}}
	p.ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	var all []store.Pusher
	err := c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		all, err = store.Pushers.All(tx, table.Range{})
		return err
	})
	for _, row := range all {
		p.add(row)
	}
	return p, err
}

// Begin sends what was not sent yet.
func (p *Pushers) Begin() {
	p.mu.Lock()
	users := make([]string, 0, len(p.users))
	for user := range p.users {
		users = append(users, user)
	}
	p.mu.Unlock()
	p.Wake(users...)
}

// Close ends what goes on, and waits for it.
func (p *Pushers) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.cancel()
	p.work.Wait()
}

func (p *Pushers) add(row store.Pusher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users[row.User] == nil {
		p.users[row.User] = map[key]*sender{}
	}
	k := key{row.App, row.Key}
	if old := p.users[row.User][k]; old != nil {
		row.Pushed = max(row.Pushed, old.row.Pushed)
		old.row = row
		return
	}
	p.users[row.User][k] = &sender{row: row}
}

// Watch takes notice of events in a room.
func (p *Pushers) Watch(r *room.Room, events []*room.Entry) {
	p.mu.Lock()
	none := len(p.users) == 0
	p.mu.Unlock()
	if none {
		return
	}
	users := r.Joined()
	for _, e := range events {
		if e.Membership() == "invite" {
			who, _ := e.StateKey()
			users = append(users, who)
		}
	}
	p.Wake(users...)
}

// Wake lets the pushers of users look whether there is anything to send.
func (p *Pushers) Wake(users ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.c.Silent {
		return
	}
	for _, user := range users {
		for k, s := range p.users[user] {
			if s.news = true; !s.running {
				s.running = true
				p.work.Go(func() { p.run(user, k, s) })
			}
		}
	}
}

// run sends as long as there are news.
func (p *Pushers) run(user string, k key, s *sender) {
	wait, failing := firstWait, time.Time{}
	for p.more(s) {
		gone, err := p.send(s)
		switch {
		case gone:
			p.drop(user, k, s)
			return
		case err == nil:
			wait, failing = firstWait, time.Time{}
			continue
		case p.ctx.Err() != nil:
			return
		}
		if failing.IsZero() {
			failing = p.c.Now()
		}
		if p.c.Now().Sub(failing) > giveUp {
			p.c.Logger.Warn("notifications of a day were not sent", "user", user, "app", k.app, "error", err)
			p.skip(s)
			wait, failing = firstWait, time.Time{}
			continue
		}
		p.c.Logger.Debug("a notification was not sent", "user", user, "app", k.app, "error", err, "again_in", wait)
		again := time.NewTimer(wait)
		select {
		case <-again.C:
		case <-p.ctx.Done():
			again.Stop()
			return
		}
		wait = min(2*wait, mostWait)
		p.mu.Lock()
		s.news = true
		p.mu.Unlock()
	}
}

// more says whether there are news, or ends the sender's run.
func (p *Pushers) more(s *sender) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !s.news || s.gone || p.closed {
		s.running = false
		return false
	}
	s.news = false
	return true
}

// skip gives up what was not sent.
func (p *Pushers) skip(s *sender) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.row.Pushed = p.c.Stream.Current()
}

// List are a user's pushers.
func (p *Pushers) List(ctx context.Context, user string) (all []store.Pusher, err error) {
	err = p.c.Stream.DB().View(ctx, func(tx table.Tx) (err error) {
		all, err = store.Pushers.All(tx, table.Range{Prefix: []any{user}})
		return err
	})
	return all, err
}

// Set makes or changes a pusher. Unless appended, those of others with its app and key are removed (clause client-server API, POST /pushers/set).
func (p *Pushers) Set(ctx context.Context, row store.Pusher, appended bool) error {
	row.Created, row.Pushed = p.c.Now().UnixMilli(), p.c.Stream.Current()
	var dropped []store.Pusher
	err := p.c.Stream.DB().Update(ctx, func(tx table.Tx) error {
		all, err := store.Pushers.All(tx, table.Range{Index: "key", Prefix: []any{row.App, row.Key}})
		if err != nil {
			return err
		}
		dropped = slices.DeleteFunc(all, func(o store.Pusher) bool { return appended || o.User == row.User })
		for _, o := range dropped {
			if err := store.Pushers.Delete(tx, o.User, o.App, o.Key); err != nil {
				return err
			}
		}
		return store.Pushers.Put(tx, row)
	})
	if err != nil {
		return err
	}
	for _, o := range dropped {
		p.forget(o)
	}
	p.add(row)
	return nil
}

// Remove removes a pusher, if there is one.
func (p *Pushers) Remove(ctx context.Context, user, app, pushKey string) error {
	row := store.Pusher{User: user, App: app, Key: pushKey}
	err := p.c.Stream.DB().Update(ctx, func(tx table.Tx) error { return store.Pushers.Delete(tx, user, app, pushKey) })
	if err == nil {
		p.forget(row)
	}
	return err
}

func (p *Pushers) forget(row store.Pusher) { p.drop(row.User, key{row.App, row.Key}, nil) }

// drop forgets a pusher; if a sender is given, only if it is the one.
func (p *Pushers) drop(user string, k key, only *sender) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := p.users[user][k]
	if s == nil || only != nil && only != s {
		return
	}
	s.gone = true
	if delete(p.users[user], k); len(p.users[user]) == 0 {
		delete(p.users, user)
	}
}
