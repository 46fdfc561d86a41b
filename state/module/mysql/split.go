package mysql

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"orrery/state"
)

// maxStatement bounds one statement; the server's own limit is the same.
const maxStatement = 1 << 30

// splitter cuts SQL text as the clients of MySQL do: into statements that end with the delimiter, which lines
// DELIMITER change. Comments between statements are left out.
type splitter struct {
	r           *bufio.Reader
	delimiter   string
	noBackslash bool   // a backslash is a character like any other (NO_BACKSLASH_ESCAPES)
	rest        []byte // of the line after a delimiter
	comment     string // the last line that was a comment
	whole       bool   // and whether it had its line end
}

func newSplitter(r io.Reader) *splitter {
	return &splitter{r: bufio.NewReaderSize(r, 64<<10), delimiter: ";"}
}

// line returns the next line with its end; io.EOF after the last one.
func (s *splitter) line() ([]byte, error) {
	if len(s.rest) > 0 {
		line := s.rest
		s.rest = nil
		return line, nil
	}
	line, err := s.r.ReadBytes('\n')
	if len(line) > maxStatement {
		return nil, fmt.Errorf("%w: a line is longer than %d bytes", state.ErrCorrupt, maxStatement)
	}
	if errors.Is(err, io.EOF) && len(line) > 0 {
		return line, nil
	}
	return line, err
}

// next returns the next statement without its delimiter; io.EOF after the last one.
func (s *splitter) next() ([]byte, error) {
	var statement []byte
	var inside byte
	for {
		line, err := s.line()
		if errors.Is(err, io.EOF) && len(bytes.TrimSpace(statement)) > 0 {
			return nil, fmt.Errorf("%w: a statement is cut short", state.ErrCorrupt)
		}
		if err != nil {
			return nil, err
		}
		if len(statement) == 0 && inside == 0 && s.between(line) {
			continue
		}
		end, after := s.scan(line, &inside)
		statement = append(statement, line[:end]...)
		if len(statement) > maxStatement {
			return nil, fmt.Errorf("%w: a statement is longer than %d bytes", state.ErrCorrupt, maxStatement)
		}
		if after < 0 {
			continue
		}
		if s.rest = line[after:]; len(bytes.TrimSpace(s.rest)) == 0 {
			s.rest = nil
		}
		if statement = bytes.TrimSpace(statement); len(statement) > 0 {
			return statement, nil
		}
	}
}

// between handles a line between statements that is none.
func (s *splitter) between(line []byte) bool {
	text := bytes.TrimSpace(line)
	switch {
	case len(text) == 0:
		return true
	case bytes.HasPrefix(text, []byte("--")) && (len(text) == 2 || text[2] == ' ' || text[2] == '\t'), text[0] == '#':
		s.comment, s.whole = string(text), line[len(line)-1] == '\n'
		return true
	case bytes.HasPrefix(text, []byte("/*M!999999\\-")): // only marks what follows as safe for the client
		return true
	case len(text) > 10 && strings.EqualFold(string(text[:10]), "delimiter "): // trimmed, so that something follows
		s.delimiter = string(bytes.TrimSpace(text[10:]))
		return true
	}
	return false
}

// scan looks for the delimiter in a line. It returns how much of the line belongs to the statement and where
// the line goes on after the delimiter, -1 if it has none. inside is the quote or comment that the line begins in.
func (s *splitter) scan(line []byte, inside *byte) (end, after int) {
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch *inside {
		case 0:
			if c == s.delimiter[0] && bytes.HasPrefix(line[i:], []byte(s.delimiter)) {
				return i, i + len(s.delimiter)
			}
			*inside = opens(line[i:])
		case '*':
			if c == '/' && i > 0 && line[i-1] == '*' {
				*inside = 0
			}
		case '#':
			if c == '\n' {
				*inside = 0
			}
		case c:
			*inside = 0
		default:
			if c == '\\' && *inside != '`' && !s.noBackslash {
				i++
			}
		}
	}
	return len(line), -1
}

// opens says what quote or comment begins here; 0: none.
func opens(text []byte) byte {
	switch c := text[0]; {
	case c == '\'' || c == '"' || c == '`' || c == '#':
		return c
	case c == '-' && len(text) > 2 && text[1] == '-' && text[2] <= ' ':
		return '#'
	case c == '/' && len(text) > 2 && text[1] == '*' && text[2] != '!' && text[2] != 'M':
		return '*'
	}
	return 0
}
