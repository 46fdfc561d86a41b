package membership

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// Traffic is what gossip has cost so far: bytes in datagrams and streams, without the headers of UDP, TCP and IP.
type Traffic struct {
	Sent     uint64 `json:"sent"`
	Received uint64 `json:"received"`
}

// Traffic says what this node has sent and received.
func (m *Membership) Traffic() Traffic {
	return Traffic{Sent: m.transport.sent.Load(), Received: m.transport.received.Load()}
}

// transport is memberlist's, with its bytes counted and, where somebody tries that out, some datagrams lost.
type transport struct {
	*memberlist.NetTransport

	lose           func() bool
	cut            func(to string) bool // datagrams and streams alike
	sent, received atomic.Uint64
	packets        chan *memberlist.Packet
	streams        chan net.Conn
	done           chan struct{}
	end            sync.Once
	work           sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*transport)(nil)

// listen opens the sockets: UDP and TCP at the same port. A port that the system chose for TCP may be taken for UDP; then it chooses again.
func listen(host string, port int, lose func() bool, log *slog.Logger) (*transport, error) {
	config := &memberlist.NetTransportConfig{BindAddrs: []string{host}, BindPort: port, Logger: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	inner, err := memberlist.NewNetTransport(config)
	for tries := 1; err != nil && port == 0 && tries < 10; tries++ {
		inner, err = memberlist.NewNetTransport(config)
	}
	if err != nil {
		return nil, err
	}
	t := &transport{NetTransport: inner, lose: lose, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{})}
	t.work.Go(t.receive)
	return t, nil
}

var errCut = errors.New("the way is cut")

// receive passes on what comes.
func (t *transport) receive() {
	for {
		select {
		case p := <-t.NetTransport.PacketCh():
			t.received.Add(uint64(len(p.Buf)))
			select {
			case t.packets <- p:
			case <-t.done:
			}
		case c := <-t.NetTransport.StreamCh():
			select {
			case t.streams <- &counted{c, t}:
			case <-t.done:
				_ = c.Close()
			}
		case <-t.done:
			return
		}
	}
}

// PacketCh is memberlist's: where datagrams come.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is memberlist's: where streams come.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteToAddress is memberlist's: it sends a datagram.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	t.sent.Add(uint64(len(b)))
	if t.cut != nil && t.cut(to.Addr) || t.lose != nil && t.lose() {
		return time.Now(), nil
	}
	return t.NetTransport.WriteToAddress(b, to)
}

// DialAddressTimeout is memberlist's: it opens a stream.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if t.cut != nil && t.cut(to.Addr) {
		return nil, errCut
	}
	c, err := t.NetTransport.DialAddressTimeout(to, timeout)
	if err != nil {
		return nil, err
	}
	return &counted{c, t}, nil
}

// Shutdown is memberlist's. What the sockets' goroutines still hold is taken until they have ended.
func (t *transport) Shutdown() error {
	err := t.NetTransport.Shutdown()
	t.end.Do(func() { close(t.done) })
	t.work.Wait()
	return err
}

// counted is a stream whose bytes are counted.
type counted struct {
	net.Conn

	t *transport
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.t.received.Add(uint64(n)) //nolint:gosec // not negative
	return n, err
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.t.sent.Add(uint64(n)) //nolint:gosec // not negative
	return n, err
}
