package discovery

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"orrery/fabric"
)

func FuzzDecode(f *testing.F) {
	own := fabric.Beacon{Cluster: "c", ID: "i", Name: "n", RPC: "127.0.0.1:1", Gossip: "[::1]:2"}
	for _, m := range []message{{Kind: kindAsk, Cluster: "c"}, {Kind: kindBeacon, Beacon: &own}, {Kind: kindBeacon, Beacon: &own, Via: ViaLoopback}} {
		content, err := encode(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Add([]byte(`{"orrery":1,"kind":"beacon"}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := decode(content)
		if err != nil {
			return
		}
		if m.Kind == kindBeacon && !valid(*m.Beacon) {
			t.Errorf("%q was accepted", content)
		}
	})
}

func TestBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := bucket{rate: 10, burst: 5}
		count := func() (n int) {
			for b.take(time.Now()) {
				n++
			}
			return n
		}
		if n := count(); n != 5 {
			t.Errorf("%d at once", n)
		}
		time.Sleep(time.Second / 5)
		if n := count(); n != 2 {
			t.Errorf("%d after a fifth of a second", n)
		}
	})
}

func TestBroadcastOf(t *testing.T) {
	for prefix, want := range map[string]string{"127.0.0.1/8": "127.255.255.255", "192.168.7.9/24": "192.168.7.255", "10.1.2.3/30": "10.1.2.3", "10.0.0.1/32": "invalid IP", "fe80::1/10": "invalid IP"} {
		if got := broadcastOf(netip.MustParsePrefix(prefix)).String(); got != want {
			t.Errorf("%s: %s, want %s", prefix, got, want)
		}
	}
}

// TestLoopbackOnly: whatever addresses the machine has, also on its loopback interface, only 127.0.0.0/8 is used.
func TestLoopbackOnly(t *testing.T) {
	found := addresses(true)
	if len(found) == 0 {
		t.Fatal("no loopback address")
	}
	for _, p := range found {
		if b := broadcastOf(p.prefix); !p.prefix.Addr().IsLoopback() || b.IsValid() && !b.IsLoopback() {
			t.Errorf("%s is used, with broadcast %s", p, b)
		}
	}
}
