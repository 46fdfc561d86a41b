package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"connectrpc.com/connect"
	"github.com/hashicorp/yamux"

	"orrery/fabric"
)

// dialer connects to one far side for the first of protocols that it speaks.
type dialer func(ctx context.Context, protocols ...string) (net.Conn, error)

// Peer is one far side. Its connections are kept and made anew when they are dead. Safe for concurrent use.
type Peer struct {
	name   string
	base   string
	errors Errors
	dial   dialer
	http   *http.Client

	dialing chan struct{} // holds a token while somebody makes a session

	mu      sync.Mutex
	session *multiplex
	closed  bool
	work    sync.WaitGroup // listening to sessions
}

func newPeer(name, scheme string, known Errors, dial dialer) *Peer {
	p := &Peer{name: name, base: scheme + "://orrery", errors: known, dial: dial, dialing: make(chan struct{}, 1)}
	t := &http.Transport{
		ForceAttemptHTTP2:   true,
		IdleConnTimeout:     90 * time.Second,
		MaxIdleConnsPerHost: 16,
		DisableCompression:  true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
		DialTLSContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dial(ctx, "h2", "http/1.1")
		},
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, "http/1.1") },
	}
	p.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return p
}

// String names the far side.
func (p *Peer) String() string { return p.name }

// Close closes the connections. Using the peer afterwards is an fabric.ErrClosed.
func (p *Peer) Close() {
	p.mu.Lock()
	session := p.session
	p.session, p.closed = nil, true
	p.mu.Unlock()
	p.http.CloseIdleConnections()
	if session != nil {
		_ = session.Close()
	}
	p.work.Wait()
}

func (p *Peer) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func clientOf[Req, Res any](p *Peer, procedure string) *connect.Client[Req, Res] {
	return connect.NewClient[Req, Res](p.http, p.base+procedure, connect.WithCodec(jsonCodec{}),
		connect.WithAcceptCompression("gzip", nil, nil), connect.WithReadMaxBytes(maxMessage))
}

// Call runs a procedure of the far side. It is never repeated by itself: an error that wraps no sentinel may mean that it ran.
func Call[Req, Res any](ctx context.Context, p *Peer, procedure string, q *Req) (*Res, error) {
	if p.isClosed() {
		return nil, unreachable(p.name, fabric.ErrClosed)
	}
	answer, err := clientOf[Req, Res](p, procedure).CallUnary(ctx, connect.NewRequest(q))
	if err != nil {
		return nil, p.errors.decode(ctx, p.name, err)
	}
	return answer.Msg, nil
}

// CallStream runs a procedure that answers with many messages. An error is the last thing it yields.
// Leaving the loop ends the call.
func CallStream[Req, Res any](ctx context.Context, p *Peer, procedure string, q *Req) iter.Seq2[*Res, error] {
	return func(yield func(*Res, error) bool) {
		if p.isClosed() {
			yield(nil, unreachable(p.name, fabric.ErrClosed))
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := clientOf[Req, Res](p, procedure).CallServerStream(ctx, connect.NewRequest(q))
		if err != nil {
			yield(nil, p.errors.decode(ctx, p.name, err))
			return
		}
		defer func() { cancel(); _ = stream.Close() }()
		for stream.Receive() {
			message := *stream.Msg()
			if !yield(&message, nil) {
				return
			}
		}
		if err := stream.Err(); err != nil {
			yield(nil, p.errors.decode(ctx, p.name, err))
		}
	}
}

// Stream opens a stream of bytes of a kind that the far side's Mux has. It returns once the far side's handler accepted it,
// or with the handler's error; ctx governs only that. The connection has CloseWrite.
func (p *Peer) Stream(ctx context.Context, kind string, header any) (net.Conn, error) {
	encoded, err := json.Marshal(header)
	if err != nil {
		return nil, fmt.Errorf("cannot open stream %s: %w", kind, err)
	}
	for {
		session, fresh, err := p.connect(ctx)
		if err != nil {
			return nil, unreachable(p.name, err)
		}
		raw, err := session.OpenStream()
		if err != nil {
			// A kept session may have died since; nothing was sent on it.
			p.forget(session)
			if !fresh {
				continue
			}
			return nil, unreachable(p.name, err)
		}
		stream := session.add(raw)
		if err := p.begin(ctx, stream, opening{kind, encoded}); err != nil {
			_ = stream.Close()
			return nil, err
		}
		return stream, nil
	}
}

// begin exchanges the frames that begin a stream.
func (p *Peer) begin(ctx context.Context, stream *conn, q opening) error {
	var answer verdict
	stop := context.AfterFunc(ctx, func() { _ = stream.SetDeadline(past) })
	err := writeFrame(stream, q)
	if err == nil {
		err = readFrame(stream, &answer)
	}
	if !stop() {
		return unreachable(p.name, ctx.Err())
	}
	if err != nil {
		return unreachable(p.name, err)
	}
	if answer.Error != "" {
		return p.errors.remote(answer.Error, answer.Names)
	}
	return nil
}

// connect returns the session that is kept, or makes one; fresh says which.
func (p *Peer) connect(ctx context.Context) (session *multiplex, fresh bool, err error) {
	select {
	case p.dialing <- struct{}{}:
		defer func() { <-p.dialing }()
	case <-ctx.Done():
		return nil, false, ctx.Err()
	}
	if session, err := p.current(); session != nil || err != nil {
		return session, false, err
	}
	c, err := p.dial(ctx, streamProtocol)
	if err != nil {
		return nil, true, err
	}
	session, err = open(c)
	if err != nil {
		return nil, true, errors.Join(err, c.Close())
	}
	return session, true, p.keep(session)
}

// open begins a session on a connection, with its control stream.
func open(c net.Conn) (*multiplex, error) {
	session, err := yamux.Client(c, sessionConfig())
	if err != nil {
		return nil, err
	}
	control, err := session.OpenStream()
	if err != nil {
		return nil, errors.Join(err, session.Close())
	}
	return newMultiplex(session, control), nil
}

func (p *Peer) keep(session *multiplex) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return errors.Join(fabric.ErrClosed, session.Close())
	}
	p.session = session
	p.work.Go(session.listen)
	return nil
}

func (p *Peer) current() (*multiplex, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fabric.ErrClosed
	}
	if p.session != nil && p.session.IsClosed() {
		p.session = nil
	}
	return p.session, nil
}

func (p *Peer) forget(session *multiplex) {
	p.mu.Lock()
	if p.session == session {
		p.session = nil
	}
	p.mu.Unlock()
	_ = session.Close()
}

// unreachable says that the far side could not be asked.
func unreachable(peer string, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, yamux.ErrTimeout) {
		return fmt.Errorf("cannot reach %s: %w", peer, context.DeadlineExceeded)
	}
	return fmt.Errorf("cannot reach %s: %w", peer, err)
}
