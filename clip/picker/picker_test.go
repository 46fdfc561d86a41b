package picker_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/find"
	"orrery/clip/picker"
)

// rig is a picker with items, whole ones at hand.
type rig struct {
	t *testing.T
	*picker.State
	items []clip.Item
}

func item(id clip.ID, contents ...clip.Content) clip.Item {
	return clip.Item{Summary: clip.Summary{ID: id, Kind: clip.KindOf(contents), Preview: clip.Preview(contents)}, Contents: contents}
}

func text(id clip.ID, s string) clip.Item {
	return item(id, clip.Content{Type: "text/plain", Data: []byte(s)})
}

func start(t *testing.T, paste bool, items ...clip.Item) *rig {
	t.Helper()
	s, effects := picker.Start(3, action.Defaults(), paste)
	r := &rig{t: t, State: s, items: items}
	r.want(effects, picker.Search{Mode: find.Words})
	r.find()
	return r
}

// find answers the search that is under way with all items.
func (r *rig) find() {
	r.t.Helper()
	var all []clip.Summary
	for _, i := range r.items {
		all = append(all, i.Summary)
	}
	r.answer(r.Found(picker.Search{Query: r.Query, Mode: r.Mode}, all, nil))
}

// answer answers what is asked for at once.
func (r *rig) answer(effects []picker.Effect) {
	r.t.Helper()
	for _, e := range effects {
		show, ok := e.(picker.Show)
		if !ok {
			r.t.Fatalf("%T%+v", e, e)
		}
		for _, i := range r.items {
			if i.ID == show.ID {
				r.answer(r.Shown(i, nil))
			}
		}
	}
}

func (r *rig) want(got []picker.Effect, want ...picker.Effect) {
	r.t.Helper()
	if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
		r.t.Errorf("%+v, not %+v", got, want)
	}
}

func TestMoves(t *testing.T) {
	t.Parallel()
	r := start(t, false, text(1, "one"), text(2, "two"), text(3, "three"), text(4, "four"))
	for range 3 {
		r.answer(r.Key("down"))
	}
	if r.Cursor != 3 || r.Top != 1 || r.Item == nil || r.Item.ID != 4 || r.Shows.Text != "four" {
		t.Errorf("%+v", r.State)
	}
	r.want(r.Key("ctrl+p"), picker.Pin{ID: 4, Pinned: true})
	r.want(r.Key("ctrl+d"), picker.Delete{ID: 4}, picker.Show{ID: 3})
	r.want(r.Key("esc"), picker.Quit{})
	r.want(r.Type("x", 0), picker.Search{Query: "x", Mode: find.Words})
	r.want(r.Type("é", 0), picker.Search{Query: "xé", Mode: find.Words})
	r.want(r.Key("backspace"), picker.Search{Query: "x", Mode: find.Words})
	r.want(r.Key("tab"), picker.Search{Query: "x", Mode: find.Fuzzy})
	r.want(r.Found(picker.Search{Query: "x", Mode: find.Words}, nil, nil)) // of an earlier query
	if len(r.Items) != 3 {
		t.Errorf("%+v", r.Items)
	}
	r.want(r.Key("ctrl+u"), picker.Search{Mode: find.Fuzzy})
}

func TestGives(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key   string
		paste bool
		want  picker.Give
	}{
		{"enter", false, picker.Give{ID: 2}},
		{"alt+enter", false, picker.Give{ID: 2, Plain: true}},
		{"alt+v", false, picker.Give{ID: 2, Paste: true}},
		{"alt+1", false, picker.Give{ID: 1}},
		{"enter", true, picker.Give{ID: 2, Paste: true}},
		{"alt+1", true, picker.Give{ID: 1, Paste: true}},
	} {
		r := start(t, c.paste, text(1, "one"), text(2, "two"))
		r.answer(r.Key("down"))
		r.want(r.Key(c.key), c.want)
		r.want(r.Key(c.key)) // the key is held down
	}
}

// TestActions: the menu has what fits the item, and each does what it says.
func TestActions(t *testing.T) {
	t.Parallel()
	const address = "https://example.org/?a=b"
	r := start(t, false, text(1, address), text(2, "#ff8000"), text(3, `{"a":1}`), item(4, clip.Content{Type: "image/png"}))
	r.want(r.Key("ctrl+o"), picker.Open{Address: address})
	r.want(r.Key("ctrl+e"), picker.Edit{ID: 1})
	r.want(r.Key("ctrl+r"))
	if r.Overlay != picker.Code || r.Code.Size < 21 || !r.Code.Dark(0, 0) || r.Code.Dark(-1, 0) || r.Code.Dark(7, 7) {
		t.Errorf("%d: %+v", r.Overlay, r.Code)
	}
	r.want(r.Key("enter")) // only takes the code away
	r.want(r.Key("ctrl+a"))
	if r.Overlay != picker.Menu || len(r.Menu) != 3 || r.Menu[0].Name != "open" {
		t.Errorf("%d: %+v", r.Overlay, r.Menu)
	}
	r.want(r.Key("down"))
	r.want(r.Key("down"))
	r.want(r.Key("down"))
	r.want(r.Key("enter"), picker.Edit{ID: 1})
	if r.Overlay != picker.None {
		t.Error("the menu stays")
	}
	r.want(r.Key("ctrl+a"))
	r.want(r.Type("1", 0), picker.Open{Address: address})
	r.want(r.Key("ctrl+a"))
	r.want(r.Type("x", 0), picker.Search{Query: "x", Mode: find.Words})
	if r.Overlay != picker.None {
		t.Error("the menu stays")
	}
	r.find()
	r.answer(r.Key("down"))
	if c := r.Shows.Colour; c == nil || c.String() != "#ff8000" {
		t.Errorf("%v", c)
	}
	r.want(r.Key("ctrl+o"))
	if !strings.Contains(r.Note, "no address") {
		t.Error(r.Note)
	}
	r.want(r.Key("ctrl+a"))
	r.want(r.Key("alt+1"))
	if r.Overlay != picker.Swatch || r.Colour != (action.Colour{R: 0xff, G: 0x80}) {
		t.Errorf("%d %v", r.Overlay, r.Colour)
	}
	r.want(r.Key("esc"))
	r.answer(r.Key("down"))
	r.want(r.Key("ctrl+a"))
	a := r.Menu[0]
	r.want(r.Key("enter"), picker.Run{ID: 3, Action: a})
	r.want(r.Ran(a, "", nil), picker.Quit{})
	r.want(r.Ran(action.Action{Output: action.Show}, "a\nb\n", nil))
	r.want(r.Key("down"))
	if r.Overlay != picker.Text || len(r.Lines) != 2 || r.First != 1 {
		t.Errorf("%d %q %d", r.Overlay, r.Lines, r.First)
	}
	r.want(r.Key("esc"))
	r.want(r.Ran(a, "", errors.New("broken")))
	if r.Note != "broken" {
		t.Error(r.Note)
	}
	r.want(r.Ran(action.Action{Name: "x", Output: action.Add}, "", nil), picker.Search{Query: "x", Mode: find.Words})
	r.find()
	r.answer(r.Key("end"))
	r.want(r.Key("ctrl+e"))
	if r.Note != "this item is no text" || r.Shows.Image == nil {
		t.Error(r.Note)
	}
}

// TestWaits: a key that needs the whole item is not lost if that is not there yet; moving on forgets it.
func TestWaits(t *testing.T) {
	t.Parallel()
	r := start(t, false, text(1, "one"), text(2, "two"))
	r.want(r.Key("down"), picker.Show{ID: 2})
	r.want(r.Key("ctrl+e"))
	r.want(r.Shown(r.items[1], nil), picker.Edit{ID: 2})
	r.want(r.Key("up"), picker.Show{ID: 1})
	r.want(r.Key("ctrl+e"))
	r.want(r.Key("down"), picker.Show{ID: 2})
	r.want(r.Shown(r.items[1], nil))
	r.want(r.Shown(clip.Item{}, errors.New("gone")))
	if r.Note != "gone" {
		t.Error(r.Note)
	}
}

func TestEdited(t *testing.T) {
	t.Parallel()
	r := start(t, false, text(1, "one"))
	r.want(r.Edited(nil, nil))
	if r.Note != "nothing was changed" {
		t.Error(r.Note)
	}
	r.want(r.Type("on", 0), picker.Search{Query: "on", Mode: find.Words})
	r.want(r.Edited(&clip.Summary{ID: 2}, nil), picker.Search{Mode: find.Words})
}

func TestPreview(t *testing.T) {
	t.Parallel()
	html := clip.Content{Type: "text/html", Data: []byte("<ul><li>a<li>b</ul>")}
	plain := clip.Content{Type: "text/plain", Data: []byte("a b")}
	odd := clip.Content{Type: "application/x-odd", Data: []byte{1}}
	uris := clip.Content{Type: "text/uri-list", Data: []byte("file:///a\r\nfile:///b\r\n")}
	long := clip.Content{Type: "text/plain", Data: []byte(strings.Repeat("é", 1<<20))}
	r := start(t, false, item(1, plain, html), item(2, odd), item(3, uris), item(4, clip.Content{Type: "image/png", Data: []byte("x")}, html), item(5, long))
	if r.Shows.Text != "• a\n• b" {
		t.Errorf("%q", r.Shows.Text)
	}
	r.answer(r.Key("down"))
	if len(r.Shows.Types) != 1 {
		t.Errorf("%+v", r.Shows)
	}
	r.answer(r.Key("down"))
	if r.Shows.Text != "file:///a\nfile:///b\n" {
		t.Errorf("%+v", r.Shows)
	}
	r.answer(r.Key("down"))
	if r.Shows.Image == nil || r.Shows.Text != "" {
		t.Errorf("%+v", r.Shows)
	}
	r.answer(r.Key("down"))
	if n := len(r.Shows.Text); n == 0 || n > 16<<10 {
		t.Error(n)
	}
}

// TestFast: keys for an item that come before the answer to what was typed mean what is found.
func TestFast(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]picker.Effect{
		"enter": picker.Give{ID: 2}, "alt+enter": picker.Give{ID: 2, Plain: true}, "alt+1": picker.Give{ID: 2}, "ctrl+d": picker.Delete{ID: 2}, "ctrl+p": picker.Pin{ID: 2, Pinned: true},
	} {
		r := start(t, false, text(1, "old"), text(2, "new"))
		r.want(r.Type("n", 0), picker.Search{Query: "n", Mode: find.Words})
		r.want(r.Key(key))
		r.want(r.Found(picker.Search{Mode: find.Words}, nil, nil)) // of an earlier query
		effects := r.Found(picker.Search{Query: "n", Mode: find.Words}, []clip.Summary{r.items[1].Summary}, nil)
		r.want(effects, picker.Show{ID: 2}, want)
	}
	r := start(t, false, text(1, "old"))
	r.Type("[", 0)
	r.want(r.Key("enter"))
	r.want(r.Found(picker.Search{Query: "[", Mode: find.Words}, nil, errors.New("what a query")))
	if r.Note != "what a query" {
		t.Error(r.Note)
	}
	r.want(r.Key("enter"), picker.Give{ID: 1})
}
