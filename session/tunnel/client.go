package tunnel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// ErrNotAllowed says that the node asked for an address that the developer did not allow.
var ErrNotAllowed = errors.New("address is not allowed")

// Permanent wraps an error of Run's connect after which connecting again is of no use.
type Permanent struct{ Err error }

// Error is the wrapped error's.
func (p *Permanent) Error() string { return p.Err.Error() }

// Unwrap returns the wrapped error.
func (p *Permanent) Unwrap() error { return p.Err }

// ClientConfig configures the developer's side.
type ClientConfig struct {
	// Allow are the addresses on this machine that the node may connect to.
	Allow []string
	// Services are those that programs on this machine call; each gets an address on the loopback.
	Services []string
	Logger   *slog.Logger // nil: discard
	// Pause is the time between attempts to connect; default 500 ms.
	Pause time.Duration
}

// Client is the developer's side of a tunnel. Its local addresses stay the same while the connection comes and goes.
type Client struct {
	config    ClientConfig
	listeners map[string]net.Listener

	mu        sync.Mutex
	mux       *yamux.Session // nil while there is no connection
	connected chan struct{}  // closed once mux is set
}

// NewClient opens the local addresses. Close or Run closes them.
func NewClient(ctx context.Context, config ClientConfig) (*Client, error) {
	if config.Logger == nil {
		config.Logger = slog.New(slog.DiscardHandler)
	}
	if config.Pause <= 0 {
		config.Pause = 500 * time.Millisecond
	}
	c := &Client{config: config, listeners: map[string]net.Listener{}, connected: make(chan struct{})}
	for _, service := range config.Services {
		if c.listeners[service] != nil {
			continue
		}
		var lc net.ListenConfig
		l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			c.Close()
			return nil, fmt.Errorf("cannot listen for service %s: %w", service, err)
		}
		c.listeners[service] = l
	}
	return c, nil
}

// Addresses are the local addresses by service, host:port.
func (c *Client) Addresses() map[string]string {
	all := make(map[string]string, len(c.listeners))
	for service, l := range c.listeners {
		all[service] = l.Addr().String()
	}
	return all
}

// Close closes the local addresses.
func (c *Client) Close() {
	for _, l := range c.listeners {
		_ = l.Close()
	}
}

// Run keeps the tunnel connected until ctx ends, or until connect returns a *Permanent. The first connection
// must succeed; a lost one is made anew.
func (c *Client) Run(ctx context.Context, connect func(context.Context) (net.Conn, error)) error {
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	defer serving.Wait()
	defer c.Close()
	defer cancel()
	for service, l := range c.listeners {
		serving.Go(func() { c.listen(ctx, service, l) })
	}
	for first := true; ; first = false {
		err := c.once(ctx, connect)
		var permanent *Permanent
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &permanent), first && !errors.Is(err, errLost):
			return fmt.Errorf("cannot open the tunnel: %w", err)
		}
		c.config.Logger.WarnContext(ctx, "the tunnel is interrupted, connecting again", "err", err)
		pause := time.NewTimer(c.config.Pause)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return nil
		}
	}
}

var errLost = errors.New("connection lost")

// once connects and serves until the connection ends, and says why it did: its error is never nil.
func (c *Client) once(ctx context.Context, connect func(context.Context) (net.Conn, error)) error {
	conn, err := connect(ctx)
	if err != nil {
		return err
	}
	mux, err := yamux.Client(conn, settings(c.config.Logger))
	if err != nil {
		_ = conn.Close()
		return err
	}
	c.mu.Lock()
	c.mux = mux
	close(c.connected)
	c.mu.Unlock()
	err = accept(ctx, mux, c.dial)
	c.mu.Lock()
	c.mux, c.connected = nil, make(chan struct{})
	c.mu.Unlock()
	return fmt.Errorf("%w: %w", errLost, err)
}

// dial serves the node's wish to connect to an address here.
func (c *Client) dial(ctx context.Context, s *stream) {
	h, err := readHeader(s, kindDial)
	if err == nil && !slices.Contains(c.config.Allow, h.Address) {
		err = fmt.Errorf("%.100q: %w", h.Address, ErrNotAllowed)
	}
	var local net.Conn
	if err == nil {
		dialer := net.Dialer{Timeout: handshake / 2}
		local, err = dialer.DialContext(ctx, "tcp", h.Address)
	}
	replied := WriteReply(s, err)
	if err != nil {
		c.config.Logger.WarnContext(ctx, "cannot connect to the local program", "address", h.Address, "err", err)
		return
	}
	defer local.Close()
	if replied == nil && s.SetDeadline(time.Time{}) == nil {
		joinUntil(ctx, s, local)
	}
}

func joinUntil(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() {
		_ = a.Close()
		_ = b.Close()
	})
	defer stop()
	Join(a, b)
}

// listen passes local connections to a service on.
func (c *Client) listen(ctx context.Context, service string, l net.Listener) {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var serving sync.WaitGroup
	defer serving.Wait()
	for {
		local, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				c.config.Logger.ErrorContext(ctx, "cannot accept local connections", "service", service, "err", err)
			}
			return
		}
		serving.Go(func() {
			defer local.Close()
			remote, err := c.call(ctx, service)
			if err != nil {
				c.config.Logger.WarnContext(ctx, "cannot call a service through the tunnel", "service", service, "err", err)
				return
			}
			joinUntil(ctx, remote, local)
		})
	}
}

// call connects to a service, waiting a little for a connection that was lost.
func (c *Client) call(ctx context.Context, service string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	c.mu.Lock()
	connected := c.connected
	c.mu.Unlock()
	select {
	case <-connected:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	c.mu.Lock()
	mux := c.mux
	c.mu.Unlock()
	if mux == nil {
		return nil, errLost
	}
	return open(ctx, mux, header{Kind: kindCall, Service: service})
}
