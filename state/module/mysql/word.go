package mysql

import (
	"bytes"
	"strings"
)

// word is one of a statement: a word in capitals, or a quoted text or a single other character as it stands.
type word struct {
	text    string
	at, end int // where it is
}

// words are the first ones of a statement. Comments that only some servers read are read.
func words(statement []byte, most int) []word {
	var all []word
	for i := 0; i < len(statement) && len(all) < most; {
		c := statement[i]
		switch n := 1; {
		case c <= ' ':
			i++
		case bytes.HasPrefix(statement[i:], []byte("/*!")), bytes.HasPrefix(statement[i:], []byte("/*M!")):
			for i += 2; i < len(statement) && strings.IndexByte("*M!0123456789", statement[i]) >= 0; i++ {
				continue
			}
		case bytes.HasPrefix(statement[i:], []byte("*/")):
			i += 2
		case c == '`' || c == '\'' || c == '"':
			n = quotedLength(statement[i:])
			all, i = append(all, word{string(statement[i : i+n]), i, i + n}), i+n
		case wordByte(c):
			for i+n < len(statement) && wordByte(statement[i+n]) {
				n++
			}
			all, i = append(all, word{strings.ToUpper(string(statement[i : i+n])), i, i + n}), i+n
		default:
			all, i = append(all, word{string(c), i, i + 1}), i+1
		}
	}
	return all
}

// tokens are the texts of words.
func tokens(statement []byte, most int) []string {
	found := words(statement, most)
	all := make([]string, len(found))
	for i, w := range found {
		all[i] = w.text
	}
	return all
}

func wordByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '$' || c >= 0x80
}

// quotedLength is the length of the quoted text at the beginning, with its quotes.
func quotedLength(text []byte) int {
	q := text[0]
	for i := 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && q != '`':
			i++
		case text[i] == q && i+1 < len(text) && text[i+1] == q:
			i++
		case text[i] == q:
			return i + 1
		}
	}
	return len(text)
}

// unquote is the name that a quoted identifier is.
func unquote(token string) (string, bool) {
	if len(token) < 3 || token[0] != '`' || token[len(token)-1] != '`' {
		return "", false
	}
	return strings.ReplaceAll(token[1:len(token)-1], "``", "`"), true
}
