package dnssd

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"orrery/fabric"
)

var (
	own       = fabric.Beacon{Cluster: "c1", ID: "00000000000000a1", Name: "one", RPC: "10.0.0.1:7373", Gossip: "10.0.0.1:7374"}
	addresses = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fe80::1%eth0")}
)

func announce(tb testing.TB, b fabric.Beacon) *Announcement {
	tb.Helper()
	a, err := Announce(b)
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

func message(tb testing.TB, content []byte, err error) *dns.Msg {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
	m, err := Parse(content)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

// TestNames announces nodes of all kinds of names, and reads them again.
func TestNames(t *testing.T) {
	for _, name := range []string{"one", "a.b", `back\slash`, `"quoted"`, "ünï cödé", "(;@$)", strings.Repeat("é", 100), "\x00\x01\xff", `\065`, "=", strings.Repeat("x", 250)} {
		b := own
		b.Name = name
		content, err := announce(t, b).Hello(addresses)
		m := message(t, content, err)
		var browser Browser
		found, ask, err := browser.Take(m)
		if err != nil || ask != nil || len(found) != 1 || found[0] != b {
			t.Errorf("%q: %+v, %q, %v", name, found, ask, err)
		}
	}
}

func TestTooLong(t *testing.T) {
	b := own
	b.Name = strings.Repeat("x", 251)
	if _, err := Announce(b); err == nil {
		t.Error("a record of more than 255 bytes is announced")
	}
	b = own
	b.RPC = "nowhere"
	if _, err := Announce(b); err == nil {
		t.Error("no port is announced")
	}
}

func TestAnswers(t *testing.T) {
	a := announce(t, own)
	in := func(name string, kind uint16) *dns.Msg {
		return &dns.Msg{MsgHdr: dns.MsgHdr{Id: 7}, Question: []dns.Question{{Name: name, Qtype: kind, Qclass: dns.ClassINET}}}
	}
	for name, kind := range map[string]uint16{
		"_Orrery._UDP.local.": dns.TypePTR, "_c1._sub." + Type: dns.TypePTR, types: dns.TypePTR,
		`one\ \(00000000000000A1\).` + Type: dns.TypeSRV, "orrery-00000000000000a1.local.": dns.TypeANY,
	} {
		content, err := a.Answer(in(name, kind), addresses, false)
		if m := message(t, content, err); len(m.Answer) == 0 || m.Id != 0 || len(m.Question) != 0 {
			t.Errorf("%s: %v", name, m)
		}
	}
	for name, kind := range map[string]uint16{"_ipp._tcp.local.": dns.TypePTR, "_c2._sub." + Type: dns.TypePTR, Type: dns.TypeA} {
		if content, err := a.Answer(in(name, kind), addresses, false); content != nil || err != nil {
			t.Errorf("%s is answered: %v", name, err)
		}
	}
	known := in(Type, dns.TypePTR)
	known.Answer = a.records(addresses, ttl)[:1]
	if content, _ := a.Answer(known, addresses, false); content != nil {
		t.Error("what is known is answered")
	}
	known.Answer = a.records(addresses, ttl/3)[:1]
	if content, _ := a.Answer(known, addresses, false); content == nil {
		t.Error("what is known for a short time is not answered")
	}
	content, err := a.Answer(in(Type, dns.TypePTR), addresses, true)
	legacy := message(t, content, err)
	if legacy.Id != 7 || len(legacy.Question) != 1 {
		t.Errorf("legacy answer: %v", legacy)
	}
	for _, r := range append(legacy.Answer, legacy.Extra...) {
		if r.Header().Class != dns.ClassINET || r.Header().Ttl > 10 {
			t.Errorf("legacy answer has %v", r)
		}
	}
}

// TestPieces hears a peer's records one by one, in any order that a responder may choose; what is missing is asked for.
func TestPieces(t *testing.T) {
	zone := `_orrery._udp.local. 120 IN PTR peer._orrery._udp.local.
peer._orrery._udp.local. 120 IN SRV 0 0 9000 host.local.
peer._orrery._udp.local. 120 IN TXT "id=x" "CLUSTER=c1" "cluster=second"
host.local. 120 IN AAAA fe80::9
host.local. 120 IN AAAA fd00::9`
	var browser Browser
	for i, line := range strings.Split(zone, "\n") {
		r, err := dns.NewRR(line)
		if err != nil {
			t.Fatal(err)
		}
		found, ask, err := browser.Take(&dns.Msg{Answer: []dns.RR{r}})
		switch {
		case err != nil:
			t.Fatal(err)
		case i < 4 && len(found) != 0:
			t.Errorf("after %q: %+v", line, found)
		case i < 3:
			message(t, ask, nil)
		case i == 4 && (len(found) != 1 || found[0] != fabric.Beacon{Cluster: "c1", ID: "x", Name: "peer", RPC: "[fd00::9]:9000"}):
			t.Errorf("found %+v", found)
		}
	}
}

func TestGoodbye(t *testing.T) {
	a := announce(t, own)
	var browser Browser
	content, err := a.Hello(addresses)
	if found, _, err := browser.Take(message(t, content, err)); len(found) != 1 || err != nil {
		t.Fatalf("found %+v, %v", found, err)
	}
	content, err = a.Goodbye(addresses)
	m := message(t, content, err)
	for _, r := range m.Answer {
		if r.Header().Ttl != 0 || r.Header().Name == types {
			t.Errorf("goodbye has %v", r)
		}
	}
	if found, _, err := browser.Take(m); len(found) != 0 || err != nil || len(browser.instances) != 0 {
		t.Errorf("found %+v, %v", found, err)
	}
}

// TestFlood hears of more instances than are remembered.
func TestFlood(t *testing.T) {
	var browser Browser
	for i := range 3 * maxKnown {
		b := own
		b.ID = fabric.NodeID(strings.Repeat("f", i%7) + string(rune('a'+i%26)) + strings.Repeat("0", i/200))
		content, err := announce(t, b).Hello(addresses)
		if _, _, err := browser.Take(message(t, content, err)); err != nil {
			t.Fatal(err)
		}
	}
	if len(browser.instances) > maxKnown || len(browser.hosts) > maxKnown {
		t.Errorf("%d instances and %d hosts are remembered", len(browser.instances), len(browser.hosts))
	}
}

func FuzzTake(f *testing.F) {
	a := announce(f, own)
	hello, _ := a.Hello(addresses)
	bye, _ := a.Goodbye(nil)
	browse, _ := Browse()
	for _, seed := range [][]byte{hello, bye, browse, {}, hello[:len(hello)-3], []byte(strings.Repeat("\xc0\x0c", 40))} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		m, err := Parse(content)
		if err != nil {
			return
		}
		if _, err := a.Answer(m, addresses, true); err != nil {
			_, err = a.Answer(m, addresses, false)
			if err != nil {
				return // a question that cannot be packed again
			}
		}
		var browser Browser
		_, _, _ = browser.Take(m)
		_, _, _ = browser.Take(m)
	})
}

// TestOtherService: instances of another type are told apart from nodes.
func TestOtherService(t *testing.T) {
	const other = "_other._udp.local."
	a, err := AnnounceAs(other, own)
	if err != nil {
		t.Fatal(err)
	}
	content, err := a.Hello(addresses)
	m := message(t, content, err)
	nodes, others := Browser{}, Browser{Service: other}
	if found, _, err := nodes.Take(m); err != nil || len(found) != 0 {
		t.Errorf("%+v, %v", found, err)
	}
	if found, _, err := others.Take(m); err != nil || len(found) != 1 || found[0] != own {
		t.Errorf("%+v, %v", found, err)
	}
	browse, err := BrowseFor(other)
	if answer, err := a.Answer(message(t, browse, err), addresses, false); err != nil || answer == nil {
		t.Errorf("no answer: %v", err)
	}
	if answer, err := announce(t, own).Answer(message(t, browse, err), addresses, false); err != nil || answer != nil {
		t.Errorf("a node answers: %v", err)
	}
}
