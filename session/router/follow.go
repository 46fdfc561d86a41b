package router

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/session"
	"orrery/session/route"
)

// prefix covers both kinds of records, so that one watch applies them in the order in which they were written.
const prefix = "session/"

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
			r.config.Logger.Warn("watching the routes ended", "err", err)
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
					r.config.Logger.Error("a record of the table is unreadable", "key", e.Key, "err", err)
				}
			}
			r.apply(known.table(), change.Revision)
		case <-retry.C:
		}
		r.listenPublic(ctx)
	}
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
