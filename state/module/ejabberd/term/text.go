package term

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
)

// Append appends the canonical text of a term: ASCII without line ends.
func Append(b []byte, t Term) []byte {
	switch t := t.(type) {
	case int:
		return strconv.AppendInt(b, int64(t), 10)
	case int64:
		return strconv.AppendInt(b, t, 10)
	case *big.Int:
		return t.Append(b, 10)
	case float64:
		return appendFloat(b, t)
	case Atom:
		return appendAtom(b, string(t))
	case Binary:
		return appendBinary(b, string(t))
	case List:
		if text, ok := printable(t); ok {
			return append(escape(append(b, '"'), text, '"'), '"')
		}
		return appendSeries(b, '[', t, ']')
	case Tuple:
		return appendSeries(b, '{', t, '}')
	case Map:
		b = append(b, "#{"...)
		for i, p := range t {
			if i > 0 {
				b = append(b, ',')
			}
			b = Append(append(Append(b, p.Key), "=>"...), p.Value)
		}
		return append(b, '}')
	}
	panic(fmt.Sprintf("%T is no term", t))
}

// Text is Append as a string.
func Text(t Term) string { return string(Append(nil, t)) }

func appendSeries(b []byte, open byte, all []Term, end byte) []byte {
	b = append(b, open)
	for i, t := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = Append(b, t)
	}
	return append(b, end)
}

// appendFloat writes a dot always, which Erlang wants.
func appendFloat(b []byte, f float64) []byte {
	text := strconv.FormatFloat(f, 'e', -1, 64)
	mantissa, exponent, _ := strings.Cut(text, "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	return append(append(append(b, mantissa...), 'e'), exponent...)
}

// reserved are the words that are no atoms without quotes.
const reserved = " after and andalso band begin bnot bor bsl bsr bxor case catch cond div else end fun if let maybe not of or orelse receive rem try when xor "

func bare(name string) bool {
	for i := range len(name) {
		c := name[i]
		lower := c >= 'a' && c <= 'z'
		if !lower && (i == 0 || c != '_' && c != '@' && (c < '0' || c > '9') && (c < 'A' || c > 'Z')) {
			return false
		}
	}
	return name != "" && !strings.Contains(reserved, " "+name+" ")
}

func appendAtom(b []byte, name string) []byte {
	if bare(name) {
		return append(b, name...)
	}
	b = append(b, '\'')
	for _, c := range name {
		if c < 0x7f {
			b = escape(b, string(c), '\'')
			continue
		}
		b = append(strconv.AppendInt(append(b, `\x{`...), int64(c), 16), '}')
	}
	return append(b, '\'')
}

// escape writes ASCII between quotes.
func escape(b []byte, text string, quote byte) []byte {
	for i := range len(text) {
		switch c := text[i]; {
		case c == quote || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c >= 0x7f:
			b = append(strconv.AppendInt(append(b, `\x{`...), int64(c), 16), '}')
		default:
			b = append(b, c)
		}
	}
	return b
}

func printable(l List) (string, bool) {
	text := make([]byte, len(l))
	for i, t := range l {
		c, ok := t.(int64)
		if !ok || c < ' ' || c >= 0x7f {
			return "", false
		}
		text[i] = byte(c)
	}
	return string(text), len(l) > 0
}

// appendBinary writes runs of printable ASCII as strings, and other bytes as numbers.
func appendBinary(b []byte, s string) []byte {
	b = append(b, "<<"...)
	for i := 0; i < len(s); {
		if i > 0 {
			b = append(b, ',')
		}
		end := i
		for end < len(s) && s[end] >= ' ' && s[end] < 0x7f {
			end++
		}
		if end == i {
			b = strconv.AppendInt(b, int64(s[i]), 10)
			i++
			continue
		}
		b = append(escape(append(b, '"'), s[i:end], '"'), '"')
		i = end
	}
	return append(b, ">>"...)
}
