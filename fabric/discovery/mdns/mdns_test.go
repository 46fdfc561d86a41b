package mdns

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/time/rate"

	"orrery/fabric"
	"orrery/fabric/discovery/dnssd"
)

// TestGarbage takes in what is no message, what no responder sent, and more questions than are answered.
func TestGarbage(t *testing.T) {
	socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	own := fabric.Beacon{Cluster: "c1", ID: "i", Name: "n", RPC: "127.0.0.1:1"}
	announcement, err := dnssd.Announce(own)
	if err != nil {
		t.Fatal(err)
	}
	addresses := []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	hello, err := announcement.Hello(addresses)
	if err != nil {
		t.Fatal(err)
	}
	browse, err := dnssd.Browse()
	if err != nil {
		t.Fatal(err)
	}
	var found []fabric.Beacon
	r := &run{way: &Way{}, own: announcement, found: func(b fabric.Beacon) { found = append(found, b) }}
	l := &link{socket: socket, to: socket.LocalAddr().(*net.UDPAddr)}
	l.addresses.Store(&addresses)
	answers := rate.NewLimiter(0, 3)
	good, bad := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}
	for _, garbage := range [][]byte{nil, []byte("{}"), hello[:20], make([]byte, dnssd.MaxMessage+1)} {
		if r.take(l, garbage, good, answers) {
			t.Errorf("%q is taken", garbage)
		}
	}
	if r.take(l, hello, bad, answers) || len(found) != 0 {
		t.Errorf("a response that no responder sent is taken: %+v", found)
	}
	if !r.take(l, hello, good, answers) || len(found) != 1 {
		t.Errorf("a response is not taken: %+v", found)
	}
	taken := 0
	for range 10 {
		if r.take(l, browse, good, answers) {
			taken++
		}
	}
	if taken != 3 {
		t.Errorf("%d of 10 questions are answered, and 3 are allowed", taken)
	}
}
