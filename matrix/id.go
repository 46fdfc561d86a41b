package matrix

import (
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"
)

// Domain is the server name in an identifier: what follows the first colon; "" if there is none.
func Domain(id string) string {
	_, domain, _ := strings.Cut(id, ":")
	return domain
}

// Host is the host in a server name, without its port (clause appendices, server name); an IPv6 address stays in its brackets.
func Host(server string) string {
	if end := strings.IndexByte(server, ']'); strings.HasPrefix(server, "[") && end > 0 {
		return server[:end+1]
	}
	host, _, _ := strings.Cut(server, ":")
	return host
}

// ValidUser says what is wrong with a user id, in the tolerant grammar that events of others must be read with (clause appendices, historical
// user ids): any localpart without colon and NUL, also none.
func ValidUser(id string) error {
	localpart, domain, ok := strings.Cut(id, ":")
	switch {
	case len(id) > MaxIdentifier:
		return fmt.Errorf("user id of %d bytes is %w (at most %d)", len(id), ErrTooLarge, MaxIdentifier)
	case !ok || !strings.HasPrefix(localpart, "@") || strings.ContainsRune(localpart, 0) || !utf8.ValidString(localpart):
		return fmt.Errorf("user id %q is %w (it is @localpart:server)", id, ErrMalformed)
	}
	if err := ValidServer(domain); err != nil {
		return fmt.Errorf("user id %q: %w", id, err)
	}
	return nil
}

// ValidServer says what is wrong with a server name: a host name, IPv4 address or IPv6 address in brackets, and perhaps a port of one to five digits
// (clause appendices, server name).
func ValidServer(name string) error {
	bad := func(why string) error { return fmt.Errorf("server name %q is %w: %s", name, ErrMalformed, why) }
	var host, port string
	var hasPort bool
	if strings.HasPrefix(name, "[") {
		end := strings.IndexByte(name, ']')
		if end < 0 {
			return bad("no closing bracket")
		}
		if a, err := netip.ParseAddr(name[1:end]); err != nil || !a.Is6() || a.Zone() != "" {
			return bad("not an IPv6 address in brackets")
		}
		if rest := name[end+1:]; rest != "" {
			if port, hasPort = strings.CutPrefix(rest, ":"); !hasPort {
				return bad("something other than a port after the bracket")
			}
		}
	} else {
		host, port, hasPort = strings.Cut(name, ":")
		if host == "" {
			return bad("no host")
		}
	}
	if strings.IndexFunc(host, func(r rune) bool { return !hostRune(r) }) >= 0 {
		return bad("a character that a host name cannot have")
	}
	if hasPort && (port == "" || len(port) > 5 || strings.IndexFunc(port, func(r rune) bool { return r < '0' || r > '9' }) >= 0) {
		return bad("the port is not a number")
	}
	return nil
}

func hostRune(r rune) bool {
	return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.'
}
