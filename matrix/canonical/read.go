package canonical

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"orrery/matrix"
)

// Rules is how strictly JSON is read.
type Rules byte

const (
	// Strict takes what canonical JSON can say: integers within 53 bits, each name once. Room version 6 and later, and everything else.
	Strict Rules = iota
	// Lax takes what events of room versions 1 to 5 may say beyond that (clause room version 1, canonical JSON): any number, and of members with the
	// same name the last.
	Lax
	// Single takes any number, and each name once: what clients send.
	Single
)

// MaxDepth is how deep arrays and objects may be within one another.
const MaxDepth = 512

// Parse reads one JSON text (RFC 8259) of valid UTF-8. The error is matrix.ErrMalformed, and says where and why.
func Parse(text []byte, rules Rules) (Value, error) {
	if !utf8.Valid(text) {
		return Value{}, fmt.Errorf("JSON is %w: not valid UTF-8", matrix.ErrMalformed)
	}
	r := reader{in: string(text), rules: rules} // one copy, which all strings without escapes share
	r.space()
	v := r.value(0)
	r.space()
	if r.why == "" && r.at < len(r.in) {
		r.fail("something after its end")
	}
	if r.why != "" {
		return Value{}, fmt.Errorf("JSON is %w at byte %d: %s", matrix.ErrMalformed, r.at, r.why)
	}
	return v, nil
}

type reader struct {
	in    string
	at    int
	rules Rules
	why   string // of the first failure
}

func (r *reader) fail(format string, args ...any) {
	if r.why == "" {
		r.why = fmt.Sprintf(format, args...)
	}
}

func (r *reader) space() {
	for r.at < len(r.in) && strings.IndexByte(" \t\n\r", r.in[r.at]) >= 0 {
		r.at++
	}
}

// take moves over a character if it is the next one.
func (r *reader) take(c byte) bool {
	ok := r.at < len(r.in) && r.in[r.at] == c
	if ok {
		r.at++
	}
	return ok
}

func (r *reader) value(depth int) Value {
	if depth > MaxDepth {
		r.fail("more than %d values within one another", MaxDepth)
	}
	if r.why != "" {
		return Value{}
	}
	if r.at == len(r.in) {
		r.fail("it ends too early")
		return Value{}
	}
	switch c := r.in[r.at]; {
	case c == '{':
		return r.object(depth)
	case c == '[':
		return r.array(depth)
	case c == '"':
		return Value{kind: String, text: r.string()}
	case c == '-' || c >= '0' && c <= '9':
		return Value{kind: Number, text: r.number()}
	}
	for _, w := range [...]struct {
		text string
		kind Kind
	}{{"true", Bool}, {"false", Bool}, {"null", Null}} {
		if strings.HasPrefix(r.in[r.at:], w.text) {
			r.at += len(w.text)
			v := Value{kind: w.kind}
			if w.kind == Bool {
				v.text = w.text
			}
			return v
		}
	}
	r.fail("not the beginning of a value")
	return Value{}
}

// list reads items between brackets, until one fails.
func (r *reader) list(end byte, item func()) {
	r.at++
	r.space()
	if r.take(end) {
		return
	}
	for r.why == "" {
		item()
		r.space()
		if r.take(end) {
			return
		}
		if !r.take(',') {
			r.fail("neither a comma nor %q", end)
		}
		r.space()
	}
}

func (r *reader) array(depth int) Value {
	v := Value{kind: Array}
	r.list(']', func() { v.items = append(v.items, Member{Value: r.value(depth + 1)}) })
	return v
}

func (r *reader) object(depth int) Value {
	v := Value{kind: Object}
	inOrder := true
	r.list('}', func() {
		if r.at == len(r.in) || r.in[r.at] != '"' {
			r.fail("a name is not a string")
			return
		}
		name := r.string()
		r.space()
		if !r.take(':') {
			r.fail("no colon after a name")
		}
		r.space()
		inOrder = inOrder && (len(v.items) == 0 || v.items[len(v.items)-1].Name < name)
		v.items = append(v.items, Member{name, r.value(depth + 1)})
	})
	if !inOrder {
		v.items = sorted(v.items, func(name string) {
			if r.rules != Lax {
				r.fail("name %q twice", name)
			}
		})
	}
	return v
}

func (r *reader) string() string {
	r.at++
	from := r.at
	var out []byte // of those with escapes
	escaped := false
	for r.at < len(r.in) {
		switch c := r.in[r.at]; {
		case c == '"':
			r.at++
			if !escaped {
				return r.in[from : r.at-1]
			}
			return string(append(out, r.in[from:r.at-1]...))
		case c < 0x20:
			r.fail("a control character in a string")
			return ""
		case c == '\\':
			escaped = true
			out = r.escape(append(out, r.in[from:r.at]...))
			if r.why != "" {
				return ""
			}
			from = r.at
		default:
			r.at++
		}
	}
	r.fail("a string does not end")
	return ""
}

func (r *reader) escape(out []byte) []byte {
	if r.at+1 >= len(r.in) {
		r.fail("an escape ends too early")
		return out
	}
	c := r.in[r.at+1]
	r.at += 2
	if i := strings.IndexByte(`btnfr"\/`, c); i >= 0 {
		return append(out, "\b\t\n\f\r\"\\/"[i])
	}
	if c != 'u' {
		r.fail("unknown escape \\%c", c)
		return out
	}
	char := r.unit()
	if utf16.IsSurrogate(char) {
		var low rune
		if strings.HasPrefix(r.in[r.at:], `\u`) {
			r.at += 2
			low = r.unit()
		}
		if char = utf16.DecodeRune(char, low); char == utf8.RuneError {
			r.fail("half of a surrogate pair")
		}
	}
	return utf8.AppendRune(out, char)
}

// unit reads the four digits of an escape.
func (r *reader) unit() rune {
	if r.at+4 > len(r.in) {
		r.fail("an escape ends too early")
		return 0
	}
	n, err := strconv.ParseUint(r.in[r.at:r.at+4], 16, 16)
	if err != nil {
		r.fail("an escape is not four hexadecimal digits")
	}
	r.at += 4
	return rune(n)
}

// number reads a number, and says how it is written canonically.
func (r *reader) number() string {
	from := r.at
	digits := func() (n int) {
		for r.at < len(r.in) && r.in[r.at] >= '0' && r.in[r.at] <= '9' {
			r.at++
			n++
		}
		return n
	}
	r.take('-')
	first := r.at
	if n := digits(); n == 0 || n > 1 && r.in[first] == '0' {
		r.fail("not a number")
	}
	integer := true
	if r.take('.') {
		integer = false
		if digits() == 0 {
			r.fail("no digits after a point")
		}
	}
	if r.take('e') || r.take('E') {
		integer = false
		if !r.take('+') {
			r.take('-')
		}
		if digits() == 0 {
			r.fail("no digits in an exponent")
		}
	}
	text := r.in[from:r.at]
	if r.why != "" {
		return ""
	}
	if r.rules == Strict {
		n, err := strconv.ParseInt(text, 10, 64)
		if !integer || err != nil || n < MinInteger || n > MaxInteger {
			r.fail("number %.40s is not an integer of 53 bits", text)
		}
	}
	if text == "-0" {
		return "0"
	}
	if integer {
		return text
	}
	return r.fraction(text)
}

// fraction is how a number with a point or an exponent is written: an integer where it is one, otherwise as short as possible.
func (r *reader) fraction(text string) string {
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		r.fail("number %.40s is too large", text)
		return ""
	}
	if n, accuracy := big.NewFloat(f).Int(nil); accuracy == big.Exact {
		return n.String()
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
