package picker

import (
	"strings"

	"rsc.io/qr"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/markup"
)

// Overlay is what lies over the list.
type Overlay byte

// The overlays.
const (
	None   Overlay = iota
	Help           // Keys
	Menu           // State.Menu, with State.Choice
	Code           // State.Code
	Swatch         // State.Colour
	Text           // State.Lines, from State.Top on
)

// Modules are the dark and light squares of a QR code. Whoever draws them leaves a light margin of four squares around.
type Modules struct {
	Size int
	code *qr.Code
}

// Dark says what a square is; those outside are light.
func (m *Modules) Dark(x, y int) bool { return m.code.Black(x, y) }

// Encode makes a QR code of a text, with the most correction that leaves it readable from a screen.
func Encode(text string) (*Modules, error) {
	level := qr.M
	if len(text) > 1000 {
		level = qr.L
	}
	code, err := qr.Encode(text, level)
	if err != nil {
		return nil, err
	}
	return &Modules{code.Size, code}, nil
}

// Preview is what is shown of the item under the cursor beside the list.
type Preview struct {
	Text   string         // of markup, as it reads; cut at some length
	Image  *clip.Content  // a picture, as it was copied
	Colour *action.Colour // what the text names, if that is a colour
	Types  []clip.Content // where there is neither text nor a picture: all types
}

// maxPreview is how much text is shown.
const maxPreview = 16 << 10

// preview says what is shown of an item.
func preview(item *clip.Item) *Preview {
	p := &Preview{}
	for i, c := range item.Contents {
		switch {
		case c.Type == "text/html" && item.Kind == clip.HTML && p.Text == "":
			p.Text = markup.Text(c.Data)
		case strings.HasPrefix(c.Type, "image/") && p.Image == nil:
			p.Image = &item.Contents[i]
		}
	}
	if p.Text == "" {
		p.Text, _ = clip.PlainText(item.Contents)
	}
	if p.Text == "" && p.Image == nil {
		p.Text = files(item)
	}
	p.Text = strings.ToValidUTF8(p.Text[:min(len(p.Text), maxPreview)], "")
	if c, ok := action.ParseColour(strings.TrimSpace(p.Text)); ok {
		p.Colour = &c
	}
	if p.Text == "" && p.Image == nil {
		p.Types = item.Contents
	}
	return p
}

// files is a list of files, one a line.
func files(item *clip.Item) string {
	for _, c := range item.Contents {
		if c.Type == "text/uri-list" || c.Type == "x-special/gnome-copied-files" {
			return strings.ReplaceAll(string(c.Data), "\r\n", "\n")
		}
	}
	return ""
}

// lay lays something over the list.
func (s *State) lay(o Overlay) []Effect {
	s.Overlay, s.Choice, s.First = o, 0, 0
	return nil
}

// over takes a key in while something lies over the list; false if the key is meant for the list, from which it then has gone.
func (s *State) over(key string) ([]Effect, bool) {
	page := max(1, s.Rows-1)
	by, moves := map[string]int{"up": -1, "down": 1, "pgup": -page, "pgdown": page, "home": -len(s.Lines) - len(s.Menu), "end": len(s.Lines) + len(s.Menu)}[key]
	switch {
	case moves && s.Overlay == Menu:
		s.Choice = max(0, min(s.Choice+by, len(s.Menu)-1))
		return nil, true
	case moves && s.Overlay == Text:
		s.First = max(0, min(s.First+by, len(s.Lines)-1))
		return nil, true
	case key == "enter" && s.Overlay == Menu:
		return s.choose(s.Choice), true
	case len(key) == len("alt+1") && strings.HasPrefix(key, "alt+") && s.Overlay == Menu && key[4] >= '1' && key[4] <= '9':
		return s.choose(int(key[4] - '1')), true
	}
	was := s.Overlay
	s.lay(None)
	// Whatever key ends what is only shown does nothing else.
	return nil, was != Menu || key == "esc" || key == "ctrl+a"
}

// choose does the action at a place of the menu.
func (s *State) choose(at int) []Effect {
	if at >= len(s.Menu) || s.Item == nil {
		return nil
	}
	return s.perform(s.Menu[at])
}

// perform does an action with the item under the cursor.
func (s *State) perform(a action.Action) []Effect {
	s.lay(None)
	item := s.Item
	text := action.Text(item)
	switch a.Builtin { //nolint:exhaustive // the others make something, elsewhere
	case action.Open:
		address, _ := action.Address(text)
		return []Effect{Open{address}}
	case action.Edit:
		return []Effect{Edit{item.ID}}
	case action.Swatch:
		s.Colour, _ = action.ParseColour(text)
		return s.lay(Swatch)
	case action.QR:
		code, err := Encode(text)
		if err != nil {
			s.Note = "no QR code: " + err.Error()
			return nil
		}
		s.Code = code
		return s.lay(Code)
	}
	return []Effect{Run{item.ID, a}}
}

// builtin does a builtin with the item under the cursor, if it is for that.
func (s *State) builtin(b action.Builtin, what string) []Effect {
	a := action.Action{Name: string(b), Builtin: b}
	if len((action.Set{a}).For(s.Item)) == 0 {
		s.Note = "this item is no " + what
		return nil
	}
	return s.perform(a)
}

// menu shows the actions for the item under the cursor.
func (s *State) menu() []Effect {
	if s.Menu = s.Actions.For(s.Item); len(s.Menu) == 0 {
		s.Note = "no action is for this item"
		return nil
	}
	return s.lay(Menu)
}

// Ran takes in what an action made: what it printed, if that is to be shown; copied says that something new is in the clipboard.
func (s *State) Ran(a action.Action, printed string, err error) []Effect {
	if err != nil {
		s.Note = err.Error()
		return nil
	}
	switch a.Output { //nolint:exhaustive // after the others there is nothing to be seen
	case action.Show:
		s.Lines = strings.Split(strings.TrimRight(strings.ToValidUTF8(printed, "\ufffd"), "\n"), "\n")
		return s.lay(Text)
	case action.Add:
		s.Note = a.Name + ": added"
		s.Cursor, s.Top = 0, 0
		return s.search()
	}
	return []Effect{Quit{}}
}

// Opened takes in how opening an address went.
func (s *State) Opened(err error) []Effect {
	if err != nil {
		s.Note = err.Error()
		return nil
	}
	return []Effect{Quit{}}
}

// Edited takes in what came of editing: a new item, which the cursor is on; nil if nothing was changed.
func (s *State) Edited(made *clip.Summary, err error) []Effect {
	switch {
	case err != nil:
		s.Note = err.Error()
		return nil
	case made == nil:
		s.Note = "nothing was changed"
		return nil
	}
	s.Query, s.Cursor, s.Top = "", 0, 0
	return s.search()
}
