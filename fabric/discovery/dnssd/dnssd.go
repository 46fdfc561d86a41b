// Package dnssd says in DNS records what a beacon says (DNS-SD, RFC 6763, in the domain local of multicast DNS, RFC 6762),
// and reads such records. It is pure: messages in, messages and beacons out.
//
// A node is an instance of _orrery._udp, named NAME (ID), so that the nodes of several clusters do not collide. Its SRV record leads to the
// mutual-TLS listener, and its TXT record has txtvers, cluster, id, name, rpc and gossip: what a beacon has, and nothing secret.
// Each cluster is a subtype, _CLUSTER._sub._orrery._udp. Names may hold any characters; they are escaped as labels.
package dnssd

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/miekg/dns"

	"orrery/fabric"
)

const (
	// Type is what nodes are instances of. Other programs that use this package have types of their own.
	Type = "_orrery._udp.local."
	// types is where browsers ask which types there are.
	types = "_services._dns-sd._udp.local."

	ttl      = 120    // seconds, of records that name a host, and so of all of ours
	flush    = 0x8000 // in the class: this is the whole of the set of records
	maxLabel = 63
	// MaxMessage is the largest message that is read or written.
	MaxMessage = 9000
)

// Announcement are the records of one node.
type Announcement struct {
	service, instance, host, subtype string
	port                             uint16
	txt                              []string
}

// Announce makes the records of a beacon, as an instance of Type.
func Announce(b fabric.Beacon) (*Announcement, error) { return AnnounceAs(Type, b) }

// AnnounceAs makes the records of a beacon, as an instance of another type.
func AnnounceAs(service string, b fabric.Beacon) (*Announcement, error) {
	_, port, err := net.SplitHostPort(b.RPC)
	if err != nil {
		return nil, fmt.Errorf("cannot announce node %q by DNS-SD: %w", b.Name, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("cannot announce node %q by DNS-SD: %w", b.Name, err)
	}
	a := &Announcement{
		service:  service,
		instance: label(b.Name, " ("+string(b.ID)+")") + "." + service,
		host:     label("orrery-"+string(b.ID), "") + ".local.",
		subtype:  label("_"+b.Cluster, "") + "._sub." + service,
		port:     uint16(number),
	}
	for _, field := range []struct{ key, value string }{
		{"txtvers", "1"}, {"cluster", b.Cluster}, {"id", string(b.ID)}, {"name", b.Name}, {"rpc", b.RPC}, {"gossip", b.Gossip},
	} {
		pair := field.key + "=" + field.value
		if len(pair) > 255 {
			return nil, fmt.Errorf("cannot announce node %q by DNS-SD: its %s has %d bytes, and 255 are possible with its key", b.Name, field.key, len(pair))
		}
		a.txt = append(a.txt, escape(pair))
	}
	return a, nil
}

// label makes one label of any text, and cuts the text so that the label with what follows has at most 63 bytes.
func label(text, follows string) string {
	room := max(maxLabel-len(follows), 0)
	if len(text) > room {
		text = text[:room]
		for len(text) > 0 && !utf8.ValidString(text) {
			text = text[:len(text)-1]
		}
	}
	all := text + follows
	return escapeLabel(all[:min(len(all), maxLabel)])
}

// escapeLabel writes a label as text of a zone file.
func escapeLabel(raw string) string {
	var b strings.Builder
	for _, c := range []byte(raw) {
		switch {
		case strings.IndexByte(`."\();@$`, c) >= 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		case c <= ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// escape writes a string of a TXT record as text of a zone file.
func escape(raw string) string {
	var b strings.Builder
	for _, c := range []byte(raw) {
		switch {
		case c == '"' || c == '\\':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c >= 0x7f:
			fmt.Fprintf(&b, `\%03d`, c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unescape is the opposite of both.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] != '\\' || i+1 >= len(text) {
			b.WriteByte(text[i])
			continue
		}
		if i+3 < len(text) {
			if n, err := strconv.ParseUint(text[i+1:i+4], 10, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		i++
		b.WriteByte(text[i])
	}
	return b.String()
}

// records are all records, with the addresses of the interface that they are sent on.
func (a *Announcement) records(addresses []netip.Addr, ttl uint32) []dns.RR {
	head := func(name string, kind, class uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: kind, Class: class, Ttl: ttl}
	}
	pointer := func(name, to string) dns.RR { return &dns.PTR{Hdr: head(name, dns.TypePTR, dns.ClassINET), Ptr: to} }
	all := []dns.RR{
		pointer(a.service, a.instance), pointer(a.subtype, a.instance), pointer(types, a.service),
		&dns.SRV{Hdr: head(a.instance, dns.TypeSRV, dns.ClassINET|flush), Port: a.port, Target: a.host},
		&dns.TXT{Hdr: head(a.instance, dns.TypeTXT, dns.ClassINET|flush), Txt: a.txt},
	}
	for _, ip := range addresses {
		if ip.Is4() {
			all = append(all, &dns.A{Hdr: head(a.host, dns.TypeA, dns.ClassINET|flush), A: ip.AsSlice()})
		} else {
			all = append(all, &dns.AAAA{Hdr: head(a.host, dns.TypeAAAA, dns.ClassINET|flush), AAAA: ip.WithZone("").AsSlice()})
		}
	}
	return all
}

// Hello is the message by which a node announces itself on an interface with these addresses.
func (a *Announcement) Hello(addresses []netip.Addr) ([]byte, error) {
	return response(a.records(addresses, ttl), nil)
}

// Goodbye is the message that takes the announcement back.
func (a *Announcement) Goodbye(addresses []netip.Addr) ([]byte, error) {
	all := a.records(addresses, 0)
	return response(append(all[:2:2], all[3:]...), nil) // the type itself may have other instances
}

func response(answer, extra []dns.RR) ([]byte, error) {
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Response: true, Authoritative: true}, Answer: answer, Extra: extra, Compress: true}
	return m.Pack()
}

// Answer is the answer to a query, nil if the query does not concern the node or its asker knows all already. A legacy asker is
// one that did not ask from the port of multicast DNS: it gets the id and question back.
func (a *Announcement) Answer(q *dns.Msg, addresses []netip.Addr, legacy bool) ([]byte, error) {
	all := a.records(addresses, ttl)
	var answer []dns.RR
	taken := map[int]bool{}
	for _, question := range q.Question[:min(len(q.Question), 32)] {
		for i, r := range all {
			h := r.Header()
			if taken[i] || !asks(question, h) || knows(q.Answer, r) {
				continue
			}
			taken[i] = true
			answer = append(answer, r)
		}
	}
	if len(answer) == 0 {
		return nil, nil
	}
	var extra []dns.RR
	for i, r := range all {
		if !taken[i] && i > 2 { // whoever wants a pointer wants what it points at
			extra = append(extra, r)
		}
	}
	if !legacy {
		return response(answer, extra)
	}
	for _, r := range append(slices.Clip(answer), extra...) {
		r.Header().Class &^= flush
		r.Header().Ttl = 10
	}
	m := &dns.Msg{MsgHdr: dns.MsgHdr{Id: q.Id, Response: true, Authoritative: true}, Question: q.Question, Answer: answer, Extra: extra, Compress: true}
	return m.Pack()
}

func asks(q dns.Question, h *dns.RR_Header) bool {
	class := q.Qclass &^ flush
	return (q.Qtype == h.Rrtype || q.Qtype == dns.TypeANY) && (class == dns.ClassINET || class == dns.ClassANY) && same(q.Name, h.Name)
}

// knows says whether an asker listed a record as known, with at least half of its life left.
func knows(known []dns.RR, r dns.RR) bool {
	p, ok := r.(*dns.PTR)
	if !ok {
		return false
	}
	for _, k := range known {
		if kp, ok := k.(*dns.PTR); ok && kp.Hdr.Ttl >= ttl/2 && same(kp.Hdr.Name, p.Hdr.Name) && same(kp.Ptr, p.Ptr) {
			return true
		}
	}
	return false
}

// same compares names, which may be escaped differently, without regard to case.
func same(a, b string) bool { return strings.EqualFold(canonical(a), canonical(b)) }

func canonical(name string) string {
	labels := dns.SplitDomainName(name)
	for i, l := range labels {
		labels[i] = escapeLabel(unescape(l))
	}
	return strings.ToLower(strings.Join(labels, "."))
}

// Browse is the query for all nodes.
func Browse() ([]byte, error) { return BrowseFor(Type) }

// BrowseFor is the query for all instances of another type.
func BrowseFor(service string) ([]byte, error) {
	return query(dns.Question{Name: service, Qtype: dns.TypePTR, Qclass: dns.ClassINET})
}

func query(questions ...dns.Question) ([]byte, error) {
	m := &dns.Msg{Question: questions}
	return m.Pack()
}

// ErrMalformed says that a datagram is no message of multicast DNS.
var ErrMalformed = errors.New("not a message of multicast DNS")

// Parse reads a datagram.
func Parse(content []byte) (*dns.Msg, error) {
	m := new(dns.Msg)
	if len(content) > MaxMessage || m.Unpack(content) != nil || m.Opcode != dns.OpcodeQuery || m.Rcode != dns.RcodeSuccess {
		return nil, ErrMalformed
	}
	return m, nil
}
