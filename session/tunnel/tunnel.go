// Package tunnel makes a developer's machine a place where instances run.
//
// A tunnel is one authenticated connection, given by the caller, that carries many streams both
// ways: the node connects to addresses on the developer's machine that the developer allowed, and
// programs there connect to services through the node's router, as part of the session. Tunnels is the
// node's side, Client the developer's. A machine that vanishes is noticed within seconds.
package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"orrery/session"
)

const (
	keepalive = time.Second
	// patience is how long an unanswered sign of life or a blocked write may take.
	patience = 4 * time.Second
	// handshake bounds the header and reply of a stream.
	handshake = 10 * time.Second
	// maxStreams bounds the streams that one side opens.
	maxStreams = 512
)

func settings(logger *slog.Logger) *yamux.Config {
	c := yamux.DefaultConfig()
	c.KeepAliveInterval = keepalive
	c.ConnectionWriteTimeout = patience
	c.StreamOpenTimeout = handshake
	c.LogOutput = nil
	c.Logger = slog.NewLogLogger(logger.Handler(), slog.LevelDebug)
	return c
}

// stream is a yamux stream whose Close ends both directions, as net.Conn has it.
type stream struct {
	*yamux.Stream
	once sync.Once
}

// Close ends both directions. The deadline wakes a blocked Read, which yamux's own Close does not.
func (s *stream) Close() error {
	var err error
	s.once.Do(func() {
		err = errors.Join(s.SetDeadline(time.Unix(1, 0)), s.Stream.Close())
	})
	return err
}

// CloseWrite ends the sending direction.
func (s *stream) CloseWrite() error { return s.Stream.Close() }

// open asks the other side for a connection.
func open(ctx context.Context, mux *yamux.Session, h header) (net.Conn, error) {
	raw, err := mux.OpenStream()
	if err != nil {
		return nil, err
	}
	s := &stream{Stream: raw}
	_ = s.SetDeadline(time.Now().Add(handshake))
	stop := context.AfterFunc(ctx, func() { _ = s.SetDeadline(time.Unix(1, 0)) })
	h.Version = version
	if err = writeFrame(s, h); err == nil {
		err = ReadReply(s)
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = s.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

// accept serves the streams that the other side opens until the connection or ctx ends.
func accept(ctx context.Context, mux *yamux.Session, serve func(context.Context, *stream)) error {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(ctx, func() { _ = mux.Close() })
	var serving sync.WaitGroup
	defer serving.Wait()
	defer func() {
		cancel()
		stop()
		_ = mux.Close()
	}()
	slots := make(chan struct{}, maxStreams)
	for {
		raw, err := mux.AcceptStream()
		if err != nil {
			return err
		}
		s := &stream{Stream: raw}
		select {
		case slots <- struct{}{}:
		default:
			_ = s.Close()
			continue
		}
		serving.Go(func() {
			defer func() { <-slots }()
			defer func() { _ = s.Close() }()
			_ = s.SetDeadline(time.Now().Add(handshake))
			serve(ctx, s)
		})
	}
}

// Router serves connections to services.
type Router interface {
	// ServeConn serves requests to a service until the connection ends; all of them belong to the session.
	ServeConn(ctx context.Context, conn net.Conn, service, session string) error
}

// Tunnels are the tunnels that end at this node.
type Tunnels struct {
	router Router
	logger *slog.Logger

	mu  sync.Mutex
	all map[string]*yamux.Session
}

// NewTunnels makes an empty registry; a nil logger discards.
func NewTunnels(router Router, logger *slog.Logger) *Tunnels {
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	return &Tunnels{router: router, logger: logger, all: map[string]*yamux.Session{}}
}

// Accept serves a tunnel on an authenticated connection until it or ctx ends, and closes it. Calls from the developer's machine
// belong to the session called name. The caller has checked that the other side may use the tunnel. A newer connection of the
// same tunnel takes the place of an older one.
func (t *Tunnels) Accept(ctx context.Context, conn net.Conn, id, name string) error {
	mux, err := yamux.Server(conn, settings(t.logger))
	if err != nil {
		_ = conn.Close()
		return fmt.Errorf("cannot open tunnel %s: %w", id, err)
	}
	t.mu.Lock()
	older := t.all[id]
	t.all[id] = mux
	t.mu.Unlock()
	if older != nil {
		_ = older.Close()
	}
	t.logger.InfoContext(ctx, "tunnel opened", "tunnel", id, "session", name)
	err = accept(ctx, mux, func(ctx context.Context, s *stream) { t.call(ctx, s, name) })
	t.mu.Lock()
	if t.all[id] == mux {
		delete(t.all, id)
	}
	t.mu.Unlock()
	t.logger.InfoContext(ctx, "tunnel closed", "tunnel", id, "session", name, "err", err)
	return ctx.Err()
}

func (t *Tunnels) call(ctx context.Context, s *stream, name string) {
	h, err := readHeader(s, kindCall)
	if replied := WriteReply(s, err); err != nil || replied != nil {
		return
	}
	if s.SetDeadline(time.Time{}) != nil {
		return
	}
	if err := t.router.ServeConn(ctx, s, h.Service, name); err != nil && ctx.Err() == nil {
		t.logger.DebugContext(ctx, "a call through a tunnel ended", "service", h.Service, "session", name, "err", err)
	}
}

// Dial connects to an address on the developer's machine. ErrNotFound if the tunnel is not connected.
func (t *Tunnels) Dial(ctx context.Context, id, address string) (net.Conn, error) {
	t.mu.Lock()
	mux := t.all[id]
	t.mu.Unlock()
	if mux == nil || mux.IsClosed() {
		return nil, fmt.Errorf("the developer's machine is not connected (tunnel %s): %w", id, session.ErrNotFound)
	}
	conn, err := open(ctx, mux, header{Kind: kindDial, Address: address})
	if err != nil {
		return nil, fmt.Errorf("cannot reach %s through tunnel %s: %w", address, id, err)
	}
	return conn, nil
}

// Alive says whether a tunnel is connected.
func (t *Tunnels) Alive(id string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	mux := t.all[id]
	return mux != nil && !mux.IsClosed()
}

// Drop ends a tunnel; nothing happens if it is not connected.
func (t *Tunnels) Drop(id string) {
	t.mu.Lock()
	mux := t.all[id]
	t.mu.Unlock()
	if mux != nil {
		_ = mux.Close()
	}
}
