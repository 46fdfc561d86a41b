package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"

	"connectrpc.com/connect"

	"orrery/fabric"
)

var (
	// ErrNoSuchKind says that the far side has no stream of that kind.
	ErrNoSuchKind = errors.New("no such kind of stream")
	// ErrBusy says that the far side carries as many streams as it may.
	ErrBusy = errors.New("too many streams")
)

// maxMessage is the size of a request or an answer; bulk data goes through streams.
const maxMessage = 16 << 20

// Mux holds what a node offers. Register everything before the Server runs.
type Mux struct {
	errors  Errors
	logger  *slog.Logger
	http    *http.ServeMux
	streams map[string]streamKind
	conns   map[string]connKind
	options []connect.HandlerOption
	refuse  *connect.ErrorWriter
	refused func(why string) // of the server
}

type streamKind struct {
	role   fabric.Role
	handle StreamHandler
}

// StreamHandler serves one stream. It may decide by the header, and do what could fail, before it calls accept, which
// tells the opener that all is well and returns the bytes; an error before that is the opener's error. The
// connection is closed when the handler returns. ctx ends with the session, or when the server stops.
type StreamHandler func(ctx context.Context, caller fabric.Identity, header json.RawMessage, accept func() (net.Conn, error)) error

type connKind struct {
	role    fabric.Role
	handle  ConnHandler
	refused func(err error)
}

// ConnHandler serves a connection whose bytes are its own protocol's. It closes the connection before it returns. ctx ends when the server stops.
type ConnHandler func(ctx context.Context, caller fabric.Identity, c net.Conn)

// NewMux returns an empty Mux. A nil logger discards.
func NewMux(known Errors, logger *slog.Logger) *Mux {
	m := &Mux{errors: known, logger: orDiscard(logger), http: http.NewServeMux(), streams: map[string]streamKind{}, conns: map[string]connKind{}}
	m.options = []connect.HandlerOption{
		connect.WithCodec(jsonCodec{}),
		// Peers are a wire away: compression costs more than it saves, and an answer cannot be a bomb.
		connect.WithCompression("gzip", nil, nil),
		connect.WithReadMaxBytes(maxMessage),
		connect.WithRecover(func(ctx context.Context, spec connect.Spec, _ http.Header, cause any) error {
			m.logger.ErrorContext(ctx, "procedure panicked", "procedure", spec.Procedure, "cause", cause)
			return fmt.Errorf("procedure %s broke (see the node's log)", spec.Procedure)
		}),
	}
	m.refuse = connect.NewErrorWriter(m.options...)
	return m
}

// Unary registers a procedure, "/orrery.state.v1.Keeper/Activate", for callers that have the role.
func Unary[Req, Res any](m *Mux, procedure string, role fabric.Role, run func(context.Context, *Req) (*Res, error)) {
	m.handle(procedure, role, unary(m, procedure, run))
}

func unary[Req, Res any](m *Mux, procedure string, run func(context.Context, *Req) (*Res, error)) http.Handler {
	return connect.NewUnaryHandler(procedure, func(ctx context.Context, q *connect.Request[Req]) (*connect.Response[Res], error) {
		answer, err := run(ctx, q.Msg)
		if err != nil {
			return nil, m.errors.encode(err)
		}
		if answer == nil {
			answer = new(Res)
		}
		return connect.NewResponse(answer), nil
	}, m.options...)
}

// ServerStream registers a procedure that answers with many messages. send returns an error
// once the caller is gone. ctx ends when the server stops.
func ServerStream[Req, Res any](m *Mux, procedure string, role fabric.Role, run func(ctx context.Context, q *Req, send func(*Res) error) error) {
	m.handle(procedure, role, connect.NewServerStreamHandler(procedure,
		func(ctx context.Context, q *connect.Request[Req], out *connect.ServerStream[Res]) error {
			ctx, cancel := withStop(ctx)
			defer cancel()
			return m.errors.encode(run(ctx, q.Msg, out.Send))
		}, m.options...))
}

// HandleStream registers a kind of streams for callers that have the role.
func (m *Mux) HandleStream(kind string, role fabric.Role, handle StreamHandler) {
	mustRole(kind, role)
	m.streams[kind] = streamKind{role, handle}
}

// HandleConn registers a protocol, by its ALPN name, whose connections are not shared with procedures and streams, for callers that have the role. On the Unix socket a
// connection begins with the name and a line feed; a name begins with "orrery-". refused, if not nil, hears of callers that were turned away.
func (m *Mux) HandleConn(protocol string, role fabric.Role, handle ConnHandler, refused func(err error)) {
	mustRole(protocol, role)
	if !strings.HasPrefix(protocol, protocolPrefix) || len(protocol) > maxProtocol {
		panic("rpc: protocol " + protocol + " has a bad name")
	}
	m.conns[protocol] = connKind{role, handle, refused}
}

// HandleHTTP registers what is not a procedure, such as a page, for callers that have the role.
func (m *Mux) HandleHTTP(path string, role fabric.Role, h http.Handler) { m.handle(path, role, h) }

func (m *Mux) handle(procedure string, role fabric.Role, h http.Handler) {
	mustRole(procedure, role)
	m.http.Handle(procedure, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Before anything of the body is read.
		if err := allow(r.Context(), role, procedure); err != nil {
			m.reject(w, r, err)
			return
		}
		h.ServeHTTP(w, r)
	}))
}

func (m *Mux) reject(w http.ResponseWriter, r *http.Request, err error) {
	if m.refused != nil {
		m.refused(RefusedRole)
	}
	if !m.refuse.IsSupported(r) {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	if err := m.refuse.Write(w, r, m.errors.encode(err)); err != nil {
		m.logger.DebugContext(r.Context(), "refusal not delivered", "error", err)
	}
}

// mustRole keeps a forgotten role from opening a procedure to everybody.
func mustRole(what string, role fabric.Role) {
	if !role.Allows(fabric.RoleViewer) {
		panic("rpc: " + what + " registered without a role")
	}
}

// caller is what is known of the far side of a connection.
type caller struct {
	identity fabric.Identity
	known    bool
	refused  error // why its certificate is not good
}

type callerKey struct{}

// Caller returns whom the certificate of the request's connection names.
func Caller(ctx context.Context) (fabric.Identity, bool) {
	c, ok := ctx.Value(callerKey{}).(caller)
	return c.identity, ok && c.known
}

// WithCaller returns a context for calling a handler from inside its own process, as identity.
func WithCaller(ctx context.Context, identity fabric.Identity) context.Context {
	return context.WithValue(ctx, callerKey{}, caller{identity: identity, known: true})
}

func allow(ctx context.Context, need fabric.Role, what string) error {
	c, _ := ctx.Value(callerKey{}).(caller)
	switch {
	case c.refused != nil:
		return c.refused
	case !c.known:
		return fmt.Errorf("%w: %s needs a certificate of the cluster (join it with a token)", fabric.ErrForbidden, what)
	case !c.identity.Role.Allows(need):
		return fmt.Errorf("%w: %s needs role %s, and %s has role %s", fabric.ErrForbidden, what, need, c.identity.Name, c.identity.Role)
	}
	return nil
}

type stopKey struct{}

// withStop ends ctx also when the server begins to stop, which plain requests may outlive for a moment.
func withStop(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stopping, ok := ctx.Value(stopKey{}).(context.Context)
	if !ok {
		return ctx, cancel
	}
	release := context.AfterFunc(stopping, cancel)
	return ctx, func() { release(); cancel() }
}

func orDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
