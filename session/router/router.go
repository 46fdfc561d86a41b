// Package router is the proxy in front of services: one per node. For every
// request it chooses an instance by the request's session (package route), passes the request on without
// buffering it, and waits while a service is held.
//
// Guarantees: a request that names an unknown session is refused. A switch-over fails no request: what arrives while
// the service is held waits, up to HoldLimit. A request is either counted as in flight before a hold or waits, so that
// once Await returned no request of this router can reach an instance that is no longer current; a router that starts waits until it
// knows at least what was written before, so that this also holds for one that Await was not asked of. Only
// connections that do not end by themselves (upgraded ones, streams of events) are cut by a switch-over.
//
// A Router owns its listeners and connections; Close gives them back.
package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"orrery/fabric"
	"orrery/session"
)

// Config configures a Router. Self, Table and Dialer are required.
type Config struct {
	Self   fabric.NodeID
	Table  fabric.Table
	Dialer session.Dialer
	Logger *slog.Logger // nil: discard
	// Directory is where the ports of listeners are kept; empty: they are not.
	Directory string
	// HoldLimit is how long a request waits for a held service; default 30 s.
	HoldLimit time.Duration
	// MaxHeld bounds how many requests wait at once; default 10,000.
	MaxHeld int
	// DrainLimit is how long requests in flight to an instance that is no longer current may go on; default 10 s.
	DrainLimit time.Duration
	// DialLimit is how long connecting to an instance is tried again; default 1 s.
	DialLimit time.Duration
	// IdleTimeout closes idle connections; default 90 s.
	IdleTimeout time.Duration
	// HeaderTimeout is how long a client may take to send a request's header; default 10 s.
	HeaderTimeout time.Duration
	// MaxHeaderBytes bounds a request's header; default 64 KiB.
	MaxHeaderBytes int
	// Trusted are proxies whose X-Forwarded-* and Forwarded headers are believed on public listeners.
	Trusted []netip.Prefix
}

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.HoldLimit = orDefault(c.HoldLimit, 30*time.Second)
	c.MaxHeld = orDefault(c.MaxHeld, 10_000)
	c.DrainLimit = orDefault(c.DrainLimit, 10*time.Second)
	c.DialLimit = orDefault(c.DialLimit, time.Second)
	c.IdleTimeout = orDefault(c.IdleTimeout, 90*time.Second)
	c.HeaderTimeout = orDefault(c.HeaderTimeout, 10*time.Second)
	c.MaxHeaderBytes = orDefault(c.MaxHeaderBytes, 64<<10)
	return c
}

func orDefault[T ~int | ~int64](value, fallback T) T {
	if value <= 0 {
		return fallback
	}
	return value
}

// Router is one node's router.
type Router struct {
	config Config
	ports  *ports
	snap   atomic.Pointer[snapshot]
	held   atomic.Int64
	// requests is how many were passed on to an instance.
	requests atomic.Uint64
	work     sync.WaitGroup // listeners' servers and drains
	closed   chan struct{}
	tunnel   *pipeListener

	mu       sync.Mutex
	closing  bool
	backends map[backendKey]*backend // those that may be used (again)
	drains   map[*backend]*drain
	local    map[string]*listener
	public   map[string]*listener
}

// New makes a router that serves nothing yet: Run feeds it, Listen opens listeners.
func New(config Config) (*Router, error) {
	if config.Self == "" || config.Table == nil || config.Dialer == nil {
		return nil, errors.New("cannot make a router without a node, a table and a dialer")
	}
	kept, err := openPorts(config.Directory)
	if err != nil {
		return nil, err
	}
	r := &Router{
		config:   config.withDefaults(),
		ports:    kept,
		closed:   make(chan struct{}),
		backends: map[backendKey]*backend{},
		drains:   map[*backend]*drain{},
		local:    map[string]*listener{},
		public:   map[string]*listener{},
	}
	r.snap.Store(&snapshot{replaced: make(chan struct{})})
	r.tunnel = newPipeListener()
	r.start(r.tunnel, r.server(http.HandlerFunc(r.serveTunnelled)))
	return r, nil
}

// Run opens the listeners that were open before a restart, follows the table until ctx ends, and closes the router.
func (r *Router) Run(ctx context.Context) error {
	defer func() { _ = r.Close() }()
	for _, service := range r.ports.local() {
		if _, err := r.Listen(ctx, service); err != nil {
			return err
		}
	}
	return r.follow(ctx)
}

// Requests is how many requests were passed on since the router began.
func (r *Router) Requests() uint64 { return r.requests.Load() }

// Close closes listeners and connections and waits for what the router started. Requests in flight are cut after a moment.
func (r *Router) Close() error {
	r.mu.Lock()
	if r.closing {
		r.mu.Unlock()
		r.work.Wait()
		return nil
	}
	r.closing = true
	listeners := make([]*listener, 0, len(r.local)+len(r.public))
	for _, set := range []map[string]*listener{r.local, r.public} {
		for _, l := range set {
			listeners = append(listeners, l)
		}
	}
	r.mu.Unlock()
	close(r.closed)
	for _, l := range listeners {
		l.close()
	}
	_ = r.tunnel.Close()
	r.mu.Lock()
	for _, b := range r.backends {
		defer b.close()
	}
	r.mu.Unlock()
	r.work.Wait()
	return nil
}

// Await returns when this router has applied the table's revision and no request of it is in flight to an instance of
// the service that is no longer current. After DrainLimit such requests are cut, so that Await ends. ErrClosed.
func (r *Router) Await(ctx context.Context, service string, revision uint64) error {
	for {
		s := r.snap.Load()
		if s.table != nil && s.revision >= revision {
			break
		}
		select {
		case <-s.replaced:
		case <-ctx.Done():
			return fmt.Errorf("cannot apply revision %d of the routes on node %s: %w", revision, r.config.Self, ctx.Err())
		case <-r.closed:
			return fmt.Errorf("router of node %s: %w", r.config.Self, fabric.ErrClosed)
		}
	}
	for _, drained := range r.draining(service) {
		select {
		case <-drained:
		case <-ctx.Done():
			return fmt.Errorf("requests to %s are still in flight on node %s: %w", service, r.config.Self, ctx.Err())
		}
	}
	return nil
}

// Knows says whether an instance belongs to a service or session in the table, as far as this node has read it.
func (r *Router) Knows(instance session.Instance) bool {
	s := r.snap.Load()
	return s.table != nil && s.table.Knows(instance)
}

// PublicAddress is where a service's public listener on this node listens.
func (r *Router) PublicAddress(service string) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l, ok := r.public[service]
	if !ok {
		return "", false
	}
	return l.address, true
}

// Listening names the service whose listener of this router has the port of address, if any.
func (r *Router) Listening(address string) (service string, ok bool) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, set := range []map[string]*listener{r.public, r.local} {
		for _, l := range set {
			if _, p, err := net.SplitHostPort(l.address); err == nil && p == port {
				return l.service, true
			}
		}
	}
	return "", false
}
