// Package picker is what a picker shows and does, whatever draws it. It is pure: keys and results in, effects out.
//
// Keys are written as words: "a", "enter", "ctrl+p". What is typed narrows the list at once; arrows move in it at the same time. An Overlay may lie over the list: help,
// the actions for the item under the cursor, its QR code, its colour, or what an action printed; the next key that is not for it takes it away.
package picker

import (
	"slices"
	"unicode/utf8"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/find"
)

// State is a picker's state.
type State struct {
	Query  string
	Mode   find.Mode
	Items  []clip.Summary // the best match first
	Cursor int            // place in Items
	Top    int            // first of Items that is shown
	Rows   int            // how many are shown
	Item   *clip.Item     // whole, of the one under the cursor, once it is there; nil before
	Shows  *Preview       // of Item
	Note   string         // what went wrong, or was done

	Actions action.Set // that there are
	Paste   bool       // enter pastes, too

	Overlay Overlay
	Menu    action.Set    // for Item
	Choice  int           // place in Menu
	Code    *Modules      // of Item's text
	Colour  action.Colour // that Item's text names
	Lines   []string      // what an action printed
	First   int           // of Lines that is shown

	stale bool   // Items are those of an earlier query
	waits string // a key that Items or Item are needed for
	gives bool   // an item is being given
}

// Effect is what is to be done outside. Its answer comes back by Found, Shown or Done.
type Effect any

// The effects.
type (
	// Search asks for the items that match; Found is its answer.
	Search struct {
		Query string
		Mode  find.Mode
	}
	// Show asks for a whole item; Shown is its answer.
	Show struct{ ID clip.ID }
	// Give puts an item into the clipboard, and ends the picker. Paste also pastes it into the window that had the focus before.
	Give struct {
		ID    clip.ID
		Plain bool
		Paste bool
	}
	// Pin pins an item, or does not any more; Done is its answer.
	Pin struct {
		ID     clip.ID
		Pinned bool
	}
	// Delete deletes an item; Done is its answer.
	Delete struct{ ID clip.ID }
	// Edit lets somebody edit an item's text; Edited is its answer.
	Edit struct{ ID clip.ID }
	// Open has the desktop open an address; Opened is its answer.
	Open struct{ Address string }
	// Run carries an action out that is more than to show something; Ran is its answer.
	Run struct {
		ID     clip.ID
		Action action.Action
	}
	// Quit ends the picker.
	Quit struct{}
)

// modes in the order in which a key goes through them.
var modes = []find.Mode{find.Words, find.Fuzzy, find.Pattern, find.Exact} //nolint:gochecknoglobals // a list

// Start makes a picker with room for some rows. paste says that enter pastes, too.
func Start(rows int, actions action.Set, paste bool) (*State, []Effect) {
	s := &State{Mode: find.Words, Rows: max(1, rows), Actions: actions, Paste: paste}
	return s, s.search()
}

// Keys are all keys and what they do.
var Keys = [][2]string{ //nolint:gochecknoglobals // a table
	{"type", "narrow the list"},
	{"up, down", "move"},
	{"pgup, pgdown", "move by a page"},
	{"enter", "copy, and end"},
	{"alt+enter", "copy the text alone"},
	{"alt+v", "copy, and paste into the window before"},
	{"alt+1 … alt+9", "copy the item in that row"},
	{"ctrl+p", "pin, unpin"},
	{"ctrl+d", "delete"},
	{"ctrl+a", "actions for it"},
	{"ctrl+e", "edit its text; the old one stays"},
	{"ctrl+o", "open its address"},
	{"ctrl+r", "its QR code"},
	{"tab", "words, fuzzy, regexp, exact"},
	{"ctrl+u", "clear the query"},
	{"f1", "this help"},
	{"esc", "end"},
}

func (s *State) search() []Effect {
	s.stale = true
	return []Effect{Search{s.Query, s.Mode}}
}

// forItem says whether a key does something with an item. Whoever types fast means the item that will be found, not the one that still stands there.
func forItem(key string) bool {
	return slices.Contains([]string{"enter", "alt+enter", "alt+v", "ctrl+p", "ctrl+d", "ctrl+a", "ctrl+e", "ctrl+o", "ctrl+r"}, key) || numbered(key)
}

// numbered says whether a key is alt and a digit.
func numbered(key string) bool {
	const n = len("alt+")
	return len(key) == n+1 && key[:n] == "alt+" && key[n] >= '1' && key[n] <= '9'
}

// Key takes a key in.
func (s *State) Key(key string) []Effect {
	s.Note = ""
	s.waits = ""
	if s.Overlay != None {
		if effects, taken := s.over(key); taken {
			return effects
		}
	}
	if s.stale && forItem(key) {
		s.waits = key
		return nil
	}
	switch key {
	case "esc", "ctrl+c":
		return []Effect{Quit{}}
	case "f1":
		return s.lay(Help)
	case "up":
		return s.move(-1)
	case "down":
		return s.move(1)
	case "pgup":
		return s.move(-s.Rows)
	case "pgdown":
		return s.move(s.Rows)
	case "home":
		return s.move(-len(s.Items))
	case "end":
		return s.move(len(s.Items))
	case "tab":
		s.Mode = modes[(slices.Index(modes, s.Mode)+1)%len(modes)]
		return s.search()
	case "ctrl+u":
		return s.Type("", len(s.Query))
	case "backspace":
		_, n := utf8.DecodeLastRuneInString(s.Query)
		return s.Type("", n)
	case "enter", "alt+enter", "alt+v", "ctrl+p", "ctrl+d":
		return s.act(key)
	case "ctrl+a", "ctrl+e", "ctrl+o", "ctrl+r":
		return s.whole(key)
	default:
		if numbered(key) {
			if at := s.Top + int(key[len("alt+")]-'1'); at < len(s.Items) {
				return s.give(Give{ID: s.Items[at].ID, Paste: s.Paste})
			}
		}
	}
	return nil
}

// act does something with the item under the cursor.
func (s *State) act(key string) []Effect {
	if s.Cursor >= len(s.Items) {
		return nil
	}
	item := &s.Items[s.Cursor]
	switch key {
	case "enter", "alt+enter", "alt+v":
		return s.give(Give{item.ID, key == "alt+enter", s.Paste || key == "alt+v"})
	case "ctrl+p":
		item.Pinned = !item.Pinned
		return []Effect{Pin{item.ID, item.Pinned}}
	default:
		id := item.ID
		s.Items = slices.Delete(s.Items, s.Cursor, s.Cursor+1)
		return append([]Effect{Delete{id}}, s.move(0)...)
	}
}

// give gives one item, however often a key for it comes, such as one that is held down: the picker ends by it.
func (s *State) give(g Give) []Effect {
	if s.gives {
		return nil
	}
	s.gives = true
	return []Effect{g}
}

// whole does what a key says with the whole item under the cursor, once that is there.
func (s *State) whole(key string) []Effect {
	if s.Item == nil {
		s.waits = key
		return nil
	}
	switch key {
	case "ctrl+a":
		return s.menu()
	case "ctrl+e":
		return s.builtin(action.Edit, "text")
	case "ctrl+o":
		return s.builtin(action.Open, "address that can be opened")
	}
	return s.builtin(action.QR, "text that fits into a QR code")
}

// Type takes back the last bytes of the query, and adds text to it. In the menu a digit chooses.
func (s *State) Type(text string, back int) []Effect {
	if s.Overlay == Menu && len(text) == 1 && '1' <= text[0] && text[0] <= '9' {
		return s.choose(int(text[0] - '1'))
	}
	s.lay(None)
	s.Note, s.waits = "", ""
	before := s.Query
	s.Query = s.Query[:len(s.Query)-min(back, len(s.Query))] + text
	if s.Query == before {
		return nil
	}
	s.Cursor, s.Top = 0, 0
	return s.search()
}

// Resize gives it room for other rows.
func (s *State) Resize(rows int) {
	s.Rows = max(1, rows)
	s.move(0)
}

// move moves the cursor, and what is shown with it.
func (s *State) move(by int) []Effect {
	s.Cursor = max(0, min(s.Cursor+by, len(s.Items)-1))
	s.Top = max(0, min(s.Top, s.Cursor, len(s.Items)-s.Rows))
	s.Top = max(s.Top, s.Cursor-s.Rows+1)
	return s.show()
}

// show asks for the item under the cursor, unless it is there.
func (s *State) show() []Effect {
	if s.Cursor >= len(s.Items) {
		s.Item, s.Shows = nil, nil
		return nil
	}
	id := s.Items[s.Cursor].ID
	if s.Item != nil && s.Item.ID == id {
		return nil
	}
	s.Item, s.Shows, s.waits = nil, nil, ""
	if s.Overlay == Menu {
		s.lay(None)
	}
	return []Effect{Show{id}}
}

// Found takes the answer to a search in; that of an earlier query is of no use any more.
func (s *State) Found(q Search, items []clip.Summary, err error) []Effect {
	if q.Query != s.Query || q.Mode != s.Mode {
		return nil
	}
	key := s.waits
	s.stale, s.waits = false, ""
	if err != nil {
		s.Note = err.Error()
		return nil
	}
	s.Items = items
	effects := s.move(0)
	if key != "" {
		effects = append(effects, s.Key(key)...)
	}
	return effects
}

// Shown takes a whole item in.
func (s *State) Shown(item clip.Item, err error) []Effect {
	if err != nil {
		s.Note = err.Error()
		return nil
	}
	if s.Cursor >= len(s.Items) || s.Items[s.Cursor].ID != item.ID {
		return nil
	}
	s.Item, s.Shows = &item, preview(&item)
	if key := s.waits; key != "" {
		s.waits = ""
		return s.whole(key)
	}
	return nil
}

// Done takes in how something ended.
func (s *State) Done(err error) []Effect {
	if err != nil {
		s.Note = err.Error()
		return s.search()
	}
	return nil
}

// Visible are the items that are shown.
func (s *State) Visible() []clip.Summary {
	return s.Items[min(s.Top, len(s.Items)):min(s.Top+s.Rows, len(s.Items))]
}
