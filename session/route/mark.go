package route

import (
	"fmt"
	"strings"

	"orrery/session"
)

const (
	baggageHeader = "Baggage"
	// maxNamed bounds how much of a bad name is repeated in an answer.
	maxNamed = 64
)

// fromHeader returns the session that the header's lines name. An empty value counts as
// none: programs that pass the header on often set it to the empty value that they got.
func fromHeader(lines []string) (string, error) {
	name := ""
	for _, line := range lines {
		for value := range strings.SplitSeq(line, ",") {
			var err error
			if name, err = agree(name, trim(value)); err != nil {
				return "", err
			}
		}
	}
	return name, nil
}

// fromBaggage returns the session that W3C baggage names: comma-separated members over any number of
// lines, each KEY=VALUE with properties after ';', white space around all of them, values percent-encoded.
// https://www.w3.org/TR/baggage/#header-content
func fromBaggage(lines []string) (string, error) {
	name := ""
	for _, line := range lines {
		if !strings.Contains(line, session.BaggageMember) {
			continue
		}
		for member := range strings.SplitSeq(line, ",") {
			key, value := splitMember(member)
			if key != session.BaggageMember {
				continue
			}
			decoded, err := percentDecode(value)
			if err != nil {
				return "", err
			}
			if name, err = agree(name, decoded); err != nil {
				return "", err
			}
		}
	}
	return name, nil
}

// agree joins two mentions of a session; only equal ones can be joined.
func agree(name, another string) (string, error) {
	switch {
	case another == "" || another == name:
		return name, nil
	case name != "":
		return "", fmt.Errorf("%w: it says %s and %s", ErrAmbiguous, name, clip(another))
	case !session.ValidName(another):
		return "", fmt.Errorf("%w: %s is not a session's name", ErrAmbiguous, clip(another))
	}
	return another, nil
}

func clip(s string) string { return fmt.Sprintf("%q", s[:min(len(s), maxNamed)]) }

func splitMember(member string) (key, value string) {
	pair, _, _ := strings.Cut(member, ";")
	key, value, _ = strings.Cut(pair, "=")
	return trim(key), trim(value)
}

func trim(s string) string { return strings.Trim(s, " \t") }

func percentDecode(s string) (string, error) {
	if !strings.Contains(s, "%") {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b.WriteByte(s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%w: bad percent-encoding in %s", ErrAmbiguous, clip(s))
		}
		high, ok1 := unhex(s[i+1])
		low, ok2 := unhex(s[i+2])
		if !ok1 || !ok2 {
			return "", fmt.Errorf("%w: bad percent-encoding in %s", ErrAmbiguous, clip(s))
		}
		b.WriteByte(high<<4 | low)
		i += 2
	}
	return b.String(), nil
}

func unhex(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// PreviewHost takes SESSION--SERVICE from the first label of a host. Every label with
// PreviewSeparator in it counts, so that a mistyped one is refused instead of answered by production; only xn--...
// is a domain name in another script.
func PreviewHost(host string) (name, service string, ok bool) {
	label, _, _ := strings.Cut(host, ".")
	label, _, _ = strings.Cut(label, ":")
	name, service, ok = strings.Cut(strings.ToLower(label), session.PreviewSeparator)
	if !ok || name == "xn" {
		return "", "", false
	}
	return name, service, true
}

// Mark makes a request say that it belongs to a session, by header and by baggage, and
// nothing else: other sessions' marks are removed, other members of the baggage stay as they are. The
// member comes first because whoever passes baggage on may cut its end off.
func Mark(header map[string][]string, name string) {
	header[session.Header] = []string{name}
	mark := session.BaggageMember + "=" + name
	lines := header[baggageHeader]
	if len(lines) == 0 {
		header[baggageHeader] = []string{mark}
		return
	}
	members := []string{mark}
	for _, line := range lines {
		for member := range strings.SplitSeq(line, ",") {
			if key, _ := splitMember(member); key != session.BaggageMember && trim(member) != "" {
				members = append(members, trim(member))
			}
		}
	}
	header[baggageHeader] = []string{strings.Join(members, ",")}
}
