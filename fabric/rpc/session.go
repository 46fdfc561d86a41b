package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"sync"
	"time"

	"github.com/hashicorp/yamux"

	"orrery/fabric"
)

const maxStreams = 1024 // that a session carries at once

func sessionConfig() *yamux.Config {
	c := yamux.DefaultConfig()
	c.LogOutput = io.Discard // every error also comes back from a call
	c.KeepAliveInterval = 10 * time.Second
	c.MaxStreamWindowSize = 1 << 20
	return c
}

// serveSession answers the streams of one session until either side ends it.
func (s *Server) serveSession(ctx context.Context, who caller, c net.Conn) {
	session, err := yamux.Server(c, sessionConfig())
	if err != nil {
		_ = c.Close()
		return
	}
	ctx, cancel := context.WithCancel(context.WithValue(ctx, callerKey{}, who))
	defer cancel()
	control, err := session.AcceptStreamWithContext(ctx)
	if err != nil {
		_ = session.Close()
		return
	}
	m := newMultiplex(session, control)
	var work sync.WaitGroup
	work.Go(m.listen)
	places := make(chan struct{}, maxStreams)
	for {
		stream, err := session.AcceptStreamWithContext(ctx)
		if err != nil {
			break
		}
		select {
		case places <- struct{}{}:
		default:
			c := m.add(stream)
			s.answer(ctx, c, ErrBusy)
			_ = c.Close()
			continue
		}
		accepted := m.add(stream)
		work.Go(func() {
			s.serveStream(ctx, who, accepted)
			<-places
		})
	}
	cancel()
	_ = session.Close()
	work.Wait()
}

// serveStream reads a stream's first frame and runs the handler of its kind.
func (s *Server) serveStream(ctx context.Context, who caller, stream *conn) {
	defer func() { _ = stream.Close() }()
	var q opening
	_ = stream.SetReadDeadline(time.Now().Add(headerTimeout))
	if err := readFrame(stream, &q); err != nil {
		s.refuse(RefusedFrame)
		s.answer(ctx, stream, fmt.Errorf("cannot open a stream: %w", err))
		return
	}
	_ = stream.SetReadDeadline(time.Time{})
	kind, ok := s.mux.streams[q.Kind]
	if err := allow(ctx, orViewer(kind.role), "stream "+q.Kind); err != nil {
		s.refuse(RefusedRole)
		s.answer(ctx, stream, err)
		return
	}
	if !ok {
		s.answer(ctx, stream, fmt.Errorf("%w: %q", ErrNoSuchKind, q.Kind))
		return
	}
	accepted := false
	err := s.guard(q.Kind, func() error {
		return kind.handle(ctx, who.identity, q.Header, func() (net.Conn, error) {
			if accepted {
				return nil, errors.New("stream was accepted before")
			}
			accepted = true
			return stream, writeFrame(stream, verdict{})
		})
	})
	if !accepted {
		if err == nil {
			err = errors.New("the far side ended the stream before it began")
		}
		s.answer(ctx, stream, err)
		return
	}
	if err != nil && ctx.Err() == nil {
		s.config.Logger.DebugContext(ctx, "stream ended", "kind", q.Kind, "caller", who.identity.Name, "error", err)
	}
}

// guard turns a handler's panic into an error: one bad stream must not take the node along.
func (s *Server) guard(kind string, run func() error) (err error) {
	defer func() {
		if cause := recover(); cause != nil {
			s.config.Logger.Error("stream panicked", "kind", kind, "cause", cause, "stack", string(debug.Stack()))
			err = fmt.Errorf("stream %s broke (see the node's log)", kind)
		}
	}()
	return run()
}

// answer refuses a stream.
func (s *Server) answer(ctx context.Context, stream *conn, err error) {
	_ = stream.SetWriteDeadline(time.Now().Add(headerTimeout))
	text := err.Error()
	if len(text) > maxFrame/8 {
		text = text[:maxFrame/8]
	}
	if sent := writeFrame(stream, verdict{Error: text, Names: s.mux.errors.names(err)}); sent != nil {
		s.config.Logger.DebugContext(ctx, "refusal not delivered", "error", sent)
	}
}

func orViewer(r fabric.Role) fabric.Role {
	if r == "" {
		return fabric.RoleViewer
	}
	return r
}
