package influxdb

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"orrery/state"
)

// placeholder stands, in the continuous queries of a snapshot, for the name of the database.
const placeholder = "$database"

var (
	// token cuts InfluxQL as the server prints it. What looks like a division may be a regular expression.
	token = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|[A-Za-z_][A-Za-z0-9_]*|[0-9][A-Za-z0-9.]*|\s+|(?s:.)`)
	regex = regexp.MustCompile(`^/(?:[^/\\\n]|\\.)*/`)
	// duration is one as the server prints it.
	duration = regexp.MustCompile(`^[0-9]+h[0-9]+m[0-9]+s$|^0s$`)
	creates  = regexp.MustCompile(`(?i)^CREATE CONTINUOUS QUERY `)
)

// tokens cuts InfluxQL into tokens, and yields with each the one before it that is not of spaces, and what comes after it.
func tokens(text string, yield func(before, part, after string)) {
	var before string
	for text != "" {
		part := token.FindString(text)
		if part == "/" && !operand(before) {
			if found := regex.FindString(text); found != "" {
				part = found
			}
		}
		text = text[len(part):]
		yield(before, part, text)
		if strings.TrimSpace(part) != "" {
			before = part
		}
	}
}

// rename replaces the name of a database in a continuous query: after ON, and before the dot that a policy comes after.
func rename(text, from, to string) string {
	var out strings.Builder
	tokens(text, func(before, part, after string) {
		if name, ok := identifier(part); ok && name == from && (strings.EqualFold(before, "ON") || before != "." && strings.HasPrefix(after, ".")) {
			part = quote(to)
		}
		out.WriteString(part)
	})
	return out.String()
}

// operand says whether a value ends with the token, after which a slash divides.
func operand(part string) bool {
	switch strings.ToUpper(part) {
	case "", "SELECT", "FROM", "WHERE", "AND", "OR", "BY", "INTO":
		return false
	}
	last := part[len(part)-1]
	return last == '"' || last == '\'' || last == ')' || last == '_' ||
		last >= '0' && last <= '9' || last >= 'a' && last <= 'z' || last >= 'A' && last <= 'Z'
}

// identifier is the name that a token is, quoted or not.
func identifier(part string) (string, bool) {
	if part[0] != '"' {
		return part, part[0] == '_' || part[0] >= 'a' && part[0] <= 'z' || part[0] >= 'A' && part[0] <= 'Z'
	}
	if len(part) < 2 {
		return "", false
	}
	return strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\n`, "\n").Replace(part[1 : len(part)-1]), true
}

// neutral is a continuous query of a database as snapshots have it.
func neutral(name, text, database string) (query, error) {
	if rename(text, placeholder, "x") != text {
		return query{}, fmt.Errorf("continuous query %q names a database %q, which is what snapshots call the component's: %w snapshot it", name, placeholder, state.ErrNotAble)
	}
	q := query{Name: name, Text: rename(text, database, placeholder)}
	return q, q.check()
}

// check says whether it is the making of a continuous query of the component's database, and nothing more: a snapshot
// from elsewhere could have anything there.
func (q query) check() error {
	single := creates.MatchString(q.Text) && utf8.ValidString(q.Text)
	on := false
	tokens(q.Text, func(before, part, after string) {
		comment := part == "-" && strings.HasPrefix(after, "-") || part == "/" && strings.HasPrefix(after, "*")
		single = single && part != ";" && part != `"` && part != "'" && !comment
		on = on || strings.EqualFold(before, "ON") && part == quote(placeholder)
	})
	if !single || !on || !expressible(q.Name) {
		return fmt.Errorf("continuous query %q is not one that the server prints", q.Name)
	}
	return nil
}
