package dnssd

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"orrery/fabric"
)

// maxKnown bounds what a network full of strangers can make a browser remember.
const maxKnown = 1024

// Browser puts records together that may come in several messages. Its zero value is ready; it is not safe for concurrent use.
type Browser struct {
	Service string // the type whose instances count; empty: Type

	instances map[string]*instance
	hosts     map[string]netip.Addr
}

type instance struct {
	name   string // as it was first heard, to ask for it
	target string
	port   uint16
	txt    map[string]string
}

// Take reads a response. It returns the beacons of all instances that the message is about and that are complete, whichever their
// cluster, and a query for what is missing of others (nil if nothing is).
func (b *Browser) Take(m *dns.Msg) (complete []fabric.Beacon, ask []byte, err error) {
	if b.instances == nil {
		b.instances, b.hosts = map[string]*instance{}, map[string]netip.Addr{}
	}
	touched := map[string]bool{}
	for _, r := range append(slices.Clip(m.Answer), m.Extra...) {
		if key := b.note(r); key != "" {
			touched[key] = true
		}
	}
	var questions []dns.Question
	for key, i := range b.instances {
		if !touched[key] && !touched[i.target] {
			continue
		}
		if beacon, ok := b.beacon(i); ok {
			complete = append(complete, beacon)
		} else if len(questions) < 16 {
			questions = append(questions, b.missing(i)...)
		}
	}
	if len(questions) > 0 {
		ask, err = query(questions...)
	}
	return complete, ask, err
}

func (b *Browser) service() string { return cmp.Or(b.Service, Type) }

// note remembers a record and says what it is about.
func (b *Browser) note(r dns.RR) string {
	h := r.Header()
	switch r := r.(type) {
	case *dns.PTR:
		if same(h.Name, b.service()) {
			return b.pointer(r)
		}
	case *dns.SRV:
		if i := b.known(h); i != nil {
			i.target, i.port = canonical(r.Target), r.Port
			return canonical(h.Name)
		}
	case *dns.TXT:
		if i := b.known(h); i != nil {
			i.txt = pairs(r.Txt)
			return canonical(h.Name)
		}
	case *dns.A:
		return b.address(h, r.A)
	case *dns.AAAA:
		return b.address(h, r.AAAA)
	}
	return ""
}

func (b *Browser) pointer(r *dns.PTR) string {
	key := canonical(r.Ptr)
	if !strings.HasSuffix(key, "."+canonical(b.service())) {
		return ""
	}
	if r.Hdr.Ttl == 0 {
		delete(b.instances, key)
		return ""
	}
	if b.instance(r.Ptr) == nil {
		return ""
	}
	return key
}

// known is the instance that a record is of, nil for a record that takes it back, and for other services.
func (b *Browser) known(h *dns.RR_Header) *instance {
	if h.Ttl == 0 || !strings.HasSuffix(canonical(h.Name), "."+canonical(b.service())) {
		return nil
	}
	return b.instance(h.Name)
}

func (b *Browser) instance(name string) *instance {
	key := canonical(name)
	if b.instances[key] == nil {
		if len(b.instances) >= maxKnown {
			return nil
		}
		b.instances[key] = &instance{name: name}
	}
	return b.instances[key]
}

// address remembers one address of a host, an IPv4 one rather than others: it needs no interface to be said.
func (b *Browser) address(h *dns.RR_Header, raw net.IP) string {
	ip, ok := netip.AddrFromSlice(raw)
	ip = ip.Unmap()
	key := canonical(h.Name)
	if !ok || h.Ttl == 0 || ip.IsLinkLocalUnicast() && ip.Is6() {
		return ""
	}
	before, known := b.hosts[key]
	if !known && len(b.hosts) >= maxKnown || known && before.Is4() && !ip.Is4() {
		return ""
	}
	b.hosts[key] = ip
	return key
}

// beacon is what an instance says, if all is there. One without rpc is reached where its SRV record says.
func (b *Browser) beacon(i *instance) (fabric.Beacon, bool) {
	if i.txt == nil {
		return fabric.Beacon{}, false
	}
	out := fabric.Beacon{Cluster: i.txt["cluster"], ID: fabric.NodeID(i.txt["id"]), Name: i.txt["name"], RPC: i.txt["rpc"], Gossip: i.txt["gossip"]}
	if out.Name == "" {
		out.Name = unescape(dns.SplitDomainName(i.name)[0])
	}
	if out.RPC == "" {
		ip, ok := b.hosts[i.target]
		if !ok || i.port == 0 {
			return fabric.Beacon{}, false
		}
		out.RPC = net.JoinHostPort(ip.String(), strconv.Itoa(int(i.port)))
	}
	return out, true
}

// missing are the questions about an instance that is not complete.
func (b *Browser) missing(i *instance) []dns.Question {
	q := func(name string, kind uint16) dns.Question {
		return dns.Question{Name: dns.Fqdn(name), Qtype: kind, Qclass: dns.ClassINET}
	}
	if i.txt == nil || i.target == "" {
		return []dns.Question{q(i.name, dns.TypeSRV), q(i.name, dns.TypeTXT)}
	}
	return []dns.Question{q(i.target, dns.TypeA), q(i.target, dns.TypeAAAA)}
}

// pairs reads a TXT record: the first of a key counts, and keys have no case (RFC 6763, 6.4).
func pairs(txt []string) map[string]string {
	out := map[string]string{}
	for _, t := range txt {
		key, value, _ := strings.Cut(unescape(t), "=")
		key = strings.ToLower(key)
		if _, ok := out[key]; !ok && key != "" {
			out[key] = value
		}
	}
	return out
}
