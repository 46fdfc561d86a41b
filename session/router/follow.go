package router

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/internal/clock"
	"orrery/session"
	"orrery/session/route"
)

// prefix covers both kinds of records, so that one watch applies them in the order in which they were written.
const prefix = "session/"

// startedPrefix + node is what a router writes when it starts; see oldest.
const startedPrefix = prefix + "router/"

// snapshot is what the router knows at one moment. It is replaced, never changed.
type snapshot struct {
	table    *route.Table // nil until the table was read
	revision uint64
	backends map[backendKey]*backend // of all current instances
	replaced chan struct{}           // closed once a newer snapshot is in place
}

// records are the decoded records under prefix.
type records struct {
	routes   map[string]session.Route
	sessions map[string]session.Session
}

func newRecords() records {
	return records{map[string]session.Route{}, map[string]session.Session{}}
}

// set takes in an entry. A record that cannot be read is dropped: its service or session is then unknown, and
// requests to it are refused.
func (rs records) set(e fabric.Entry) error {
	if service, ok := strings.CutPrefix(e.Key, session.RoutePrefix); ok {
		return decode(rs.routes, service, e)
	}
	if name, ok := strings.CutPrefix(e.Key, session.SessionPrefix); ok {
		return decode(rs.sessions, name, e)
	}
	return nil
}

func decode[T any](into map[string]T, name string, e fabric.Entry) error {
	delete(into, name)
	if e.Value == nil {
		return nil
	}
	var record T
	if err := json.Unmarshal(e.Value, &record); err != nil {
		return fmt.Errorf("cannot read record %s: %w", e.Key, err)
	}
	into[name] = record
	return nil
}

// table makes the records' names authoritative: they come from the keys.
func (rs records) table() *route.Table {
	routes := make([]session.Route, 0, len(rs.routes))
	for service, r := range rs.routes {
		r.Service = service
		routes = append(routes, r)
	}
	sessions := make([]session.Session, 0, len(rs.sessions))
	for name, s := range rs.sessions {
		s.Name = name
		sessions = append(sessions, s)
	}
	return route.New(routes, sessions)
}

// follow watches the table until ctx ends and applies what it says. A watch that ends is begun again.
func (r *Router) follow(ctx context.Context) error {
	const pause = 200 * time.Millisecond
	for {
		if err := r.watch(ctx); err != nil && ctx.Err() == nil {
			r.config.Logger.WarnContext(ctx, "watching the routes ended", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.closed:
			return nil
		case <-time.After(pause):
		}
	}
}

func (r *Router) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	oldest, err := r.oldest(ctx)
	if err != nil {
		return err
	}
	changes, err := r.config.Table.Watch(ctx, prefix)
	if err != nil {
		return fmt.Errorf("cannot watch %s: %w", prefix, err)
	}
	// A public port that something else has is tried again.
	retry := time.NewTicker(time.Second)
	defer retry.Stop()
	known := newRecords()
	for {
		select {
		case <-r.closed:
			return nil
		case change, ok := <-changes:
			if !ok {
				return fabric.ErrClosed
			}
			for _, e := range change.Entries {
				if err := known.set(e); err != nil {
					r.config.Logger.ErrorContext(ctx, "a record of the table is unreadable", "key", e.Key, "err", err)
				}
			}
			if change.Revision >= oldest {
				r.apply(known.table(), change.Revision)
			}
		case <-retry.C:
		}
		r.listenPublic(ctx)
	}
}

// oldest is the revision from which on the records may be acted upon. A watch shows what this node knows, and a node that just
// started or joined may know only what was long ago: that a service is not held, where it is held by now and whoever holds it
// has asked all routers that there were. So a router that starts writes a record of its own, and waits until it sees it. Without a
// quorum nobody can be moving a service that this router reaches, and what this node knows has to do.
func (r *Router) oldest(ctx context.Context) (uint64, error) {
	if r.snap.Load().table != nil {
		return 0, nil // what a node knows only grows
	}
	ask, cancel := context.WithTimeout(ctx, r.config.HoldLimit/2)
	defer cancel()
	asking := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		select {
		case <-r.closed:
			cancel()
		case <-asking:
		}
	})
	var revision uint64
	var err error
	for {
		revision, err = r.config.Table.Put(ask, startedPrefix+string(r.config.Self), []byte(`{}`))
		if err == nil || !clock.Wait(ask, 100*time.Millisecond) {
			break
		}
	}
	close(asking)
	watching.Wait()
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil {
		r.config.Logger.WarnContext(ctx, "the newest routes cannot be learnt, taking those that this node knows", "err", err)
	}
	return revision, nil
}

// apply makes a table current. The order matters: first new requests see the new snapshot, then the drain
// of what is no longer current looks at what is in flight.
func (r *Router) apply(table *route.Table, revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return
	}
	old := r.snap.Load()
	next := &snapshot{table: table, revision: revision, replaced: make(chan struct{}), backends: map[backendKey]*backend{}}
	for _, key := range current(table) {
		next.backends[key] = r.backend(key)
	}
	r.snap.Store(next)
	close(old.replaced)
	for key, b := range r.backends {
		if next.backends[key] == nil && r.drains[b] == nil {
			r.retire(b)
		}
	}
}

func current(table *route.Table) []backendKey {
	var keys []backendKey
	for _, service := range table.Services() {
		for _, instance := range table.Current(service) {
			keys = append(keys, backendKey{service, instance})
		}
	}
	return keys
}
