package router

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/internal/clock"
	"orrery/session"
	"orrery/session/route"
)

// origin is what is known of a request by where it came in.
type origin struct {
	service string
	public  bool
	session string // all requests of the connection belong to it
}

var (
	errHeldTooLong = errors.New("the service was held for too long")
	errTooManyHeld = errors.New("too many requests wait for held services")
)

// serve answers one request: choose, connect and pass on, again as long as nothing was sent.
func (r *Router) serve(w http.ResponseWriter, in *http.Request, from origin) {
	if in.Method == http.MethodConnect {
		http.Error(w, "a router of services is no proxy for CONNECT", http.StatusMethodNotAllowed)
		return
	}
	f := forwarding{router: r, w: w, in: in}
	defer f.finish()
	var deadline time.Time
	pause := 10 * time.Millisecond
	for {
		b, choice, err := r.acquire(in.Context(), route.Request{
			Service: from.service, Header: in.Header, Host: in.Host, Public: from.public, Session: from.session,
		})
		if err != nil {
			r.refuse(w, in, choice, err)
			return
		}
		f.prepare(choice, from)
		err = f.pass(b)
		if err == nil {
			return
		}
		if deadline.IsZero() {
			deadline = time.Now().Add(r.config.DialLimit)
		}
		var undialled *dialError
		if !errors.As(err, &undialled) || time.Now().After(deadline) || !clock.Wait(in.Context(), pause) {
			r.fail(w, in, choice, err)
			return
		}
		pause = min(2*pause, 250*time.Millisecond)
	}
}

// acquire chooses an instance and counts the request as in flight there. It waits while the service is held. The
// caller releases the backend.
//
// The count comes before the second look at the snapshot, and whoever holds a service replaces the snapshot before it looks at the
// count. So either the hold sees this request, or this request sees the hold.
func (r *Router) acquire(ctx context.Context, req route.Request) (*backend, route.Choice, error) {
	var limit *time.Timer
	for {
		s := r.snap.Load()
		choice := route.Choice{Service: req.Service, Held: true} // before the table was read
		if s.table != nil {
			var err error
			if choice, err = s.table.Select(req); err != nil {
				return nil, choice, err
			}
		}
		if !choice.Held {
			b := s.backends[backendKey{choice.Service, choice.Instance}]
			b.inflight.Add(1)
			if r.snap.Load() == s {
				r.requests.Add(1)
				return b, choice, nil
			}
			b.release()
			continue
		}
		if limit == nil {
			if r.held.Add(1) > int64(r.config.MaxHeld) {
				r.held.Add(-1)
				return nil, choice, errTooManyHeld
			}
			defer r.held.Add(-1)
			limit = time.NewTimer(r.config.HoldLimit)
			defer limit.Stop()
		}
		select {
		case <-s.replaced:
		case <-limit.C:
			return nil, choice, errHeldTooLong
		case <-ctx.Done():
			return nil, choice, ctx.Err()
		case <-r.closed:
			return nil, choice, fabric.ErrClosed
		}
	}
}

// refuse answers a request that was sent nowhere.
func (r *Router) refuse(w http.ResponseWriter, in *http.Request, c route.Choice, err error) {
	status, again := http.StatusServiceUnavailable, 1
	text := err.Error()
	switch {
	case in.Context().Err() != nil:
		panic(http.ErrAbortHandler) // the client is gone
	case errors.Is(err, route.ErrGone) && c.Via == route.ViaHost, errors.Is(err, route.ErrNoPreview):
		status, again = http.StatusNotFound, 0
	case errors.Is(err, route.ErrGone):
		status, again = http.StatusGone, 0
	case errors.Is(err, route.ErrAmbiguous):
		status, again = http.StatusBadRequest, 0
	case errors.Is(err, errHeldTooLong), errors.Is(err, errTooManyHeld):
		text = fmt.Sprintf("service %s is being moved or upgraded: %v (nothing was sent to it; try again)", c.Service, err)
		again = 5
	}
	if again > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(again))
	}
	r.config.Logger.DebugContext(in.Context(), "request refused", "service", c.Service, "session", c.Session, "err", err)
	http.Error(w, text, status)
}

// fail answers a request whose instance could not be reached or broke the connection.
func (r *Router) fail(w http.ResponseWriter, in *http.Request, c route.Choice, err error) {
	if in.Context().Err() != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	r.config.Logger.WarnContext(in.Context(), "request failed", "service", c.Service, "session", c.Session, "instance", c.Instance, "err", err)
	what := "its instance broke the connection"
	var undialled *dialError
	switch {
	case errors.As(err, &undialled):
		what = "its instance cannot be reached; nothing was sent"
	case errors.Is(err, errUpgrade):
		what = err.Error()
	}
	text := "service " + c.Service + ": " + what
	if c.Session != "" {
		text += " (session " + c.Session + ")"
	}
	http.Error(w, text, http.StatusBadGateway)
}

// marked is a connection on which everything belongs to a session.
type marked struct {
	net.Conn
	origin origin
	once   sync.Once
	done   chan struct{}
}

// Close closes the connection and ends ServeConn.
func (m *marked) Close() error {
	m.once.Do(func() { close(m.done) })
	return m.Conn.Close()
}

type originKey struct{}

// ServeConn serves requests to a service on a connection that did not come through a listener, such as a
// stream of a tunnel, until it ends. All of them belong to the session, if it is not empty, whatever they say.
func (r *Router) ServeConn(ctx context.Context, conn net.Conn, service, name string) error {
	if name != "" && !session.ValidName(name) {
		return fmt.Errorf("cannot serve a connection for session %q: %w", name, session.ErrBadName)
	}
	m := &marked{Conn: conn, origin: origin{service: service, session: name}, done: make(chan struct{})}
	select {
	case r.tunnel.conns <- m:
	case <-r.closed:
		return fmt.Errorf("router: %w", fabric.ErrClosed)
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-m.done:
	case <-ctx.Done():
	case <-r.closed:
	}
	return m.Close()
}

func connOrigin(ctx context.Context, conn net.Conn) context.Context {
	if m, ok := conn.(*marked); ok {
		return context.WithValue(ctx, originKey{}, m.origin)
	}
	return ctx
}

func (r *Router) serveTunnelled(w http.ResponseWriter, in *http.Request) {
	from, ok := in.Context().Value(originKey{}).(origin)
	if !ok {
		http.Error(w, "the connection belongs to no service", http.StatusInternalServerError)
		return
	}
	r.serve(w, in, from)
}
