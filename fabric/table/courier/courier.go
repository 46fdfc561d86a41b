// Package courier carries the messages of a table between nodes: a stream to each node, over fabric/rpc, fed from a queue that drops what it cannot
// hold, for Raft repairs what is lost. A Courier owns a goroutine for each node that it has written to; Wait waits for them.
package courier

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"orrery/fabric"
	"orrery/fabric/rpc"
	"orrery/fabric/table"
	"orrery/fabric/table/kv"
)

// Kind is the kind of the streams: messages with their lengths, four bytes, big endian, before them.
const Kind = "table"

// Courier is what a table sends by.
type Courier struct {
	client *rpc.Client
	pause  time.Duration   // after which a node that was out of reach is tried again, unless it is heard before
	ctx    context.Context //nolint:containedctx // of the whole node: links live as long as it
	mu     sync.Mutex
	links  map[fabric.NodeID]*link
	wait   sync.WaitGroup
}

// link is the way to a node.
type link struct {
	queue chan []byte
	wake  chan struct{} // holds a token if the node was heard
}

var _ table.Transport = (*Courier)(nil)

// queued bounds how many messages wait for one node.
const queued = 512

// New returns a courier that works until ctx ends.
func New(ctx context.Context, client *rpc.Client) *Courier {
	return &Courier{client: client, pause: 200 * time.Millisecond, ctx: ctx, links: map[fabric.NodeID]*link{}}
}

// Send queues a message for a node, or drops it.
func (t *Courier) Send(to fabric.NodeID, message []byte) {
	select {
	case t.to(to).queue <- message:
	default: // full, or the node is stopping
	}
}

// Greet lets a node know that this one is there, which that one may have been waiting for to send something.
func (t *Courier) Greet(to fabric.NodeID) { t.Send(to, nil) }

// to is the link to a node.
func (t *Courier) to(id fabric.NodeID) *link {
	t.mu.Lock()
	defer t.mu.Unlock()
	l, ok := t.links[id]
	if !ok {
		l = &link{make(chan []byte, queued), make(chan struct{}, 1)}
		if t.ctx.Err() == nil {
			t.links[id] = l
			t.wait.Go(func() { t.feed(id, l) })
		}
	}
	return l
}

// heard says that a node is there: if it was out of reach it is tried again at once.
func (t *Courier) heard(from fabric.NodeID) {
	t.mu.Lock()
	l := t.links[from]
	t.mu.Unlock()
	if l == nil {
		return // there was nothing for it
	}
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// feed keeps a stream to a node open and writes what is queued for it. A node for which there is nothing, perhaps because it has left, is
// left alone.
func (t *Courier) feed(to fabric.NodeID, l *link) {
	for {
		var message []byte
		select {
		case <-t.ctx.Done():
			return
		case message = <-l.queue:
		}
		select {
		case <-l.wake: // that it was heard before it is tried says nothing
		default:
		}
		conn, err := t.client.Stream(t.ctx, to, Kind, struct{}{})
		if err == nil {
			t.write(conn, message, l.queue)
			continue
		}
		timer := time.NewTimer(t.pause)
		select {
		case <-t.ctx.Done():
		case <-timer.C:
		case <-l.wake:
		}
		timer.Stop()
		drain(l.queue)
	}
}

// drain drops what was meant for a node that is out of reach: it is old when it is back.
func drain(link <-chan []byte) {
	for {
		select {
		case <-link:
		default:
			return
		}
	}
}

// write writes a message, and then what is queued, until the stream breaks.
func (t *Courier) write(conn net.Conn, message []byte, link <-chan []byte) {
	defer conn.Close()
	gone := make(chan struct{})
	go func() { // the far side never writes: what ends here is the stream
		defer close(gone)
		_, _ = io.Copy(io.Discard, conn)
	}()
	defer func() { _ = conn.Close(); <-gone }()
	for {
		if len(message) > 0 { // or else it is a greeting, which the stream itself is
			frame := binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(message)), uint32(len(message)))
			if _, err := conn.Write(append(frame, message...)); err != nil {
				return
			}
		}
		select {
		case <-t.ctx.Done():
			return
		case <-gone:
			return
		case message = <-link:
		}
	}
}

// Wait waits for the links, whose context has ended.
func (t *Courier) Wait() { t.wait.Wait() }

// Receiver takes the messages of other nodes for the table. It is what rpc.Mux.HandleStream wants.
func (t *Courier) Receiver(table *table.Table) rpc.StreamHandler {
	return func(_ context.Context, caller fabric.Identity, _ json.RawMessage, accept func() (net.Conn, error)) error {
		conn, err := accept()
		if err != nil {
			return err
		}
		t.heard(caller.ID)
		return receive(table, caller.ID, conn)
	}
}

func receive(t *table.Table, from fabric.NodeID, conn net.Conn) error {
	var length [4]byte
	for {
		if _, err := io.ReadFull(conn, length[:]); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		size := binary.BigEndian.Uint32(length[:])
		if size > 2*kv.MaxSize {
			return fmt.Errorf("message of %d bytes for the table is too large", size)
		}
		message := make([]byte, size)
		if _, err := io.ReadFull(conn, message); err != nil {
			return err
		}
		if err := t.Receive(from, message); err != nil {
			return err
		}
	}
}
