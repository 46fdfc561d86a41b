// Package dialer connects a router to instances: on its own node by TCP, on
// another node by a stream of the fabric, on a developer's machine through a tunnel.
//
// A node serves streams of other nodes only to instances that are in the table's records and belong to that node, so
// that the fabric is no way to other ports of the machine.
package dialer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"orrery/fabric"
	"orrery/session"
	"orrery/session/tunnel"
)

// Streams opens byte streams to other nodes.
type Streams interface {
	// Stream opens a stream that ends in the other node's ServeStream with the same instance.
	Stream(ctx context.Context, node fabric.NodeID, instance session.Instance) (net.Conn, error)
}

// Tunnels connects to addresses on developers' machines.
type Tunnels interface {
	Dial(ctx context.Context, id, address string) (net.Conn, error)
}

// Config configures a Dialer. Streams may be nil for a node alone, Tunnels where there are none.
type Config struct {
	Self    fabric.NodeID
	Tunnels Tunnels
	Streams Streams
	// Known says whether an instance is in a record of the table; the router's Knows.
	Known func(session.Instance) bool
	// Timeout bounds connecting; default 5 s.
	Timeout time.Duration
}

// Dialer implements session.Dialer.
type Dialer struct{ config Config }

var _ session.Dialer = (*Dialer)(nil)

// ErrUnknownInstance says that a node was asked to connect to something that is no instance on it.
var ErrUnknownInstance = errors.New("no such instance on this node")

// New makes a Dialer.
func New(config Config) *Dialer {
	if config.Timeout <= 0 {
		config.Timeout = 5 * time.Second
	}
	return &Dialer{config}
}

// Dial connects to an instance. An error means that not a byte was sent to it.
func (d *Dialer) Dial(ctx context.Context, to session.Instance) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	if to.Node == d.config.Self {
		return d.here(ctx, to)
	}
	if d.config.Streams == nil {
		return nil, fmt.Errorf("cannot reach an instance on node %s: this node is alone: %w", to.Node, session.ErrNotFound)
	}
	conn, err := d.config.Streams.Stream(ctx, to.Node, to)
	if err != nil {
		return nil, fmt.Errorf("cannot reach node %s: %w", to.Node, err)
	}
	// The other side says first whether it got through.
	if err := within(ctx, conn, func() error { return tunnel.ReadReply(conn) }); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("cannot reach %s on node %s: %w", to.Address, to.Node, err)
	}
	return conn, nil
}

func (d *Dialer) here(ctx context.Context, to session.Instance) (net.Conn, error) {
	if to.Tunnel != "" {
		if d.config.Tunnels == nil {
			return nil, fmt.Errorf("tunnel %s: %w", to.Tunnel, session.ErrNotFound)
		}
		return d.config.Tunnels.Dial(ctx, to.Tunnel, to.Address)
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, "tcp", to.Address)
}

// within runs I/O on a connection that is given up when ctx ends.
func within(ctx context.Context, conn net.Conn, do func() error) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	err := do()
	if !stop() && err == nil {
		err = ctx.Err()
	}
	return err
}

// ServeStream is the other end of Streams.Stream: it connects to an instance of this node, says so, and passes bytes both
// ways until both directions or ctx ended. It closes conn.
func (d *Dialer) ServeStream(ctx context.Context, conn net.Conn, instance session.Instance) error {
	defer conn.Close()
	back, err := d.admit(ctx, instance)
	if replied := tunnel.WriteReply(conn, err); err != nil || replied != nil {
		if back != nil {
			_ = back.Close()
		}
		return errors.Join(err, replied)
	}
	defer func() { _ = back.Close() }()
	stop := context.AfterFunc(ctx, func() {
		_ = conn.Close()
		_ = back.Close()
	})
	defer stop()
	tunnel.Join(conn, back)
	return nil
}

func (d *Dialer) admit(ctx context.Context, instance session.Instance) (io.ReadWriteCloser, error) {
	if instance.Node != d.config.Self || d.config.Known == nil || !d.config.Known(instance) {
		return nil, fmt.Errorf("%s: %w", instance.Address, ErrUnknownInstance)
	}
	ctx, cancel := context.WithTimeout(ctx, d.config.Timeout)
	defer cancel()
	return d.here(ctx, instance)
}
