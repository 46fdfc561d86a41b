package script

import "bytes"

type mode int

const (
	code mode = iota
	single
	escaped // E'...'
	double
	dollar
	line  // -- to the end of the line
	block // /* */, nested
)

// lexer finds the end of a statement, a byte at a time.
type lexer struct {
	mode    mode
	tag     []byte // of the dollar quote that it is in, with its dollars
	opened  int    // where the content of that quote begins
	tagAt   int    // 1 + where a dollar quote may have begun
	depth   int    // of block comments
	parens  int
	atomic  int  // depth of BEGIN ATOMIC ... END of a function's body
	word    int  // 1 + where the current word began
	before  byte // the byte before
	after   bool // a backslash in an escaped string came before
	ended   bool
	skipped bool // what was read is a comment before the statement
	some    bool // something other than comments was read
	lastTwo [2]string
}

func (l *lexer) outside() bool     { return l.mode == code }
func (l *lexer) onlyComment() bool { return !l.some && (l.mode == line || l.mode == code) }

// next takes a byte; text is all of the statement so far, with it.
func (l *lexer) next(c byte, text []byte) {
	before := l.before
	l.before = c
	switch l.mode {
	case code:
		l.code(c, before, text)
	case single, double:
		if end := byte('\''); c == end && l.mode == single || c == '"' && l.mode == double {
			l.mode = code // a doubled quote opens it again
		}
	case escaped:
		switch {
		case l.after:
			l.after = false
		case c == '\\':
			l.after = true
		case c == '\'':
			l.mode = code
		}
	case dollar:
		if c == '$' && len(text)-len(l.tag) >= l.opened && bytes.HasSuffix(text, l.tag) {
			l.mode, l.before = code, ' '
		}
	case line:
		if c == '\n' {
			l.endComment()
		}
	case block:
		l.comment(c, before)
	}
}

func (l *lexer) comment(c, before byte) {
	switch {
	case before == '/' && c == '*':
		l.depth++
		l.before = 0
	case before == '*' && c == '/':
		l.before = 0
		if l.depth--; l.depth == 0 {
			l.endComment()
		}
	}
}

func (l *lexer) endComment() {
	l.mode = code
	l.skipped = !l.some
}

func (l *lexer) code(c, before byte, text []byte) {
	if l.word > 0 && !isWord(c) {
		l.endWord(text[l.word-1 : len(text)-1])
	}
	if l.tagAt > 0 && !isWord(c) && c != '$' {
		l.tagAt = 0
	}
	switch {
	case c == '-' && before == '-':
		l.mode = line
		l.some = l.some && len(bytes.TrimSpace(text[:len(text)-2])) > 0
		return
	case c == '*' && before == '/':
		l.mode, l.depth, l.before = block, 1, 0
		l.some = len(bytes.TrimSpace(text[:len(text)-2])) > 0
		return
	case c == '\'':
		l.mode = single
		if (before == 'E' || before == 'e') && (len(text) < 3 || !isWord(text[len(text)-3])) {
			l.mode, l.after = escaped, false
		}
		l.word = 0
	case c == '"':
		l.mode, l.word = double, 0
	case c == '$':
		l.quote(before, text)
	case c == '(':
		l.parens++
	case c == ')':
		l.parens--
	case c == ';' && l.parens <= 0 && l.atomic == 0:
		l.ended = true
	case isWord(c) && l.word == 0 && l.tagAt == 0:
		l.word = len(text)
	}
	if !isSpace(c) {
		l.some = true
	}
}

// quote handles a dollar: it may begin a tag, or end it.
func (l *lexer) quote(before byte, text []byte) {
	switch {
	case l.tagAt > 0:
		l.mode, l.tag, l.opened, l.tagAt, l.word = dollar, bytes.Clone(text[l.tagAt-1:]), len(text), 0, 0
	case !isWord(before):
		l.tagAt = len(text)
	}
}

// endWord follows the bodies of SQL-standard functions, which have semicolons in them.
func (l *lexer) endWord(word []byte) {
	l.word = 0
	if len(word) > 8 {
		l.lastTwo[1] = ""
		return
	}
	w := string(bytes.ToLower(word))
	switch {
	case w == "atomic" && l.lastTwo[1] == "begin":
		l.atomic++
	case w == "case" && l.atomic > 0:
		l.atomic++
	case w == "end" && l.atomic > 0:
		l.atomic--
	}
	l.lastTwo[0], l.lastTwo[1] = l.lastTwo[1], w
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
