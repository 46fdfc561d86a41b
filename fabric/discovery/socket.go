//go:build unix

package discovery

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
)

// listenShared binds a socket to exactly address (a group or a broadcast address) beside those of
// other nodes on this machine. A group is joined on an interface. The net package would bind
// a group's socket to every address, so it is made by hand.
func listenShared(address netip.Addr, port int, on place) (c net.PacketConn, err error) {
	family := syscall.AF_INET
	if address.Is6() {
		family = syscall.AF_INET6
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := prepareShared(fd, address, port, on); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("listening on %s port %d: %w", address, port, err)
	}
	f := os.NewFile(uintptr(fd), "discovery")
	defer func() { _ = f.Close() }() // FilePacketConn has a descriptor of its own
	return net.FilePacketConn(f)
}

func prepareShared(fd int, address netip.Addr, port int, on place) error {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	if err := shareAddress(fd); err != nil {
		return err
	}
	if address.Is6() {
		m := &syscall.IPv6Mreq{Multiaddr: address.As16(), Interface: uint32(on.index)} //nolint:gosec // not negative
		return first(
			syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1),
			syscall.SetsockoptIPv6Mreq(fd, syscall.IPPROTO_IPV6, syscall.IPV6_JOIN_GROUP, m),
			onlyJoined(fd, true),
			syscall.Bind(fd, &syscall.SockaddrInet6{Port: port, Addr: address.As16(), ZoneId: m.Interface}),
		)
	}
	if address.IsMulticast() {
		m := &syscall.IPMreq{Multiaddr: address.As4(), Interface: on.prefix.Addr().As4()}
		if err := syscall.SetsockoptIPMreq(fd, syscall.IPPROTO_IP, syscall.IP_ADD_MEMBERSHIP, m); err != nil {
			return err
		}
		if err := onlyJoined(fd, false); err != nil {
			return err
		}
	}
	return syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: address.As4()})
}

// listenSender makes the socket that sends from an interface's address, and hears answers.
func listenSender(ctx context.Context, from place) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) { failed = prepareSender(int(fd), from) })
		if err != nil {
			return err
		}
		return failed
	}}
	c, err := lc.ListenPacket(ctx, "udp", netip.AddrPortFrom(from.prefix.Addr().WithZone(from.zone), 0).String())
	if err != nil {
		return nil, err
	}
	return c.(*net.UDPConn), nil
}

func prepareSender(fd int, from place) error {
	if from.zone != "" {
		return first(
			syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_MULTICAST_IF, from.index),
			syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_MULTICAST_HOPS, 1),
			syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_MULTICAST_LOOP, 1),
		)
	}
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_BROADCAST, 1); err != nil {
		return err
	}
	// lo often lacks the MULTICAST flag, and no route leads to the group: the interface is chosen here.
	if err := syscall.SetsockoptInet4Addr(fd, syscall.IPPROTO_IP, syscall.IP_MULTICAST_IF, from.prefix.Addr().As4()); err != nil {
		return err
	}
	if err := syscall.SetsockoptByte(fd, syscall.IPPROTO_IP, syscall.IP_MULTICAST_TTL, 1); err != nil {
		return err
	}
	return syscall.SetsockoptByte(fd, syscall.IPPROTO_IP, syscall.IP_MULTICAST_LOOP, 1)
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
