package mysql

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"orrery/state"
)

// A canonical dump is SQL that the server's client loads. It has the fixed lines of magic, for each table its
// definition and its rows, then triggers, events, routines and views, and the end marker. Left out is what
// differs between dumps of one state: versions, comments, the sizes of INSERT statements, and the saving
// and setting of variables, but for those that an object was made under.
const (
	magic = "-- Orrery MySQL dump 1\nSET NAMES utf8mb4;\nSET time_zone = '+00:00';\nSET unique_checks = 0;\n" +
		"SET foreign_key_checks = 0;\nSET sql_mode = 'NO_AUTO_VALUE_ON_ZERO';\n"
	endMarker    = "-- Orrery dump complete"
	rawEndMarker = "-- Dump completed"
	// maxRows is about how many bytes of rows one INSERT statement has.
	maxRows = 256 << 10
)

type kind int

const (
	kindTable kind = iota // a table's or a sequence's definition
	kindRows
	kindValue // the position of a sequence
	kindObject
	kindEvent // an object that must not come to life before its database
)

// statement is one of a dump.
type statement struct {
	kind    kind
	name    string // of the table or sequence
	text    []byte
	what    string // of an object: the word that makes it, TRIGGER for example
	table   string // of a trigger
	context string // the variables that an object is made under, as the text after SET; empty: the dump's own
}

// defaults are the variables that objects are made under, as magic sets them.
var contextNames = []string{"character_set_client", "collation_connection", "sql_mode", "time_zone"}

var contextDefaults = map[string]string{
	"character_set_client": "utf8mb4", "collation_connection": "utf8mb4_general_ci", "sql_mode": "'NO_AUTO_VALUE_ON_ZERO'", "time_zone": "'+00:00'",
}

// resetContext is the text after SET that ends an object's context.
const resetContext = "character_set_client = utf8mb4, collation_connection = utf8mb4_general_ci, sql_mode = 'NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'"

// reader reads a canonical dump, or what the dump tool writes. What does not belong into a dump is refused.
type reader struct {
	s       *splitter
	end     string
	context map[string]string
	events  map[string]statement // in the place of what the dump has under their names
	awake   bool                 // events that came by replication, which do not run there, are as they are at the source
	columns map[string]columns   // of tables whose rows have values that do not belong there
}

// openSnapshot reads a canonical dump.
func openSnapshot(r io.Reader) (*reader, error) {
	first := make([]byte, len(magic))
	if _, err := io.ReadFull(r, first); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, fmt.Errorf("cannot read the snapshot: %w", err)
	}
	if string(first) != magic {
		return nil, fmt.Errorf("%w: the snapshot is not a MySQL dump of version 1", state.ErrCorrupt)
	}
	return newReader(r, endMarker), nil
}

func newReader(r io.Reader, end string) *reader {
	return &reader{s: newSplitter(r), end: end, context: map[string]string{}}
}

// next returns the next statement that counts; io.EOF after the end marker.
func (r *reader) next() (statement, error) {
	for {
		text, err := r.s.next()
		if errors.Is(err, io.EOF) {
			if r.s.comment != r.end || !r.s.whole {
				return statement{}, fmt.Errorf("%w: the dump ends before its end marker", state.ErrCorrupt)
			}
			return statement{}, io.EOF
		}
		if err != nil {
			return statement{}, err
		}
		r.s.comment = "" // the end marker comes after the last statement
		st, keep, err := r.classify(text)
		if c, ok := r.columns[st.name]; ok && err == nil && st.kind == kindRows {
			st.text, err = c.without(st.text)
		}
		if err != nil || keep {
			return st, err
		}
	}
}

func (r *reader) classify(text []byte) (statement, bool, error) {
	words := tokens(text, maxHead)
	st := statement{text: text}
	if len(words) == 0 {
		return st, false, fmt.Errorf("%w: the dump has a statement without words: %.60q", state.ErrCorrupt, text)
	}
	switch words[0] {
	case "SET":
		return st, false, r.set(words)
	case "LOCK", "UNLOCK", "ALTER": // ALTER DATABASE around objects, and ALTER TABLE for keys
		return st, false, nil
	case "DROP":
		st.kind, st.what = kindObject, view
		if len(words) > 1 && words[1] == view {
			return aboutName(st, words, 4)
		}
		if len(words) > 1 && slices.Contains([]string{"TABLE", "SEQUENCE", "TRIGGER", "EVENT", "FUNCTION", "PROCEDURE", "PACKAGE"}, words[1]) {
			return st, false, nil // the side database has none
		}
	case "INSERT":
		st.kind = kindRows
		return aboutName(st, words, 2)
	case "DO", "SELECT": // SETVAL ( name
		st.kind = kindValue
		if len(words) > 3 && words[1] == "SETVAL" {
			return aboutName(st, words, 3)
		}
	case "CREATE":
		return r.create(st, words)
	}
	return st, false, fmt.Errorf("%w: the dump has a statement that does not belong there: %.60q", state.ErrCorrupt, text)
}

// aboutName takes the name of what a statement is about, which must be in the database itself.
func aboutName(st statement, words []string, at int) (statement, bool, error) {
	var ok bool
	if at < len(words) {
		st.name, ok = unquote(words[at])
	}
	if !ok || at+1 < len(words) && words[at+1] == "." {
		return st, false, fmt.Errorf("%w: the dump names something outside its database: %.60q", state.ErrCorrupt, st.text)
	}
	return st, true, nil
}

func (r *reader) create(st statement, words []string) (statement, bool, error) {
	if len(words) > 1 && (words[1] == "TABLE" || words[1] == "SEQUENCE") {
		return aboutName(st, words, 2)
	}
	st.kind = kindObject
	at := slices.IndexFunc(words, func(w string) bool { return slices.Contains(objectWords, w) })
	if at < 0 {
		return st, false, fmt.Errorf("%w: the dump creates something unknown: %.60q", state.ErrCorrupt, st.text)
	}
	if at+2 < len(words) && words[at+2] == "." {
		return st, false, fmt.Errorf("%w: the dump names something outside its database: %.60q", state.ErrCorrupt, st.text)
	}
	if st.what = words[at]; st.what == event {
		st.kind = kindEvent
	}
	if words[1] == view { // a stand-in, which other views refer to until the real one comes
		return st, true, nil
	}
	st.context = r.contextText()
	if at+1 < len(words) && st.kind == kindEvent {
		if stored, ok := r.events[words[at+1]]; ok {
			return stored, true, nil
		}
		if r.awake {
			st.text = awake(st.text)
		}
	}
	var err error
	if st.what == trigger { // as the server itself writes it once the table had another name
		if st.table, _, _, err = cutTrigger(st.text); err == nil {
			st.text, err = onTable(st.text, st.table)
		}
	}
	return st, err == nil, err
}

// set remembers the variables that objects are made under.
func (r *reader) set(words []string) error {
	if len(words) < 4 || words[2] != "=" {
		return nil // NAMES, or @variables in which the tool remembers something
	}
	name, value := strings.ToLower(words[1]), words[3]
	if _, known := contextDefaults[name]; !known {
		return nil
	}
	switch {
	case value == "@":
		value = contextDefaults[name]
	case value[0] == '\'' || wordByte(value[0]):
		if value[0] != '\'' {
			value = strings.ToLower(value)
		}
	default:
		return fmt.Errorf("%w: the dump sets %s to %.20q", state.ErrCorrupt, name, value)
	}
	if delete(r.context, name); value != contextDefaults[name] {
		r.context[name] = value
	}
	r.s.noBackslash = strings.Contains(r.context["sql_mode"], "NO_BACKSLASH_ESCAPES")
	return nil
}

func (r *reader) contextText() string {
	var parts []string
	for _, name := range contextNames {
		if value, ok := r.context[name]; ok {
			parts = append(parts, name+" = "+value)
		}
	}
	return strings.Join(parts, ", ")
}

// canonicalise writes the canonical form of a dump.
func canonicalise(r *reader, out io.Writer) error {
	w := bufio.NewWriterSize(out, 64<<10)
	if _, err := w.WriteString(magic); err != nil {
		return err
	}
	c := &canonical{w: w}
	for {
		st, err := r.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err == nil {
			err = c.write(st)
		}
		if err != nil {
			return err
		}
	}
	if err := c.endRows(); err != nil {
		return err
	}
	if _, err := w.WriteString(endMarker + "\n"); err != nil {
		return err
	}
	return w.Flush()
}

type canonical struct {
	w    *bufio.Writer
	head []byte // of the INSERT that is open
	size int    // of the rows in it
}

func (c *canonical) write(st statement) error {
	if st.kind == kindRows {
		return c.rows(st)
	}
	if err := c.endRows(); err != nil {
		return err
	}
	if st.kind != kindObject && st.kind != kindEvent {
		_, err := fmt.Fprintf(c.w, "%s;\n", st.text)
		return err
	}
	parts := strings.Split(st.context, ", ")
	for _, part := range parts {
		if part != "" {
			fmt.Fprintf(c.w, "SET %s;\n", part)
		}
	}
	_, err := fmt.Fprintf(c.w, "DELIMITER ;;\n%s\n;;\nDELIMITER ;\n", st.text)
	for _, part := range parts {
		if name, _, _ := strings.Cut(part, " "); name != "" {
			fmt.Fprintf(c.w, "SET %s = %s;\n", name, contextDefaults[name])
		}
	}
	return err
}

// rows writes rows in statements whose sizes do not depend on the tool's settings.
func (c *canonical) rows(st statement) error {
	head, values, err := cutInsert(st.text)
	if err != nil {
		return err
	}
	if !bytes.Equal(head, c.head) {
		if err := c.endRows(); err != nil {
			return err
		}
	}
	return eachRow(values, func(row []byte) error {
		if c.size > maxRows {
			if err := c.endRows(); err != nil {
				return err
			}
		}
		separator := ",\n"
		if c.head == nil {
			c.head, separator = bytes.Clone(head), string(head)+"\n"
		}
		c.size += len(row)
		_, err := fmt.Fprintf(c.w, "%s%s", separator, row)
		return err
	})
}

func (c *canonical) endRows() error {
	if c.head == nil {
		return nil
	}
	c.head, c.size = nil, 0
	_, err := c.w.WriteString(";\n")
	return err
}

// cutInsert splits INSERT INTO name (columns) VALUES from its rows.
func cutInsert(text []byte) (head, values []byte, err error) {
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '`':
			i += quotedLength(text[i:]) - 1
		case c == 'V' && bytes.HasPrefix(text[i:], []byte("VALUES")):
			return text[:i+6], bytes.TrimSpace(text[i+6:]), nil
		case c == '\'' || c == '"':
			i = len(text)
		}
	}
	return nil, nil, fmt.Errorf("%w: an INSERT without VALUES: %.60q", state.ErrCorrupt, text)
}

// eachRow calls visit with each parenthesised row.
func eachRow(values []byte, visit func([]byte) error) error {
	for len(values) > 0 {
		n := rowLength(values)
		if n == 0 {
			return fmt.Errorf("%w: rows are malformed: %.60q", state.ErrCorrupt, values)
		}
		if err := visit(values[:n]); err != nil {
			return err
		}
		if values = bytes.TrimSpace(values[n:]); len(values) == 0 {
			return nil
		}
		if values[0] != ',' {
			return fmt.Errorf("%w: rows are malformed: %.60q", state.ErrCorrupt, values)
		}
		if values = bytes.TrimSpace(values[1:]); len(values) == 0 {
			return fmt.Errorf("%w: rows end with a comma", state.ErrCorrupt)
		}
	}
	return nil
}

// rowLength is the length of the row at the beginning, 0 if there is none.
func rowLength(text []byte) int {
	if text[0] != '(' {
		return 0
	}
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\'', '"', '`':
			i += quotedLength(text[i:]) - 1
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return 0
}
