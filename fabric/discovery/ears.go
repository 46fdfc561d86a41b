package discovery

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"orrery/internal/clock"
)

// maxHeard datagrams a second are decoded by a socket; a flood beyond is dropped unread.
const maxHeard = 500

// ears are the sockets: for each IPv4 address of an interface one that sends and hears answers, one that
// hears its broadcasts, and one that hears the group there; and for its link-local IPv6 address the first and the last of these.
type ears struct {
	config Config
	hear   func(m message, via string) (answer *message)
	drop   *atomic.Uint64
	work   sync.WaitGroup
	say    sync.Mutex // hear runs once at a time

	// Only one goroutine refreshes and sends.
	links  map[place]*link
	failed map[place]bool // logged
}

// place is one address of an interface.
type place struct {
	prefix netip.Prefix
	zone   string // the interface's name, of an IPv6 address
	index  int    // the interface's
}

// String names the address.
func (p place) String() string {
	if p.zone != "" {
		return p.prefix.Addr().String() + "%" + p.zone
	}
	return p.prefix.String()
}

// group is where the other nodes there listen.
func (p place) group() netip.Addr {
	if p.zone != "" {
		return group6.WithZone(p.zone)
	}
	return netip.AddrFrom4(group)
}

// link is a place that is used.
type link struct {
	place
	broadcast netip.Addr // not valid: the link has none
	sender    *net.UDPConn
	listeners []net.PacketConn
}

func newEars(config Config, hear func(message, string) *message, drop *atomic.Uint64) *ears {
	return &ears{config: config, hear: hear, drop: drop, links: map[place]*link{}, failed: map[place]bool{}}
}

// refresh opens sockets on new addresses and closes those of addresses that are gone.
func (e *ears) refresh(ctx context.Context) {
	if e.config.NoBeacon {
		return
	}
	now := map[place]bool{}
	for _, p := range addresses(e.config.Loopback) {
		now[p] = true
		if e.links[p] != nil {
			continue
		}
		l, err := e.open(ctx, p)
		if p.zone != "" && errors.Is(err, syscall.EADDRNOTAVAIL) {
			continue // the interface makes sure that nobody else has the address, which takes a second or two
		}
		if err != nil && !e.failed[p] {
			e.config.Logger.WarnContext(ctx, "interface is only partly used for discovery", "address", p.String(), "error", err)
		}
		e.failed[p] = err != nil
		if l != nil {
			e.links[p] = l
		}
	}
	for p, l := range e.links {
		if !now[p] {
			l.close()
			delete(e.links, p)
		}
	}
}

// addresses are the addresses of the interfaces to use: those of IPv4, and of each interface that has multicast one link-local one of IPv6. A
// machine talks to itself by IPv4.
func addresses(loopback bool) []place {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var found []place
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 || loopback && i.Flags&net.FlagLoopback == 0 {
			continue
		}
		all, err := i.Addrs()
		if err != nil {
			continue
		}
		six := i.Flags&net.FlagMulticast != 0 && !loopback
		for _, a := range all {
			// The loopback interface may have other addresses too, whose broadcasts the routes may send elsewhere.
			p, err := netip.ParsePrefix(a.String())
			switch {
			case err != nil:
			case p.Addr().Is4() && (!loopback || p.Addr().IsLoopback()):
				found = append(found, place{prefix: p, index: i.Index})
			case six && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast():
				found, six = append(found, place{prefix: p, zone: i.Name, index: i.Index}), false
			}
		}
	}
	return found
}

// broadcastOf is the last address of a network; small ones have none, and those of IPv6.
func broadcastOf(p netip.Prefix) netip.Addr {
	if p.Addr().Is6() || p.Bits() > 30 {
		return netip.Addr{}
	}
	b := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}

// open makes the sockets of an address. Those that can be made are used; the error says which
// cannot. The link is nil if nothing can be sent.
func (e *ears) open(ctx context.Context, p place) (*link, error) {
	sender, err := listenSender(ctx, p)
	if err != nil {
		return nil, err
	}
	l := &link{place: p, sender: sender, broadcast: broadcastOf(p.prefix)}
	var errs []error
	if c, err := listenShared(p.group(), e.config.Port, p); err != nil {
		errs = append(errs, err)
	} else {
		l.listeners = append(l.listeners, c)
		e.listen(ctx, c, l, ViaMulticast)
	}
	via := ViaBroadcast
	switch {
	case p.prefix.Addr().IsLoopback():
		via = ViaLoopback
	case p.zone != "":
		via = ViaMulticast
	}
	if l.broadcast.IsValid() {
		if c, err := listenShared(l.broadcast, e.config.Port, p); err != nil {
			errs = append(errs, err)
		} else {
			l.listeners = append(l.listeners, c)
			e.listen(ctx, c, l, via)
		}
	}
	e.listen(ctx, sender, l, via)
	return l, errors.Join(errs...)
}

// listen reads a socket until it is closed. Errors of a datagram (a port that was unreachable) pass.
func (e *ears) listen(ctx context.Context, c net.PacketConn, l *link, via string) {
	e.work.Go(func() {
		rate := bucket{rate: maxHeard, burst: maxHeard}
		buffer := make([]byte, maxDatagram+1)
		for {
			n, from, err := c.ReadFrom(buffer)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err != nil {
				if !clock.Wait(ctx, 10*time.Millisecond) {
					return
				}
				continue
			}
			if !rate.take(time.Now()) || !e.take(buffer[:n], from, l, via) {
				e.drop.Add(1)
			}
		}
	})
}

// take takes a datagram in; false: it is none of ours.
func (e *ears) take(content []byte, from net.Addr, l *link, via string) bool {
	m, err := decode(content)
	if err != nil {
		return false
	}
	if m.Via != "" {
		via = m.Via
	}
	e.say.Lock()
	answer := e.hear(m, via)
	e.say.Unlock()
	if answer == nil {
		return true
	}
	if encoded, err := encode(*answer); err == nil {
		_, _ = l.sender.WriteTo(encoded, from)
	}
	return true
}

// send sends to the group and the broadcast address of every link. What does not get through is sent again at the next interval.
func (e *ears) send(ctx context.Context, m message) {
	encoded, err := encode(m)
	if err != nil {
		return
	}
	for _, l := range e.links {
		sent := 0
		for _, to := range []netip.Addr{l.group(), l.broadcast} {
			if !to.IsValid() {
				continue
			}
			if _, err := l.sender.WriteToUDPAddrPort(encoded, netip.AddrPortFrom(to, uint16(e.config.Port))); err == nil {
				sent++
			}
		}
		if sent == 0 && !e.failed[l.place] {
			e.failed[l.place] = true
			e.config.Logger.WarnContext(ctx, "interface refuses multicast and broadcast", "address", l.String())
		}
	}
}

func (l *link) close() {
	_ = l.sender.Close()
	for _, c := range l.listeners {
		_ = c.Close()
	}
}

func (e *ears) close() {
	for _, l := range e.links {
		l.close()
	}
	e.work.Wait()
}
