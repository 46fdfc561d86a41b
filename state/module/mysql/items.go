package mysql

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"

	"orrery/state"
)

// The parts of a snapshot that are not tables. No table can be named so without quotes.
const (
	partDefinitions = "(definitions)" // tables by name, and the statements that make triggers, events, routines and views
	partSequences   = "(sequences)"   // positions by name
)

// Items implements state.Itemizer: a row is its text in the dump, called by its primary key. Definitions and the positions of
// sequences are items too.
func (*Module) Items(ctx context.Context, snapshot io.Reader, visit func(state.Item) error) error {
	r, err := openSnapshot(snapshot)
	if err != nil {
		return err
	}
	keys := map[string]definition{}
	for {
		st, err := r.next()
		if errors.Is(err, io.EOF) {
			return ctx.Err()
		}
		if err == nil && st.kind == kindTable {
			keys[st.name] = define(st.text)
		}
		if err == nil {
			err = errors.Join(ctx.Err(), st.items(keys[st.name], visit))
		}
		if err != nil {
			return err
		}
	}
}

func (st statement) items(of definition, visit func(state.Item) error) error {
	switch st.kind {
	case kindTable:
		if err := visit(state.Item{Part: partDefinitions, Key: []byte("table " + st.name), Content: st.text}); err != nil {
			return err
		}
		return visit(state.Item{Part: st.name})
	case kindRows:
		head, values, err := cutInsert(st.text)
		if err != nil {
			return err
		}
		key := of.positions(head)
		return eachRow(values, func(row []byte) error { return visit(rowItem(st.name, row, key)) })
	case kindValue:
		return visit(state.Item{Part: partSequences, Key: []byte(st.name), Content: st.text})
	case kindObject, kindEvent:
		if !bytes.HasPrefix(st.text, []byte("DROP")) { // of the stand-in of a view
			return visit(state.Item{Part: partDefinitions, Content: append([]byte(st.context+" "), st.text...)})
		}
	}
	return nil
}

// definition is what a table's definition says of its columns.
type definition struct{ columns, key []string }

// define reads a definition as the server writes it, a column or a key a line. Where a name has a line's end in it the key
// may be that of other columns, or none; it is the same for all rows.
func define(text []byte) (d definition) {
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if key, ok := strings.CutPrefix(line, "PRIMARY KEY "); ok {
			d.key = quotedNames([]byte(key))
		} else if strings.HasPrefix(line, "`") {
			d.columns = append(d.columns, line[:quotedLength([]byte(line))])
		}
	}
	return d
}

// quotedNames are the names in backquotes in a text, with those.
func quotedNames(text []byte) (all []string) {
	for i := bytes.IndexByte(text, '`'); i >= 0; i = bytes.IndexByte(text, '`') {
		n := quotedLength(text[i:])
		all, text = append(all, string(text[i:][:n])), text[i+n:]
	}
	return all
}

// positions are where in a row the columns of the key are. An INSERT may name the columns that it has.
func (d definition) positions(head []byte) (all []int) {
	columns := d.columns
	if named := quotedNames(head); len(named) > 1 { // the first is the table
		columns = named[1:]
	}
	for _, name := range d.key {
		at := slices.Index(columns, name)
		if at < 0 {
			return nil
		}
		all = append(all, at)
	}
	return all
}

// rowItem is a row in its parentheses as an item.
func rowItem(table string, row []byte, key []int) state.Item {
	i := state.Item{Part: table, Content: row}
	if len(key) == 0 {
		return i
	}
	values := fields(row)
	for n, at := range key {
		if at >= len(values) {
			return state.Item{Part: table, Content: row}
		}
		if n > 0 {
			i.Key = append(i.Key, ", "...)
		}
		i.Key = append(i.Key, values[at]...)
	}
	i.Within = true
	return i
}

// fields are the values of a row in its parentheses.
func fields(row []byte) (all [][]byte) {
	depth, begin := 0, 1
	for i := 0; i < len(row); i++ {
		switch row[i] {
		case '\'', '"', '`':
			i += quotedLength(row[i:]) - 1
		case '(':
			depth++
		case ')':
			depth--
		case ',':
			if depth == 1 {
				all, begin = append(all, row[begin:i]), i+1
			}
		}
	}
	return append(all, row[min(begin, len(row)):max(begin, len(row)-1)])
}

// Group implements state.Presenter.
func (*Module) Group(i state.Item) string { return i.Part }

// Name implements state.Presenter: a row without a key is told by its values, a statement in one line.
func (*Module) Name(i state.Item) string {
	const enough = 1 << 10
	if i.Key != nil {
		return string(i.Key)
	}
	text := i.Content[:min(len(i.Content), enough)]
	if i.Part == partDefinitions {
		return string(bytes.Join(bytes.Fields(text), []byte{' '}))
	}
	return string(bytes.TrimSuffix(bytes.TrimPrefix(text, []byte{'('}), []byte{')'}))
}
