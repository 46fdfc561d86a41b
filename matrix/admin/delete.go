package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	gosync "sync"

	"orrery/matrix"
	"orrery/matrix/room"
)

// Deletion says what happens to a room that is taken away.
type Deletion struct {
	Block bool // nobody joins it any more
	Purge bool // all that is kept of it is removed
}

// How far a deletion is.
const (
	ShuttingDown = "shutting_down"
	Purging      = "purging"
	Complete     = "complete"
	Failed       = "failed"
)

// Progress is how far the deletion of a room is.
type Progress struct {
	ID     string
	Room   string
	Status string
	Why    string   // it failed
	Begun  int64    // milliseconds since 1970
	Kicked []string // who was taken out
	Events int      // how many were removed
}

// Shutdown takes all members of this server out of a room, takes it out of the directory, and says who they were.
func (a *Admin) Shutdown(ctx context.Context, id string, block bool) ([]string, error) {
	kicked := []string{}
	return kicked, a.shutdown(ctx, id, block, func(who string) { kicked = append(kicked, who) })
}

func (a *Admin) shutdown(ctx context.Context, id string, block bool, kicked func(string)) error {
	r, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return err
	}
	for _, who := range a.present(r) {
		if err := errors.Join(ctx.Err(), r.Do(ctx, func(t *room.Turn) error {
			_, err := t.Send(room.Draft{Type: matrix.TypeMember, Sender: who, StateKey: &who, Content: membership(matrix.Leave)})
			return err
		})); err != nil {
			return err
		}
		kicked(who)
	}
	return r.Do(ctx, func(t *room.Turn) error {
		t.Publish(false)
		if block {
			t.Block(true)
		}
		return nil
	})
}

// Present are the users of this server who are members of a room, or may become ones: those whom a shutdown takes out.
func (a *Admin) Present(ctx context.Context, id string) ([]string, error) {
	r, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	return a.present(r), nil
}

func (a *Admin) present(r *room.Room) (all []string) {
	for _, m := range r.States(matrix.TypeMember) {
		who, _ := m.StateKey()
		if a.Accounts.Local(who) && present(m.Membership()) {
			all = append(all, who)
		}
	}
	return all
}

// Purge removes a room without members and all that is kept of it.
func (a *Admin) Purge(ctx context.Context, id string) error {
	return a.purge(ctx, id, func(int) {})
}

func (a *Admin) purge(ctx context.Context, id string, removed func(events int)) error {
	r, err := a.Rooms.Find(ctx, id)
	if err != nil {
		return err
	}
	members := r.States(matrix.TypeMember)
	err = a.Rooms.Purge(ctx, id, removed)
	for _, m := range members {
		who, _ := m.StateKey()
		a.Syncer.Forget(who)
	}
	return err
}

// Delete shuts a room down and, if it is to be so, purges it, and returns when that is done.
func (a *Admin) Delete(ctx context.Context, id string, d Deletion) (Progress, error) {
	p := &running{Progress: Progress{Room: id, Kicked: []string{}}}
	err := a.delete(ctx, p, d)
	return p.now(), err
}

func (a *Admin) delete(ctx context.Context, p *running, d Deletion) error {
	p.set(func(p *Progress) { p.Status = ShuttingDown })
	err := a.shutdown(ctx, p.Room, d.Block, func(who string) { p.set(func(p *Progress) { p.Kicked = append(p.Kicked, who) }) })
	if err == nil && d.Purge {
		p.set(func(p *Progress) { p.Status = Purging })
		err = a.purge(ctx, p.Room, func(n int) { p.set(func(p *Progress) { p.Events += n }) })
		if err == nil && d.Block {
			err = a.Block(ctx, p.Room, true)
		}
	}
	p.set(func(p *Progress) {
		if p.Status = Complete; err != nil {
			p.Status, p.Why = Failed, err.Error()
		}
	})
	return err
}

// Begin is Delete that goes on after it returned. Its id asks how far it is. What a stopped server leaves of a purge is removed when it runs again.
func (a *Admin) Begin(ctx context.Context, id string, d Deletion) (string, error) {
	if _, err := a.Rooms.Find(ctx, id); err != nil {
		return "", err
	}
	p := &running{Progress: Progress{ID: rand.Text(), Room: id, Status: ShuttingDown, Begun: a.Now().UnixMilli(), Kicked: []string{}}}
	return p.ID, a.deletions.start(p, func(ctx context.Context) {
		if err := a.delete(ctx, p, d); err != nil {
			a.Logger.ErrorContext(ctx, "a room was not deleted", "room", id, "error", err)
		}
	})
}

// Deletion is how far one is that was begun, and whether it is known.
func (a *Admin) Deletion(id string) (Progress, bool) {
	for _, p := range a.Deletions() {
		if p.ID == id {
			return p, true
		}
	}
	return Progress{}, false
}

// Deletions are those that were begun since the server runs, the newest first.
func (a *Admin) Deletions() (all []Progress) {
	a.deletions.mu.Lock()
	known := slices.Clone(a.deletions.all)
	a.deletions.mu.Unlock()
	for _, p := range slices.Backward(known) {
		all = append(all, p.now())
	}
	return all
}

// running is a deletion under way.
type running struct {
	mu gosync.Mutex
	Progress
}

func (r *running) set(f func(*Progress)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(&r.Progress)
}

func (r *running) now() Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.Progress
	p.Kicked = slices.Clone(p.Kicked)
	return p
}

// maxDeletions is how many deletions are remembered.
const maxDeletions = 1000

// errEnding says that the server ends.
var errEnding = errors.New("cannot begin: the server is ending")

// deletions are those that were begun, the newest last.
type deletions struct {
	run func(f func(context.Context)) // in a context that ends with the server
	end func()

	mu    gosync.Mutex
	all   []*running
	ended bool
	under gosync.WaitGroup
}

func (d *deletions) begin(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	d.run = func(f func(context.Context)) { d.under.Go(func() { f(ctx) }) }
	d.end = func() {
		d.mu.Lock()
		d.ended = true
		d.mu.Unlock()
		cancel()
		d.under.Wait()
	}
}

func (d *deletions) start(r *running, f func(context.Context)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return errEnding
	}
	if len(d.all) >= maxDeletions {
		d.all = slices.Delete(d.all, 0, 1)
	}
	d.all = append(d.all, r)
	d.run(f)
	return nil
}

// begins runs what no deletion is in the same way.
func (d *deletions) begins(f func(context.Context)) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended {
		return errEnding
	}
	d.run(f)
	return nil
}
