package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"orrery/internal/clock"
)

// guarded is an accepted connection that gives back what it occupies when it is closed.
type guarded struct {
	net.Conn
	caller caller
	first  []byte // read already, to be read again

	once     sync.Once
	releases []func()
}

// Read reads.
func (g *guarded) Read(b []byte) (int, error) {
	if len(g.first) > 0 {
		n := copy(b, g.first)
		g.first = g.first[n:]
		return n, nil
	}
	return g.Conn.Read(b)
}

// Close closes the connection and frees its place.
func (g *guarded) Close() error {
	err := g.Conn.Close()
	g.once.Do(func() {
		for _, release := range g.releases {
			release()
		}
	})
	return err
}

// accept takes connections until the listener is closed. A lack of file descriptors passes, so it waits and goes on.
func (s *Server) accept(ctx context.Context, l net.Listener, welcome func(context.Context, net.Conn)) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.config.Logger.WarnContext(ctx, "connection not accepted", "error", err)
			if !clock.Wait(ctx, 100*time.Millisecond) {
				return
			}
			continue
		}
		select {
		case s.shaking <- struct{}{}:
		case <-ctx.Done():
			_ = c.Close()
			return
		}
		s.work.Go(func() { welcome(ctx, c) })
	}
}

// welcomeTLS finds out who a connection is and which protocol it speaks.
func (s *Server) welcomeTLS(ctx context.Context, c net.Conn) {
	g := &guarded{Conn: c}
	t := tls.Server(g, s.tlsConfig())
	shake, cancel := context.WithTimeout(ctx, handshakeTimeout)
	err := t.HandshakeContext(shake)
	cancel()
	<-s.shaking
	if err != nil {
		s.config.Logger.DebugContext(ctx, "handshake ended", "from", c.RemoteAddr().String(), "error", err)
		s.refuse(RefusedHandshake)
		_ = g.Close()
		return
	}
	g.caller = s.identify(ctx, g, t)
	if !s.admit(g, t) {
		s.config.Logger.WarnContext(ctx, "connection refused: too many", "from", c.RemoteAddr().String(), "known", g.caller.known)
		s.refuse(RefusedCrowd)
		_ = g.Close()
		return
	}
	s.serveProtocol(ctx, t.ConnectionState().NegotiatedProtocol, g.caller, t)
}

// serveProtocol serves a connection by its protocol.
func (s *Server) serveProtocol(ctx context.Context, protocol string, who caller, c net.Conn) {
	kind, own := s.mux.conns[protocol]
	switch {
	case protocol == streamProtocol:
		s.serveSession(ctx, who, c)
	case own:
		s.serveConn(ctx, protocol, kind, who, c)
	default:
		s.handoff.deliver(ctx, c)
	}
}

// serveConn serves a connection of a protocol of its own.
func (s *Server) serveConn(ctx context.Context, protocol string, kind connKind, who caller, c net.Conn) {
	defer func() { _ = c.Close() }()
	if err := allow(context.WithValue(ctx, callerKey{}, who), kind.role, protocol); err != nil {
		s.config.Logger.WarnContext(ctx, "connection refused", "protocol", protocol, "from", c.RemoteAddr().String(), "error", err)
		s.refuse(RefusedRole)
		if kind.refused != nil {
			kind.refused(err)
		}
		return
	}
	err := s.guard(protocol, func() error {
		kind.handle(ctx, who.identity, c)
		return nil
	})
	if err != nil {
		s.config.Logger.ErrorContext(ctx, "connection ended", "protocol", protocol, "error", err)
	}
}

// admit takes a place for the connection. One without a good certificate has few places and little time.
func (s *Server) admit(g *guarded, c net.Conn) bool {
	places := s.members
	if !g.caller.known {
		places = s.stranger
		timer := time.AfterFunc(strangerTimeout, func() { _ = c.Close() })
		g.releases = append(g.releases, func() { timer.Stop() })
	}
	select {
	case places <- struct{}{}:
		g.releases = append(g.releases, func() { <-places })
		return true
	default:
		return false
	}
}

// welcomeUnix tells a stream session, which begins with its protocol's name, from HTTP, whose
// methods are upper-case.
func (s *Server) welcomeUnix(ctx context.Context, c net.Conn) {
	g := &guarded{Conn: c, caller: s.unixCaller(c)}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	first, protocol, err := s.firstLine(c)
	stop()
	<-s.shaking
	if err != nil || !s.admit(g, g) {
		_ = g.Close()
		return
	}
	g.first = first
	s.serveProtocol(ctx, protocol, g.caller, g)
}

const (
	protocolPrefix = "orrery-"
	maxProtocol    = 64
)

// firstLine reads one byte, which belongs to the protocol HTTP, or a line that names another protocol.
func (s *Server) firstLine(c net.Conn) (first []byte, protocol string, err error) {
	if err := c.SetReadDeadline(time.Now().Add(headerTimeout)); err != nil {
		return nil, "", err
	}
	var line [maxProtocol + 1]byte
	for n := range line {
		if _, err := io.ReadFull(c, line[n:n+1]); err != nil {
			return nil, "", err
		}
		if n == 0 && line[0] != protocolPrefix[0] {
			return []byte{line[0]}, "", c.SetReadDeadline(time.Time{})
		}
		if line[n] == '\n' {
			protocol = string(line[:n])
			break
		}
	}
	if _, ok := s.mux.conns[protocol]; !ok && protocol != streamProtocol {
		return nil, "", errors.New("unknown protocol")
	}
	return nil, protocol, c.SetReadDeadline(time.Time{})
}

// handoff is a listener that yields connections which others accepted.
type handoff struct {
	address net.Addr
	conns   chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newHandoff(address net.Addr) *handoff {
	return &handoff{address: address, conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (h *handoff) deliver(ctx context.Context, c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close()
	case <-ctx.Done():
		_ = c.Close()
	}
}

// Accept waits for the next connection.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (h *handoff) Close() error {
	h.drain()
	return nil
}

func (h *handoff) drain() { h.once.Do(func() { close(h.closed) }) }

// Addr is the TCP listener's.
func (h *handoff) Addr() net.Addr { return h.address }
