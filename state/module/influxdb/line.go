package influxdb

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A point's tags and fields, sorted by key. Tags have a value; a series that lacks a tag has none for it.
type (
	point struct {
		measurement string
		tags        []tag
		fields      []field
		time        int64 // nanoseconds
	}
	tag   struct{ key, value string }
	field struct {
		key  string
		kind kind
		// text is the value: a string as it is, and anything else as in line protocol, without an integer's suffix.
		text string
	}
)

// kind is a field's type in line protocol.
type kind byte

const (
	kindFloat    kind = 'f'
	kindInteger  kind = 'i'
	kindUnsigned kind = 'u'
	kindString   kind = 's'
	kindBool     kind = 'b'
)

// What is escaped by a backslash in names, and what ends them.
const (
	escapedInMeasurement = ", "
	escapedInKey         = ",= "
)

var errUnwritable = errors.New("line protocol cannot express it")

// appendLine adds the point in line protocol, with a line's end.
func (p *point) appendLine(b []byte) ([]byte, error) {
	start := len(b)
	if p.measurement == "" || p.measurement[0] == '#' || strings.Contains(p.measurement, `\,`) || strings.Contains(p.measurement, `\ `) {
		return nil, fmt.Errorf("measurement %q: %w", p.measurement, errUnwritable)
	}
	b = appendName(b, p.measurement, escapedInMeasurement)
	for _, t := range p.tags {
		b = appendName(append(b, ','), t.key, escapedInKey)
		b = appendName(append(b, '='), t.value, escapedInKey)
		if t.key == "" || t.value == "" || t.key[len(t.key)-1] == '\\' || t.value[len(t.value)-1] == '\\' {
			return nil, fmt.Errorf("tag %q of measurement %q: %w", t.key, p.measurement, errUnwritable)
		}
	}
	if p.measurement[len(p.measurement)-1] == '\\' || !new(scanner).inside(b[start:]) {
		return nil, fmt.Errorf("series %q: %w", b[start:], errUnwritable)
	}
	for i, f := range p.fields {
		if f.key == "" || f.key[len(f.key)-1] == '\\' || strings.Contains(f.key, "\n") {
			return nil, fmt.Errorf("field %q of measurement %q: %w", f.key, p.measurement, errUnwritable)
		}
		separator := byte(',')
		if i == 0 {
			separator = ' '
		}
		b = f.append(appendName(append(b, separator), f.key, escapedInKey))
	}
	b = strconv.AppendInt(append(b, ' '), p.time, 10)
	return append(b, '\n'), nil
}

func (f *field) append(b []byte) []byte {
	b = append(b, '=')
	switch f.kind {
	case kindString:
		b = append(b, '"')
		for i := range len(f.text) {
			if c := f.text[i]; c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, f.text[i])
		}
		return append(b, '"')
	case kindInteger, kindUnsigned:
		return append(append(b, f.text...), byte(f.kind))
	default:
		return append(b, f.text...)
	}
}

func appendName(b []byte, name, escaped string) []byte {
	for i := range len(name) {
		if strings.IndexByte(escaped, name[i]) >= 0 {
			b = append(b, '\\')
		}
		b = append(b, name[i])
	}
	return b
}

// scanner finds where a line ends, as the server does: a line's end after a backslash, or in a string, does not count.
type scanner struct {
	escape, fields, quoted bool
	open                   int // values begun less values ended
}

// ends looks at the next byte and says whether it ends the line.
func (s *scanner) ends(c byte) bool {
	switch {
	case s.escape:
		s.escape = false
		return false
	case c == '\\':
		s.escape = true
	case c == ' ' && !s.quoted:
		s.fields = true
	case s.fields && c == '=' && !s.quoted:
		s.open++
	case s.fields && c == ',' && !s.quoted:
		s.open--
	case s.fields && c == '"' && s.open > 0:
		s.quoted = !s.quoted
	}
	return c == '\n' && !s.quoted
}

// inside says that no byte of b ends the line and that none but itself is escaped.
func (s *scanner) inside(b []byte) bool {
	return !slices.ContainsFunc(b, s.ends) && !s.escape
}

var errSyntax = errors.New("it is not canonical line protocol")

// parseLine reads what appendLine wrote, and nothing else.
func parseLine(line []byte) (point, error) {
	var p point
	rest, ok := bytes.CutSuffix(line, []byte{'\n'})
	if !ok {
		return p, errSyntax
	}
	p.measurement, rest = cutName(rest, escapedInMeasurement, ", ")
	for len(rest) > 0 && rest[0] == ',' {
		var t tag
		t.key, rest = cutName(rest[1:], escapedInKey, "=")
		if len(rest) == 0 {
			return p, errSyntax
		}
		t.value, rest = cutName(rest[1:], escapedInKey, ", ")
		p.tags = append(p.tags, t)
	}
	for next := byte(' '); len(rest) > 0 && rest[0] == next; next = ',' {
		var f field
		f.key, rest = cutName(rest[1:], escapedInKey, "=")
		if len(rest) == 0 {
			return p, errSyntax
		}
		if f.kind, f.text, rest, ok = cutValue(rest[1:]); !ok {
			return p, errSyntax
		}
		p.fields = append(p.fields, f)
	}
	number, ok := bytes.CutPrefix(rest, []byte{' '})
	var err error
	if p.time, err = strconv.ParseInt(string(number), 10, 64); err != nil || !ok || len(p.fields) == 0 {
		return p, errSyntax
	}
	again, err := p.appendLine(nil)
	if err != nil || !bytes.Equal(again, line) || !p.sorted() {
		return p, errSyntax
	}
	return p, nil
}

func (p *point) sorted() bool {
	for i := range p.tags[min(1, len(p.tags)):] {
		if p.tags[i].key >= p.tags[i+1].key {
			return false
		}
	}
	for i := range p.fields[1:] {
		if p.fields[i].key >= p.fields[i+1].key {
			return false
		}
	}
	return true
}

// cutName reads a name up to the first of the bytes that end it.
func cutName(b []byte, escaped, ends string) (name string, rest []byte) {
	text := make([]byte, 0, 32)
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '\\' && i+1 < len(b) && strings.IndexByte(escaped, b[i+1]) >= 0:
			i++
			text = append(text, b[i])
		case strings.IndexByte(ends, b[i]) >= 0:
			return string(text), b[i:]
		default:
			text = append(text, b[i])
		}
	}
	return string(text), nil
}

func cutValue(b []byte) (k kind, text string, rest []byte, ok bool) {
	if len(b) > 0 && b[0] == '"' {
		text, rest, ok = cutString(b[1:])
		return kindString, text, rest, ok
	}
	end := bytes.IndexAny(b, ", ")
	if end <= 0 {
		return 0, "", nil, false
	}
	text, rest = string(b[:end]), b[end:]
	switch last := text[end-1]; {
	case text == "true" || text == "false":
		return kindBool, text, rest, true
	case last == 'i':
		text = text[:end-1]
		n, err := strconv.ParseInt(text, 10, 64)
		return kindInteger, text, rest, err == nil && strconv.FormatInt(n, 10) == text
	case last == 'u':
		text = text[:end-1]
		n, err := strconv.ParseUint(text, 10, 64)
		return kindUnsigned, text, rest, err == nil && strconv.FormatUint(n, 10) == text
	}
	canonical, err := floatText(text)
	return kindFloat, text, rest, err == nil && canonical == text
}

// cutString reads a string without its opening quote.
func cutString(b []byte) (text string, rest []byte, ok bool) {
	var out []byte
	for i := 0; i < len(b); i++ {
		switch {
		case b[i] == '"':
			return string(out), b[i+1:], true
		case b[i] == '\\' && i+1 < len(b) && (b[i+1] == '"' || b[i+1] == '\\'):
			i++
		}
		out = append(out, b[i])
	}
	return "", nil, false
}

// floatText is the one way to write a float.
func floatText(number string) (string, error) {
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || f != f || f > maxFloat || f < -maxFloat {
		return "", fmt.Errorf("%q is no finite number", number)
	}
	return strconv.FormatFloat(f, 'g', -1, 64), nil
}

const maxFloat = 0x1p1023 * (1 + (1 - 0x1p-52))

// comparePoints is the order of points within a measurement: by series, of which one that lacks a tag has it empty,
// and by time.
func comparePoints(a, b *point) int {
	return cmp.Or(compareTags(a.tags, b.tags), cmp.Compare(a.time, b.time))
}

func compareTags(a, b []tag) int {
	for len(a) > 0 && len(b) > 0 {
		switch {
		case a[0].key < b[0].key:
			return 1 // b has it empty
		case a[0].key > b[0].key:
			return -1
		case a[0].value != b[0].value:
			return cmp.Compare(a[0].value, b[0].value)
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// quote makes an identifier of InfluxQL.
func quote(name string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(name) + `"`
}

// expressible says whether InfluxQL has a way to write the name.
func expressible(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsAny(name, "\x00\r")
}
