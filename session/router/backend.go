package router

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"orrery/session"
)

// backendKey identifies a backend: two services may be answered by one address.
type backendKey struct {
	service  string
	instance session.Instance
}

// dialError marks an error before which not a byte was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// backend is one instance of a service with its connections and the number of requests in flight.
type backend struct {
	key      backendKey
	h1, h2   *http.Transport
	inflight atomic.Int64

	mu      sync.Mutex
	idle    chan struct{} // closed when inflight reaches zero; nil if nobody waits
	closers map[io.Closer]struct{}
	streams map[io.Closer]struct{}
	retired bool // streams are cut as soon as they register
	closed  bool
}

func newBackend(key backendKey, dialer session.Dialer, idleTimeout time.Duration) *backend {
	b := &backend{key: key, closers: map[io.Closer]struct{}{}, streams: map[io.Closer]struct{}{}}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := dialer.Dial(ctx, key.instance)
		if err != nil {
			return nil, &dialError{err}
		}
		return b.own(conn)
	}
	b.h1 = transport(dial, idleTimeout)
	b.h1.Protocols.SetHTTP1(true)
	b.h2 = transport(dial, idleTimeout)
	b.h2.Protocols.SetUnencryptedHTTP2(true)
	return b
}

func transport(dial func(context.Context, string, string) (net.Conn, error), idle time.Duration) *http.Transport {
	return &http.Transport{
		DialContext:            dial,
		DisableCompression:     true,
		MaxIdleConns:           0,
		MaxIdleConnsPerHost:    1024,
		IdleConnTimeout:        idle,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
		Protocols:              new(http.Protocols),
	}
}

// owned is a connection that the backend can close at the end of a drain.
type owned struct {
	net.Conn
	backend *backend
}

// Close closes the connection and forgets it.
func (o *owned) Close() error {
	o.backend.mu.Lock()
	delete(o.backend.closers, o)
	o.backend.mu.Unlock()
	return o.Conn.Close()
}

// CloseWrite ends the sending direction, for upgraded connections.
func (o *owned) CloseWrite() error {
	if half, ok := o.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

func (b *backend) own(conn net.Conn) (net.Conn, error) {
	o := &owned{conn, b}
	b.mu.Lock()
	closed := b.closed
	if !closed {
		b.closers[o] = struct{}{}
	}
	b.mu.Unlock()
	if closed {
		_ = conn.Close()
		return nil, &dialError{errors.New("the instance was just taken out of service")}
	}
	return o, nil
}

// release is the end of a request.
func (b *backend) release() {
	if b.inflight.Add(-1) > 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.idle != nil && b.inflight.Load() == 0 {
		close(b.idle)
		b.idle = nil
	}
}

// whenIdle returns a channel that is closed once nothing is in flight.
func (b *backend) whenIdle() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.idle == nil {
		b.idle = make(chan struct{})
	}
	idle := b.idle
	if b.inflight.Load() == 0 {
		close(b.idle)
		b.idle = nil
	}
	return idle
}

// stream registers something that does not end by itself, an upgraded connection or a stream of events; it is cut as
// soon as the backend is retired. The caller calls the returned function at its end.
func (b *backend) stream(c io.Closer) (end func()) {
	b.mu.Lock()
	retired := b.retired
	if !retired {
		b.streams[c] = struct{}{}
	}
	b.mu.Unlock()
	if retired {
		_ = c.Close()
	}
	return func() {
		b.mu.Lock()
		delete(b.streams, c)
		b.mu.Unlock()
	}
}

// take removes and returns what is in a set; closing happens outside the lock.
func take(set map[io.Closer]struct{}) []io.Closer {
	all := make([]io.Closer, 0, len(set))
	for c := range set {
		all = append(all, c)
	}
	clear(set)
	return all
}

// retire makes streams end as soon as they register.
func (b *backend) retire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retired = true
}

// reinstate undoes retire.
func (b *backend) reinstate() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.retired = false
}

// cut closes the streams of a retired backend.
func (b *backend) cut() {
	b.mu.Lock()
	var streams []io.Closer
	if b.retired {
		streams = take(b.streams)
	}
	b.mu.Unlock()
	for _, s := range streams {
		_ = s.Close()
	}
}

// close closes every connection; the backend is not usable afterwards.
func (b *backend) close() {
	b.mu.Lock()
	b.closed, b.retired = true, true
	all := append(take(b.streams), take(b.closers)...)
	b.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
	b.h1.CloseIdleConnections()
	b.h2.CloseIdleConnections()
}
