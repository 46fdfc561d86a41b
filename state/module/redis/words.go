package redis

import (
	"encoding/hex"
)

// split splits a line into words as the server and redis-cli do: "..." with escapes, '...' where only \' is one.
func split(line []byte) ([][]byte, error) {
	var words [][]byte
	for {
		for len(line) > 0 && space(line[0]) {
			line = line[1:]
		}
		if len(line) == 0 {
			return words, nil
		}
		word, rest, ok := cutWord(line)
		if !ok {
			return nil, badCommand("unbalanced quotes in %.60q", line)
		}
		words, line = append(words, word), rest
	}
}

func space(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func cutWord(line []byte) (word, rest []byte, ok bool) {
	word = []byte{}
	for len(line) > 0 && !space(line[0]) {
		switch line[0] {
		case '"':
			if word, line, ok = doubleQuoted(word, line[1:]); !ok {
				return nil, nil, false
			}
			return word, line, len(line) == 0 || space(line[0])
		case '\'':
			if word, line, ok = singleQuoted(word, line[1:]); !ok {
				return nil, nil, false
			}
			return word, line, len(line) == 0 || space(line[0])
		}
		word, line = append(word, line[0]), line[1:]
	}
	return word, line, true
}

var escapes = map[byte]byte{'n': '\n', 'r': '\r', 't': '\t', 'b': '\b', 'a': '\a'}

func doubleQuoted(word, line []byte) (_, rest []byte, ok bool) {
	for len(line) > 0 {
		switch {
		case line[0] == '"':
			return word, line[1:], true
		case line[0] != '\\' || len(line) == 1:
			word, line = append(word, line[0]), line[1:]
		case line[1] == 'x' && len(line) >= 4 && hexadecimal(line[2:4]) != nil:
			word, line = append(word, hexadecimal(line[2:4])...), line[4:]
		default:
			c := line[1]
			if escaped, ok := escapes[c]; ok {
				c = escaped
			}
			word, line = append(word, c), line[2:]
		}
	}
	return nil, nil, false
}

func hexadecimal(b []byte) []byte {
	out, err := hex.DecodeString(string(b))
	if err != nil {
		return nil
	}
	return out
}

func singleQuoted(word, line []byte) (_, rest []byte, ok bool) {
	for len(line) > 0 {
		switch {
		case line[0] == '\'':
			return word, line[1:], true
		case line[0] == '\\' && len(line) > 1 && line[1] == '\'':
			word, line = append(word, '\''), line[2:]
		default:
			word, line = append(word, line[0]), line[1:]
		}
	}
	return nil, nil, false
}
