package mysql

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"orrery/state"
)

// The kinds of objects, by the word that makes them.
const (
	trigger = "TRIGGER"
	event   = "EVENT"
	view    = "VIEW"
)

var objectWords = []string{view, trigger, "FUNCTION", "PROCEDURE", event, "PACKAGE"}

// maxHead is how many words of a statement are looked at for what it makes.
const maxHead = 24

// cutTrigger finds the table of a trigger, and from where to where the statement names it: from ON to FOR EACH ROW.
func cutTrigger(text []byte) (table string, at, end int, err error) {
	all := words(text, maxHead)
	i := slices.IndexFunc(all, func(w word) bool { return w.text == trigger })
	for i++; i > 0 && i+2 < len(all); i++ {
		if all[i].text == "ON" {
			table, at = identifier(text, all[i+1]), all[i].at
			if all[i+2].text == "." && i+4 < len(all) {
				i, table = i+2, identifier(text, all[i+3])
			}
			if all[i+2].text == "FOR" {
				return table, at, all[i+2].at, nil
			}
			break
		}
	}
	return "", 0, 0, fmt.Errorf("%w: the dump has a trigger without a table: %.60q", state.ErrCorrupt, text)
}

// identifier is the name that a word is, quoted or not.
func identifier(text []byte, w word) string {
	raw := string(text[w.at:w.end])
	if q := raw[0]; len(raw) > 2 && (q == '`' || q == '"') {
		return strings.ReplaceAll(raw[1:len(raw)-1], string(q)+string(q), string(q))
	}
	return raw
}

// onTable is a trigger of another table. The server writes a trigger's text like this when its table gets another name.
func onTable(text []byte, table string) ([]byte, error) {
	_, at, end, err := cutTrigger(text)
	if err != nil {
		return nil, err
	}
	return bytes.Join([][]byte{text[:at], []byte("ON " + quote(table) + " "), text[end:]}, nil), nil
}

// disabled is an event that does not run.
func disabled(text []byte) []byte {
	for _, w := range words(text, 200) { // longer than any schedule
		switch w.text {
		case "ENABLE":
			return bytes.Join([][]byte{text[:w.at], []byte("DISABLE"), text[w.end:]}, nil)
		case "DO", "DISABLE":
			return text
		}
	}
	return text
}

// awake is an event as it is where it was made, if another server has it by replication.
func awake(text []byte) []byte {
	all := words(text, 200)
	for i, w := range all {
		switch {
		case w.text == "DO", w.text == "ENABLE":
			return text
		case w.text == "DISABLE" && i+2 < len(all) && all[i+1].text == "ON" && all[i+2].text == "SLAVE":
			return bytes.Join([][]byte{text[:w.at], []byte("ENABLE"), text[all[i+2].end:]}, nil)
		}
	}
	return text
}

// early says that an object is made before the tables can be seen: a trigger must not miss what is written, and may
// call routines, which look at no table before they run.
func (st statement) early() bool { return st.what != view && st.what != event }
