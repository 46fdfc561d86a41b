package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"orrery/fabric"
)

// listener is an open address of one service.
type listener struct {
	service string
	wanted  string // the address of the record
	address string // where it listens
	public  bool
	server  *http.Server
}

// grace is how long requests in flight may go on when a listener closes.
const grace = 2 * time.Second

func (l *listener) close() {
	ctx, cancel := context.WithTimeout(context.Background(), grace) //nolint:forbidigo // closing has a bound of its own, whoever asks for it
	defer cancel()
	if l.server.Shutdown(ctx) != nil {
		_ = l.server.Close()
	}
}

// Listen returns the address of the service's listener on this node's loopback, for components of this node; it opens it
// if need be. The port is chosen once and kept over restarts, if nothing else took it meanwhile.
func (r *Router) Listen(ctx context.Context, service string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return "", fmt.Errorf("cannot listen for service %s: router: %w", service, fabric.ErrClosed)
	}
	if l, ok := r.local[service]; ok {
		return l.address, nil
	}
	l, err := r.open(ctx, localPorts+service, "127.0.0.1:0", &listener{service: service})
	if err != nil {
		return "", err
	}
	r.local[service] = l
	return l.address, nil
}

// open listens at an address; for port 0 at the one that was kept under key, or at a free one. r.mu is held.
func (r *Router) open(ctx context.Context, key, address string, l *listener) (*listener, error) {
	l.wanted = address
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for service %s: %w", l.service, err)
	}
	var config net.ListenConfig
	var socket net.Listener
	if kept := r.ports.get(key); port == "0" && kept != "" {
		socket, err = config.Listen(ctx, "tcp", kept)
		if err != nil {
			r.config.Logger.WarnContext(ctx, "the kept port is taken, choosing another", "service", l.service, "address", kept, "err", err)
		}
	}
	if socket == nil {
		socket, err = config.Listen(ctx, "tcp", address)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("cannot listen for service %s: %s is in use by another program: %w", l.service, address, err)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot listen for service %s: %w", l.service, err)
	}
	l.address = socket.Addr().String()
	if port == "0" {
		if err := r.ports.keep(key, l.address); err != nil {
			_ = socket.Close()
			return nil, err
		}
	}
	l.server = r.server(http.HandlerFunc(func(w http.ResponseWriter, in *http.Request) {
		r.serve(w, in, origin{service: l.service, public: l.public})
	}))
	r.start(socket, l.server)
	return l, nil
}

func (r *Router) server(handler http.Handler) *http.Server {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: r.config.HeaderTimeout,
		IdleTimeout:       r.config.IdleTimeout,
		MaxHeaderBytes:    r.config.MaxHeaderBytes,
		Protocols:         new(http.Protocols),
		ConnContext:       connOrigin,
		ErrorLog:          slog.NewLogLogger(r.config.Logger.Handler(), slog.LevelDebug),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server
}

func (r *Router) start(socket net.Listener, server *http.Server) {
	r.work.Go(func() {
		if err := server.Serve(socket); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			r.config.Logger.Error("a listener ended", "address", socket.Addr().String(), "err", err)
		}
	})
}

// listenPublic opens and closes public listeners as the records say. What cannot be opened is tried again at the next call.
func (r *Router) listenPublic(ctx context.Context) {
	s := r.snap.Load()
	if s.table == nil {
		return
	}
	wanted := map[string]string{}
	for _, route := range s.table.Public() {
		if route.Public.Node == r.config.Self {
			wanted[route.Service] = route.Public.Address
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing {
		return
	}
	for service, l := range r.public {
		if wanted[service] != l.wanted {
			delete(r.public, service)
			r.leave(l)
		}
	}
	for service, address := range wanted {
		if r.public[service] != nil {
			continue
		}
		l, err := r.open(ctx, publicPorts+service, address, &listener{service: service, public: true})
		if err != nil {
			r.config.Logger.ErrorContext(ctx, "a public address is not served", "service", service, "address", address, "err", err)
			continue
		}
		r.public[service] = l
		r.config.Logger.InfoContext(ctx, "public address", "service", service, "address", l.address)
	}
}

// leave closes a listener. New connections are refused at once, so that its port is free; requests in flight go on for a while. r.mu is held.
func (r *Router) leave(l *listener) {
	r.work.Go(l.close)
}

// pipeListener hands connections that came some other way to a server.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

// Accept returns the next connection.
func (p *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (p *pipeListener) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// Addr is nowhere.
func (p *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "tunnel", Net: "unix"} }
