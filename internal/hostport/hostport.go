// Package hostport is about the addresses that a node listens at: free ports, and what others dial.
package hostport

import (
	"context"
	"fmt"
	"net"
)

// OnLoopback keeps a port and leaves out other interfaces.
func OnLoopback(address string) string {
	if _, port, err := net.SplitHostPort(address); err == nil {
		return net.JoinHostPort("127.0.0.1", port)
	}
	return address
}

// Choose replaces port 0 by ports that are free for TCP and UDP, each by one of its own: the system gives a port again
// that was let go, so all are held until the last is chosen.
func Choose(ctx context.Context, addresses []*string) error {
	var held []net.Listener
	defer func() {
		for _, l := range held {
			_ = l.Close() // nothing was read from it
		}
	}()
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(*address)
		if err == nil && port == "0" {
			var l net.Listener
			if l, port, err = choose(ctx, *address, host); err == nil {
				held, *address = append(held, l), net.JoinHostPort(host, port)
			}
		}
		if err != nil {
			return fmt.Errorf("cannot listen at %s: %w", *address, err)
		}
	}
	return nil
}

// choose listens at a port that is free for UDP, too.
func choose(ctx context.Context, address, host string) (tcp net.Listener, port string, err error) {
	var listen net.ListenConfig
	for range 20 {
		if tcp, err = listen.Listen(ctx, "tcp", address); err != nil {
			return nil, "", err
		}
		if _, port, err = net.SplitHostPort(tcp.Addr().String()); err == nil {
			var udp net.PacketConn
			if udp, err = listen.ListenPacket(ctx, "udp", net.JoinHostPort(host, port)); err == nil {
				err = udp.Close()
			}
		}
		if err == nil {
			return tcp, port, nil
		}
		_ = tcp.Close() // nothing was read from it
	}
	return nil, "", fmt.Errorf("no port is free for both TCP and UDP: %w", err)
}

// Own is the address at which others probably reach this machine.
func Own(loopback bool) string {
	addresses, err := net.InterfaceAddrs()
	if loopback || err != nil {
		return "127.0.0.1"
	}
	first := "127.0.0.1"
	for _, a := range addresses {
		ip, ok := a.(*net.IPNet)
		switch {
		case !ok || !ip.IP.IsGlobalUnicast():
		case ip.IP.To4() != nil:
			return ip.IP.String()
		case first == "127.0.0.1": // a machine may have IPv6 only
			first = ip.IP.String()
		}
	}
	return first
}

// Reachable is a listener's address as others dial it: with host where it listens at all addresses.
func Reachable(listen, host string) string {
	own, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	if ip := net.ParseIP(own); own != "" && (ip == nil || !ip.IsUnspecified()) {
		host = own
	}
	return net.JoinHostPort(host, port)
}
