// Package acl is which servers may take part in a room, as its m.room.server_acl event says (clause client-server API, server access control lists).
//
// A List is made of the event's content once, and then asked about servers. It takes what is malformed in the content for what is not there, so that every server
// understands it alike.
package acl

import (
	"fmt"
	"strings"

	"orrery/matrix"
	"orrery/matrix/canonical"
)

// List is what an m.room.server_acl event says. A nil one is that of a room that has no such event.
type List struct {
	// Literals says whether servers may be named by IP addresses: "Defaults to true if missing or otherwise not a boolean".
	Literals bool

	allow, deny *globs
}

// Read is what the content of an event says. What is no list counts as an empty one, and what is no text in a list as not there.
func Read(content canonical.Value) *List {
	return &List{!content.Get("allow_ip_literals").IsFalse(), compile(texts(content.Get("allow"))), compile(texts(content.Get("deny")))}
}

func texts(list canonical.Value) (all []string) {
	for v := range list.Elements {
		if v.Kind() == canonical.String {
			all = append(all, v.String())
		}
	}
	return all
}

// Allow are the patterns of servers that may take part, as they are written. The caller must not change them.
func (l *List) Allow() []string { return l.allow.written }

// Deny are the patterns of servers that may not.
func (l *List) Deny() []string { return l.deny.written }

// Allows says whether a server may take part in the room.
func (l *List) Allows(server string) bool { return l.Judge(server).Allowed }

// Verdict is whether a server may take part in a room, and why.
type Verdict struct {
	Allowed bool
	Step    int    // of the order in which the clause has servers tested, 1 to 5; 0: it is no name of a server
	Pattern string // that fits the server's name, of steps 3 and 4
}

// String says why.
func (v Verdict) String() string {
	switch v.Step {
	case 0:
		return "it is not the name of a server"
	case 1:
		return "the room has no server ACL"
	case 2:
		return "it is an IP address, and allow_ip_literals is false"
	case 3:
		return fmt.Sprintf("%q of deny fits it", v.Pattern)
	case 4:
		return fmt.Sprintf("%q of allow fits it", v.Pattern)
	}
	return "nothing of allow fits it"
}

// Judge tests a server: "the ACLs are applied [...] in the following order: 1. If there is no m.room.server_acl event in the room state, allow. 2. If the server name
// is an IP address (v4 or v6) literal, and allow_ip_literals is present and false, deny. 3. If the server name matches an entry in the deny list, deny. 4. If the
// server name matches an entry in the allow list, allow. 5. Otherwise, deny." Its "port number must not be considered", nor in which case it is written.
// What is not the name of a server no pattern lets in.
func (l *List) Judge(server string) Verdict {
	if l == nil {
		return Verdict{Allowed: true, Step: 1}
	}
	if matrix.ValidServer(server) != nil {
		return Verdict{}
	}
	host := lower(matrix.Host(server))
	if !l.Literals && literal(host) {
		return Verdict{Step: 2}
	}
	if pattern, ok := l.deny.find(host); ok {
		return Verdict{Step: 3, Pattern: pattern}
	}
	if pattern, ok := l.allow.find(host); ok {
		return Verdict{Allowed: true, Step: 4, Pattern: pattern}
	}
	return Verdict{Step: 5}
}

// literal says whether a host is an IP address (clause appendices, server name: IPv4address is four times 1*3DIGIT, IPv6address is in brackets). Numbers above 255
// make no name that DNS has either, so they count as an address, too.
func literal(host string) bool {
	if strings.HasPrefix(host, "[") {
		return true
	}
	parts := strings.Split(host, ".")
	for _, p := range parts {
		if p == "" || len(p) > 3 || strings.Trim(p, "0123456789") != "" {
			return false
		}
	}
	return len(parts) == 4
}
