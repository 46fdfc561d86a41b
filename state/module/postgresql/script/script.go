// Package script reads SQL scripts as pg_dump writes them: statements, and the rows of COPY.
//
// A Reader yields one element at a time, so that a script of any size is read in little memory. It knows strings,
// quoted identifiers, dollar quotes and comments as the server does with standard_conforming_strings on, so that nothing in
// them is taken for a statement. It does not know grammar.
package script

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
)

// Kind is what an Element is.
type Kind int

// The kinds of elements.
const (
	Statement Kind = iota // Text is a statement with its semicolon, without comments before it
	Copy                  // Text is a COPY ... FROM stdin statement; rows follow
	Row                   // Text is a row of the last Copy, without the newline
	CopyEnd               // the last Copy has no more rows
)

// Element is a piece of a script. Text is valid until the next call.
type Element struct {
	Kind Kind
	Text []byte
}

const (
	// maxStatement bounds a statement. pg_dump's largest are function bodies, and the pieces of large objects.
	maxStatement = 64 << 20
	// maxRow is the longest row that is given as it is; of a longer one it is "sha256:" and the digest in hex,
	// unless LongRows is set.
	maxRow = 1 << 20
)

// ErrSyntax says that a script ends in the middle of a statement, or has one that is too long.
var ErrSyntax = errors.New("not a complete script")

// Reader reads a script.
type Reader struct {
	// LongRows has rows of any length given whole.
	LongRows bool

	r      *bufio.Reader
	inCopy bool
	buf    []byte
	lex    lexer
}

// NewReader reads r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, maxRow)} }

// Next returns the next element; io.EOF after the last.
func (r *Reader) Next() (Element, error) {
	if r.inCopy {
		return r.row()
	}
	r.buf = r.buf[:0]
	r.lex = lexer{}
	for {
		c, err := r.r.ReadByte()
		if errors.Is(err, io.EOF) {
			return r.last()
		}
		if err != nil {
			return Element{}, err
		}
		if len(r.buf) == 0 && r.lex.outside() && isSpace(c) {
			continue
		}
		r.buf = append(r.buf, c)
		if len(r.buf) > maxStatement {
			return Element{}, fmt.Errorf("%w: a statement is longer than %d bytes", ErrSyntax, maxStatement)
		}
		if r.lex.next(c, r.buf); r.lex.skipped {
			r.buf = r.buf[:0]
			r.lex = lexer{}
		}
		if r.lex.ended {
			return r.statement()
		}
	}
}

func (r *Reader) last() (Element, error) {
	if text := bytes.TrimSpace(r.buf); len(text) > 0 && !r.lex.onlyComment() {
		return Element{}, fmt.Errorf("%w: it ends after %.60q", ErrSyntax, text)
	}
	return Element{}, io.EOF
}

// statement looks whether rows follow.
func (r *Reader) statement() (Element, error) {
	if !IsCopy(r.buf) {
		return Element{Statement, r.buf}, nil
	}
	// The rows begin on the next line.
	if _, err := r.r.ReadSlice('\n'); err != nil && !errors.Is(err, io.EOF) {
		return Element{}, err
	}
	r.inCopy = true
	return Element{Copy, r.buf}, nil
}

// IsCopy says whether a statement is followed by rows.
func IsCopy(statement []byte) bool {
	text := bytes.ToLower(bytes.TrimSpace(bytes.TrimSuffix(statement, []byte(";"))))
	return bytes.HasPrefix(text, []byte("copy ")) && bytes.HasSuffix(text, []byte(" from stdin"))
}

func (r *Reader) row() (Element, error) {
	line, err := r.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return r.longRow(line)
	}
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: it ends in the rows of a table", ErrSyntax)
		}
		return Element{}, err
	}
	line = line[:len(line)-1]
	if string(line) == `\.` {
		r.inCopy = false
		return Element{Kind: CopyEnd}, nil
	}
	return Element{Row, line}, nil
}

func (r *Reader) longRow(begin []byte) (Element, error) {
	var sum hash.Hash
	if !r.LongRows {
		sum = sha256.New()
	}
	r.buf = r.buf[:0]
	take := func(piece []byte) {
		if sum != nil {
			sum.Write(piece)
			return
		}
		r.buf = append(r.buf, piece...)
	}
	take(begin)
	for {
		piece, err := r.r.ReadSlice('\n')
		if err == nil {
			take(piece[:len(piece)-1])
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return Element{}, fmt.Errorf("%w: it ends in the rows of a table: %w", ErrSyntax, err)
		}
		take(piece)
	}
	if sum != nil {
		r.buf = append(r.buf, "sha256:"+hex.EncodeToString(sum.Sum(nil))...)
	}
	return Element{Row, r.buf}, nil
}

// Table is the table's name in a COPY statement, as it is written there.
func Table(statement []byte) string {
	text := strings.TrimSpace(string(statement))
	if len(text) < 5 {
		return ""
	}
	name, _ := cutName(strings.TrimSpace(text[5:]))
	return name
}

// Columns are the names of the columns in a COPY statement, as they are written there.
func Columns(statement []byte) []string {
	text := strings.TrimSpace(string(statement))
	if len(text) < 5 {
		return nil
	}
	_, rest := cutName(strings.TrimSpace(text[5:]))
	return names(rest)
}

// names reads a list of names in parentheses; nil if it is none.
func names(text string) (all []string) {
	text, ok := strings.CutPrefix(strings.TrimSpace(text), "(")
	for ok {
		quoted := false
		end := strings.IndexFunc(text, func(r rune) bool {
			if r == '"' {
				quoted = !quoted
			}
			return !quoted && (r == ',' || r == ')')
		})
		if end < 0 {
			return nil
		}
		all = append(all, strings.TrimSpace(text[:end]))
		ok, text = text[end] == ',', text[end+1:]
	}
	return all
}

// PrimaryKey is the table and the columns of a statement of pg_dump that gives a table its primary key.
func PrimaryKey(statement []byte) (table string, columns []string, ok bool) {
	text, ok := strings.CutPrefix(string(statement), "ALTER TABLE ONLY ")
	if !ok {
		return "", nil, false
	}
	table, text = cutName(text)
	if text, ok = strings.CutPrefix(strings.TrimSpace(text), "ADD CONSTRAINT "); !ok {
		return "", nil, false
	}
	_, text = cutName(text)
	text, ok = strings.CutPrefix(strings.TrimSpace(text), "PRIMARY KEY ")
	columns = names(text)
	return table, columns, ok && columns != nil
}

// cutName takes a possibly quoted and qualified name off the beginning of a text.
func cutName(text string) (name, rest string) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case !quoted && (isSpace(c) || c == '(' || c == ';'):
			return text[:i], text[i:]
		}
	}
	return text, ""
}

func isSpace(c byte) bool {
	return c == ' ' || c == '\n' || c == '\t' || c == '\r' || c == '\f' || c == '\v'
}
