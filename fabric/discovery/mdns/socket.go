//go:build unix

package mdns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// listen makes the socket that hears and sends for a group on an interface. It is bound to the group itself, beside those of
// other programs; the net package would bind it to every address.
func listen(group netip.Addr, on net.Interface) (net.PacketConn, error) {
	family := syscall.AF_INET
	if group.Is6() {
		family = syscall.AF_INET6
	}
	syscall.ForkLock.RLock()
	fd, err := syscall.Socket(family, syscall.SOCK_DGRAM, 0)
	if err == nil {
		syscall.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s of %s: %w", group, on.Name, err)
	}
	if err := bind(fd, group, on); err != nil {
		_ = syscall.Close(fd)
		return nil, fmt.Errorf("cannot listen on %s of %s: %w", group, on.Name, err)
	}
	f := os.NewFile(uintptr(fd), "mdns")
	defer func() { _ = f.Close() }() // FilePacketConn has a descriptor of its own
	c, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	if err := join(c, group, on); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("cannot join %s on %s: %w", group, on.Name, err)
	}
	return c, nil
}

func bind(fd int, group netip.Addr, on net.Interface) error {
	if err := syscall.SetNonblock(fd, true); err != nil {
		return err
	}
	// Others on this port may have set either.
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return err
	}
	if err := onlyJoined(fd, group.Is6()); err != nil {
		return err
	}
	if group.Is4() {
		return syscall.Bind(fd, &syscall.SockaddrInet4{Port: port, Addr: group.As4()})
	}
	if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
		return err
	}
	return syscall.Bind(fd, &syscall.SockaddrInet6{Port: port, Addr: group.As16(), ZoneId: uint32(on.Index)})
}

// join joins the group on the interface and makes it the one that is sent on.
func join(c net.PacketConn, group netip.Addr, on net.Interface) error {
	to := &net.UDPAddr{IP: group.AsSlice()}
	if group.Is4() {
		p := ipv4.NewPacketConn(c)
		return first(p.JoinGroup(&on, to), p.SetMulticastInterface(&on), p.SetMulticastTTL(255), p.SetTTL(255), p.SetMulticastLoopback(true))
	}
	p := ipv6.NewPacketConn(c)
	return first(p.JoinGroup(&on, to), p.SetMulticastInterface(&on), p.SetMulticastHopLimit(255), p.SetHopLimit(255), p.SetMulticastLoopback(true))
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
