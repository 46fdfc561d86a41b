package membership

import (
	"context"
	"net"
	"net/netip"
)

// advertised is the address at which others reach the gossip of a node that listens at bind. Where that is all addresses, it is the one that others reach
// the node's mutual-TLS listener at; a name may stand for the machine itself in its own eyes, and then its first address has to do.
func advertised(ctx context.Context, bind, rpc string) string {
	if usable(bind) {
		return bind
	}
	host, _, err := net.SplitHostPort(rpc)
	if err != nil {
		host = rpc
	}
	if usable(host) {
		return host
	}
	if found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); err == nil {
		if best := best(found); best != "" {
			return best
		}
	}
	var own []netip.Addr
	if interfaces, err := net.InterfaceAddrs(); err == nil {
		for _, i := range interfaces {
			if prefix, err := netip.ParsePrefix(i.String()); err == nil {
				own = append(own, prefix.Addr())
			}
		}
	}
	if best := best(own); best != "" {
		return best
	}
	return "127.0.0.1"
}

// usable says whether a host is an address of one machine.
func usable(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && !a.IsUnspecified()
}

// best is the first address that other machines may reach, IPv4 before IPv6.
func best(all []netip.Addr) string {
	first := ""
	for _, a := range all {
		a = a.Unmap()
		switch {
		case !a.IsGlobalUnicast():
		case a.Is4():
			return a.String()
		case first == "":
			first = a.String()
		}
	}
	return first
}
