package keyboard

import "strings"

type tokenKind byte

const (
	tokenEnd  tokenKind = iota
	tokenWord           // name or number
	tokenText           // "quoted"
	tokenKey            // <AE01>
	tokenSign
)

type token struct {
	kind tokenKind
	text string
}

// lexer takes a keymap's text apart.
type lexer struct {
	rest string
	read string // the text from its beginning; what rest is the end of
}

// line is where it stands.
func (l *lexer) line() int { return 1 + strings.Count(l.read[:len(l.read)-len(l.rest)], "\n") }

func wordByte(b byte) bool {
	return b == '_' || b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z'
}

func (l *lexer) scan() token {
	if l.read == "" {
		l.read = l.rest
	}
	for {
		l.rest = strings.TrimLeft(l.rest, " \t\r\n\x00")
		if !strings.HasPrefix(l.rest, "//") && !strings.HasPrefix(l.rest, "#") {
			break
		}
		_, l.rest, _ = strings.Cut(l.rest, "\n")
	}
	switch {
	case l.rest == "":
		return token{}
	case l.rest[0] == '"':
		text, rest, _ := strings.Cut(l.rest[1:], `"`)
		l.rest = rest
		return token{tokenText, text}
	case l.rest[0] == '<':
		if name, rest, ok := strings.Cut(l.rest[1:], ">"); ok {
			l.rest = rest
			return token{tokenKey, name}
		}
	case wordByte(l.rest[0]):
		n := 1
		for n < len(l.rest) && wordByte(l.rest[n]) {
			n++
		}
		word := l.rest[:n]
		l.rest = l.rest[n:]
		return token{tokenWord, word}
	}
	sign := l.rest[:1]
	l.rest = l.rest[1:]
	return token{tokenSign, sign}
}
