package term

import (
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Parse reads the text of one term, without a dot at its end: what Append writes and what Erlang writes with ~p or ~w,
// also over several lines.
func Parse(text []byte) (Term, error) {
	p := parser{s: text}
	t, err := p.term(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.s) {
		return nil, p.wrong()
	}
	return t, nil
}

type parser struct {
	s  []byte
	at int
}

// wrong names the place and not the text, which may hold secrets.
func (p *parser) wrong() error { return fmt.Errorf("%w: at byte %d of its text", ErrTerm, p.at) }

func (p *parser) space() {
	for p.at < len(p.s) && (p.s[p.at] == ' ' || p.s[p.at] == '\n' || p.s[p.at] == '\t' || p.s[p.at] == '\r') {
		p.at++
	}
}

// next is the next byte after spaces, or 0.
func (p *parser) next() byte {
	p.space()
	if p.at == len(p.s) {
		return 0
	}
	return p.s[p.at]
}

// skip goes over a word if it is there.
func (p *parser) skip(word string) bool {
	p.space()
	if !strings.HasPrefix(string(p.s[p.at:min(p.at+len(word), len(p.s))]), word) {
		return false
	}
	p.at += len(word)
	return true
}

func (p *parser) term(depth int) (Term, error) {
	if depth > depthLimit {
		return nil, fmt.Errorf("%w: it is too deep", ErrTerm)
	}
	switch c := p.next(); {
	case c == '{':
		all, err := p.series("{", "}", depth)
		return Tuple(all), err
	case c == '[':
		all, err := p.series("[", "]", depth)
		return List(all), err
	case c == '"':
		return p.chars()
	case c == '\'':
		name, err := p.quoted('\'')
		if err == nil && utf8.RuneCountInString(name) > 255 {
			err = p.wrong()
		}
		return Atom(name), err
	case c == '<':
		return p.binary()
	case c == '#':
		return p.pairs(depth)
	case c >= 'a' && c <= 'z':
		return p.word()
	}
	return p.number()
}

func (p *parser) series(open, end string, depth int) ([]Term, error) {
	all := []Term{}
	if !p.skip(open) {
		return nil, p.wrong()
	}
	if p.skip(end) {
		return all, nil
	}
	for {
		t, err := p.term(depth + 1)
		if err != nil {
			return nil, err
		}
		all = append(all, t)
		if p.skip(end) {
			return all, nil
		}
		if !p.skip(",") {
			return nil, p.wrong()
		}
	}
}

func (p *parser) pairs(depth int) (Term, error) {
	m := Map{}
	if !p.skip("#{") {
		return nil, p.wrong()
	}
	for !p.skip("}") {
		if len(m) > 0 && !p.skip(",") {
			return nil, p.wrong()
		}
		key, err := p.term(depth + 1)
		if err != nil {
			return nil, err
		}
		if !p.skip("=>") {
			return nil, p.wrong()
		}
		value, err := p.term(depth + 1)
		if err != nil {
			return nil, err
		}
		m = append(m, Pair{key, value})
	}
	return ordered(m)
}

func (p *parser) word() (Term, error) {
	from := p.at
	for p.at < len(p.s) && (p.s[p.at] == '_' || p.s[p.at] == '@' || p.s[p.at] >= '0' && p.s[p.at] <= '9' || p.s[p.at]|0x20 >= 'a' && p.s[p.at]|0x20 <= 'z') {
		p.at++
	}
	if name := string(p.s[from:p.at]); bare(name) && len(name) <= 255 {
		return Atom(name), nil
	}
	return nil, p.wrong()
}

func (p *parser) number() (Term, error) {
	from := p.at
	for p.at < len(p.s) && strings.IndexByte("+-.eE0123456789", p.s[p.at]) >= 0 {
		p.at++
	}
	text := string(p.s[from:p.at])
	if strings.Contains(text, ".") {
		f, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, p.wrong()
		}
		return finite(f)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, nil
	}
	n, ok := new(big.Int).SetString(text, 10)
	if !ok || len(text) > 10_000 { // a larger one takes too long
		return nil, p.wrong()
	}
	return integer(n), nil
}

func (p *parser) chars() (Term, error) {
	text, err := p.strings()
	l := make(List, 0, len(text))
	for _, c := range text {
		l = append(l, int64(c))
	}
	return l, err
}

// strings reads a string, which may be in several pieces.
func (p *parser) strings() (string, error) {
	text, err := p.quoted('"')
	for err == nil && p.next() == '"' {
		var more string
		more, err = p.quoted('"')
		text += more
	}
	return text, err
}

// quoted reads what is between quotes, as UTF-8.
func (p *parser) quoted(quote byte) (string, error) {
	var b strings.Builder
	for p.at++; p.at < len(p.s); {
		c, size := utf8.DecodeRune(p.s[p.at:])
		if c == utf8.RuneError && size < 2 {
			return "", p.wrong()
		}
		p.at += size
		switch c {
		case rune(quote):
			return b.String(), nil
		case '\\':
			c, err := p.escaped()
			if err != nil {
				return "", err
			}
			b.WriteRune(c)
		default:
			b.WriteRune(c)
		}
	}
	return "", p.wrong()
}

// escapes are what letters after a backslash mean.
var escapes = map[byte]rune{'n': '\n', 't': '\t', 'r': '\r', 'b': '\b', 'f': '\f', 'v': '\v', 'e': 0x1b, 's': ' ', 'd': 0x7f} //nolint:gochecknoglobals // a table

func (p *parser) escaped() (rune, error) {
	if p.at == len(p.s) {
		return 0, p.wrong()
	}
	c := p.s[p.at]
	switch {
	case c == '\\' || c == '"' || c == '\'':
		p.at++
		return rune(c), nil
	case c >= '0' && c <= '7':
		from := p.at
		for p.at < len(p.s) && p.at < from+3 && p.s[p.at] >= '0' && p.s[p.at] <= '7' {
			p.at++
		}
		n, err := strconv.ParseUint(string(p.s[from:p.at]), 8, 16)
		if err != nil {
			return 0, p.wrong()
		}
		return rune(n), nil //nolint:gosec // at most 511
	case c == 'x':
		return p.hexadecimal()
	}
	r, ok := escapes[c]
	if !ok {
		return 0, p.wrong()
	}
	p.at++
	return r, nil
}

// hexadecimal reads x{H...}.
func (p *parser) hexadecimal() (rune, error) {
	end := strings.IndexByte(string(p.s[p.at:min(p.at+10, len(p.s))]), '}')
	if end < 3 || p.s[p.at+1] != '{' {
		return 0, p.wrong()
	}
	n, err := strconv.ParseUint(string(p.s[p.at+2:p.at+end]), 16, 32)
	if err != nil || !utf8.ValidRune(rune(n)) { //nolint:gosec // 32 bits
		return 0, p.wrong()
	}
	p.at += end + 1
	return rune(n), nil //nolint:gosec // it is valid
}

// binary reads <<"text",1,2>>, with /utf8 after a string, or with characters that are bytes.
func (p *parser) binary() (Term, error) {
	var b []byte
	if !p.skip("<<") {
		return nil, p.wrong()
	}
	for first := true; !p.skip(">>"); first = false {
		if !first && !p.skip(",") {
			return nil, p.wrong()
		}
		if p.next() != '"' {
			from := p.at
			for p.at < len(p.s) && p.s[p.at] >= '0' && p.s[p.at] <= '9' {
				p.at++
			}
			n, err := strconv.ParseUint(string(p.s[from:p.at]), 10, 8)
			if err != nil {
				return nil, p.wrong()
			}
			b = append(b, byte(n))
			continue
		}
		text, err := p.strings()
		if err != nil {
			return nil, err
		}
		if p.skip("/utf8") {
			b = append(b, text...)
			continue
		}
		for _, c := range text {
			if c > 255 {
				return nil, p.wrong()
			}
			b = append(b, byte(c))
		}
	}
	return Binary(b), nil
}
