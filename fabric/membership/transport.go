package membership

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
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

// transport is the sockets of gossip: UDP and TCP at one port. Its bytes are counted and, where somebody tries that out, some datagrams lost. memberlist's own takes
// 64 KiB of memory for every datagram that comes, which with many nodes in a process is most of its work.
type transport struct {
	udp  *net.UDPConn
	tcp  *net.TCPListener
	log  *slog.Logger
	lose func() bool
	cut  func(network, to string) bool // udp or tcp

	sent, received atomic.Uint64
	packets        chan *memberlist.Packet
	streams        chan net.Conn
	ctx            context.Context //nolint:containedctx // of the streams, which memberlist opens without one
	cancel         context.CancelFunc
	work           sync.WaitGroup
}

var (
	_ memberlist.NodeAwareTransport = (*transport)(nil)

	errCut = errors.New("the way is cut")
)

const (
	maxDatagram   = 64 << 10
	receiveBuffer = 2 << 20 // of the system, for datagrams that wait
	acceptPause   = 50 * time.Millisecond
)

// listen opens the sockets. A port that the system chose for TCP may be taken for UDP; then it chooses again.
func listen(ctx context.Context, host string, port int, log *slog.Logger) (*transport, error) {
	ip := net.ParseIP(host)
	if ip == nil {
		return nil, fmt.Errorf("%q is no IP address", host)
	}
	t := &transport{log: log, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn)}
	err := t.open(ip, port)
	for tries := 1; err != nil && port == 0 && tries < 10; tries++ {
		err = t.open(ip, port)
	}
	if err != nil {
		return nil, err
	}
	for size := receiveBuffer; size > 0 && t.udp.SetReadBuffer(size) != nil; size /= 2 { // as much as the system lets us have
	}
	t.ctx, t.cancel = context.WithCancel(context.WithoutCancel(ctx))
	t.work.Go(t.receive)
	t.work.Go(t.accept)
	return t, nil
}

func (t *transport) open(ip net.IP, port int) (err error) {
	if t.tcp, err = net.ListenTCP("tcp", &net.TCPAddr{IP: ip, Port: port}); err != nil {
		return err
	}
	if t.udp, err = net.ListenUDP("udp", &net.UDPAddr{IP: ip, Port: t.port()}); err != nil {
		return errors.Join(err, t.tcp.Close())
	}
	return nil
}

func (t *transport) port() int {
	address, ok := t.tcp.Addr().(*net.TCPAddr)
	if !ok {
		return 0 // a TCP listener has one
	}
	return address.Port
}

// receive passes on datagrams.
func (t *transport) receive() {
	buffer := make([]byte, maxDatagram)
	for {
		n, from, err := t.udp.ReadFrom(buffer)
		at := time.Now()
		switch {
		case t.ctx.Err() != nil:
			return
		case err != nil:
			t.log.Debug("gossip", "detail", "cannot read a datagram", "error", err)
			continue
		}
		t.received.Add(uint64(n)) //nolint:gosec // not negative
		select {
		case t.packets <- &memberlist.Packet{Buf: slices.Clone(buffer[:n]), From: from, Timestamp: at}:
		case <-t.ctx.Done():
			return
		}
	}
}

// accept passes on streams.
func (t *transport) accept() {
	for {
		c, err := t.tcp.Accept()
		switch {
		case t.ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return
		case err != nil: // as when there are too many open files: that may be over soon
			t.log.Warn("gossip", "detail", "cannot accept a connection", "error", err)
			wait := time.NewTimer(acceptPause)
			select {
			case <-wait.C:
			case <-t.ctx.Done():
			}
			wait.Stop()
			continue
		}
		select {
		case t.streams <- t.counted(c):
		case <-t.ctx.Done():
			_ = c.Close()
			return
		}
	}
}

// FinalAdvertiseAddr is memberlist's: where others reach this node.
func (t *transport) FinalAdvertiseAddr(ip string, _ int) (net.IP, int, error) {
	address := net.ParseIP(ip)
	if address == nil {
		return nil, 0, fmt.Errorf("%q is no IP address", ip)
	}
	if short := address.To4(); short != nil {
		address = short
	}
	return address, t.port(), nil
}

// PacketCh is memberlist's: where datagrams come.
func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh is memberlist's: where streams come.
func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// WriteTo is memberlist's: it sends a datagram.
func (t *transport) WriteTo(b []byte, to string) (time.Time, error) {
	return t.WriteToAddress(b, memberlist.Address{Addr: to})
}

// WriteToAddress is memberlist's: it sends a datagram.
func (t *transport) WriteToAddress(b []byte, to memberlist.Address) (time.Time, error) {
	t.sent.Add(uint64(len(b)))
	if t.cut != nil && t.cut("udp", to.Addr) || t.lose != nil && t.lose() {
		return time.Now(), nil
	}
	address, err := netip.ParseAddrPort(to.Addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = t.udp.WriteToUDPAddrPort(b, address)
	return time.Now(), err
}

// DialTimeout is memberlist's: it opens a stream.
func (t *transport) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: to}, timeout)
}

// DialAddressTimeout is memberlist's: it opens a stream.
func (t *transport) DialAddressTimeout(to memberlist.Address, timeout time.Duration) (net.Conn, error) {
	if t.cut != nil && t.cut("tcp", to.Addr) {
		return nil, errCut
	}
	c, err := (&net.Dialer{Timeout: timeout}).DialContext(t.ctx, "tcp", to.Addr)
	if err != nil {
		return nil, err
	}
	return t.counted(c), nil
}

// Shutdown is memberlist's. It ends the streams, too.
func (t *transport) Shutdown() error {
	t.cancel()
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	t.work.Wait()
	return err
}

// counted is a stream that is counted, until the sockets are closed.
func (t *transport) counted(c net.Conn) net.Conn {
	return &counted{c, t, context.AfterFunc(t.ctx, func() { _ = c.Close() })}
}

// counted is a stream whose bytes are counted.
type counted struct {
	net.Conn

	t    *transport
	stop func() bool
}

// Close closes it.
func (c *counted) Close() error {
	c.stop()
	return c.Conn.Close()
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
