// Package outside makes requests to addresses that users name: pages of which they want a preview, gateways for their notifications. Such requests reach only
// what is public, unless the server's configuration names more: otherwise users would reach, by the server, what only the server can reach.
//
// A name is resolved once, and what it was resolved to is checked right before it is dialled, so that a name cannot change in between.
package outside

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

var (
	// ErrPrivate says that an address is not a public one.
	ErrPrivate = errors.New("address is not public")
	// ErrRedirects says that a request was sent on too often.
	ErrRedirects = errors.New("redirected too often")
)

// private are the networks that are not public (IANA, special-purpose address registries).
var private = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.0.0.0/24"), netip.MustParsePrefix("192.0.2.0/24"),
	netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("198.51.100.0/24"),
	netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("224.0.0.0/3"),
	netip.MustParsePrefix("::/8"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("3fff::/20"),
	netip.MustParsePrefix("5f00::/16"), netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/9"), netip.MustParsePrefix("ff00::/8"),
}

// Policy says what may be reached.
type Policy struct {
	Allowed []netip.Prefix // networks that may be reached though they are not public
	Denied  []netip.Prefix // networks that may not be reached in any case
}

// Check says whether an address may be reached; the error is ErrPrivate.
func (p Policy) Check(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	in := func(all []netip.Prefix) bool {
		for _, n := range all {
			if n.Contains(a) {
				return true
			}
		}
		return false
	}
	if in(p.Denied) || !a.IsValid() || in(private) && !in(p.Allowed) {
		return fmt.Errorf("%w: %v", ErrPrivate, a)
	}
	return nil
}

// ParseNetworks reads networks and single addresses.
func ParseNetworks(names []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, name := range names {
		n, err := netip.ParsePrefix(name)
		if a, e := netip.ParseAddr(name); e == nil {
			n, err = netip.PrefixFrom(a, a.BitLen()), nil
		}
		if err != nil {
			return nil, fmt.Errorf("%q is no network, as 10.0.0.0/8 or fd00::/8 is", name)
		}
		all = append(all, n.Masked())
	}
	return all, nil
}

// dialTimeout is how long a connection may take to come about.
const dialTimeout = 10 * time.Second

// Client makes requests that reach only what a policy lets them, by no proxy, and follow a few redirects.
func Client(p Policy, timeout time.Duration, redirects int) *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout, ControlContext: func(_ context.Context, network, address string, _ syscall.RawConn) error {
		if network != "tcp4" && network != "tcp6" {
			return fmt.Errorf("%w: %s %s", ErrPrivate, network, address)
		}
		a, err := netip.ParseAddrPort(address)
		if err != nil {
			return err
		}
		return p.Check(a.Addr())
	}}
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConns: 20, MaxIdleConnsPerHost: 2, MaxConnsPerHost: 8, IdleConnTimeout: time.Minute,
			TLSHandshakeTimeout: dialTimeout, ResponseHeaderTimeout: timeout, MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(q *http.Request, via []*http.Request) error {
			if len(via) > redirects {
				return fmt.Errorf("%w (at most %d times)", ErrRedirects, redirects)
			}
			if q.URL.Scheme != "http" && q.URL.Scheme != "https" {
				return fmt.Errorf("redirected to %s: only http and https are followed", q.URL.Scheme)
			}
			return nil
		},
	}
}
