package node

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain/conn"
	"orrery/fabric/chain/replica"
	"orrery/fabric/chain/wire"
	"orrery/internal/clock"
)

// peer is a node that messages go to, over one connection, which is made when there is something to send. Messages in it stay in order; when it breaks they
// are lost, and the replicas repeat them.
type peer struct {
	node *Node
	id   fabric.NodeID
	out  chan []byte // frames of one step
	live atomic.Pointer[conn.Conn]
}

// pause is how long a node that cannot be reached is left alone.
const pause = 100 * time.Millisecond

// peerRoom is how many bytes wait for a node. It has room for what replicas may have under way, because what finds none is dropped and repeated.
const peerRoom = 64 << 20

// send sends messages to a node, or drops them. It does not wait. Safe for concurrent use; messages of one caller stay in order.
func (p *peer) send(b []byte, messages int) {
	if c := p.live.Load(); c != nil {
		if full, err := c.TryWrite(b); err == nil && !full {
			return
		}
		p.node.metrics.dropped.Add(float64(messages))
		return
	}
	frames := append([]byte{}, b...)
	select {
	case p.out <- frames:
	default:
		p.node.metrics.dropped.Add(float64(messages))
	}
}

// run keeps a connection to the node while there is something to send.
func (p *peer) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case first := <-p.out:
			p.connect(ctx, first)
		}
	}
}

// connect makes a connection and waits until it ends.
func (p *peer) connect(ctx context.Context, first []byte) {
	dial, cancel := context.WithTimeout(ctx, 2*time.Second)
	raw, err := p.node.config.Dial(dial, p.id)
	cancel()
	if err != nil {
		p.node.config.Logger.DebugContext(ctx, "node not reached", "node", p.id, "error", err)
		clock.Wait(ctx, pause)
		return
	}
	c := conn.New(raw, conn.Config{Framing: wire.Framing, Room: peerRoom, WriteTimeout: 5 * time.Second})
	defer func() { _ = c.Close() }()
	stop := context.AfterFunc(ctx, func() { c.End(fabric.ErrClosed) })
	defer stop()
	_ = c.Write(first)
	p.live.Store(c)
	defer p.live.Store(nil)
	// Nothing comes back, but the end.
	var reading sync.WaitGroup
	defer reading.Wait()
	reading.Go(func() {
		for {
			if _, err := c.Read(); err != nil {
				return
			}
		}
	})
	defer func() { c.End(fabric.ErrClosed) }()
	for {
		select {
		case late := <-p.out: // put there before live was set
			_ = c.Write(late)
		case <-c.Done():
			return
		}
	}
}

// outbox gathers the messages of one step by receiver.
type outbox struct {
	node    *Node
	buffers map[fabric.NodeID][]byte
	counts  map[fabric.NodeID]int
}

// add encodes a message.
func (o *outbox) add(m *replica.Message) {
	b, ok := o.buffers[m.To.Node]
	if !ok {
		o.buffers[m.To.Node] = nil
	}
	o.buffers[m.To.Node] = wire.AppendMessage(b, m)
	o.counts[m.To.Node]++
}

// flush sends what was gathered.
func (o *outbox) flush() {
	for id, b := range o.buffers {
		if len(b) == 0 {
			continue
		}
		o.node.metrics.sent.Add(float64(o.counts[id]))
		o.node.peer(id).send(b, o.counts[id])
		if cap(b) > 1<<20 {
			b = nil
		}
		o.buffers[id], o.counts[id] = b[:0], 0
	}
}
