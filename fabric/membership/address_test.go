package membership

import (
	"net/netip"
	"testing"
)

func TestAdvertised(t *testing.T) {
	for _, c := range []struct{ bind, rpc, want string }{
		{"127.0.0.1", "10.0.0.1:7373", "127.0.0.1"},
		{"0.0.0.0", "10.0.0.1:7373", "10.0.0.1"},
		{"::", "[fd00::1]:7373", "fd00::1"},
	} {
		if got := advertised(t.Context(), c.bind, c.rpc); got != c.want {
			t.Errorf("bound to %s, reached at %s: advertises %s", c.bind, c.rpc, got)
		}
	}
	for _, rpc := range []string{"0.0.0.0:7373", "localhost:7373", "no.such.name.invalid:7373", "nonsense"} {
		if got := advertised(t.Context(), "0.0.0.0", rpc); !usable(got) {
			t.Errorf("reached at %s: advertises %q", rpc, got)
		}
	}
	var all []netip.Addr
	for _, a := range []string{"127.0.0.1", "fe80::1", "fd00::1", "::ffff:10.1.2.3", "10.9.9.9"} {
		all = append(all, netip.MustParseAddr(a))
	}
	if got := best(all); got != "10.1.2.3" {
		t.Errorf("%s is best", got)
	}
	if got := best(all[:3]); got != "fd00::1" {
		t.Errorf("%s is best without IPv4", got)
	}
}
