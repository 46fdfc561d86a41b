package paint_test

import (
	"fmt"
	"image"
	"image/color"
	"math"
	"testing"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/picker"
	"orrery/clip/window/paint"
	"orrery/clip/window/typeset"
)

func painter(t *testing.T) *paint.Painter {
	t.Helper()
	set, err := typeset.New()
	if err != nil {
		t.Fatal(err)
	}
	return paint.New(set, paint.Light)
}

// state is a picker with items, the cursor on one that is whole.
func state(t *testing.T, rows, n int) *picker.State {
	t.Helper()
	s, first := picker.Start(rows, action.Defaults(), false)
	items := make([]clip.Summary, n)
	for i := range items {
		items[i] = clip.Summary{ID: clip.ID(i + 1), Kind: clip.Kind(i%5 + 1), Preview: fmt.Sprint("item ", i), Mark: clip.Mark{Pinned: i%3 == 0, Tags: []string{"tag"}}} //nolint:gosec // a few
	}
	query, ok := first[0].(picker.Search)
	if !ok {
		t.Fatal(first)
	}
	s.Found(query, items, nil)
	contents := []clip.Content{{Type: "text/plain", Data: []byte("#336699")}}
	s.Shown(clip.Item{Summary: clip.Summary{ID: 1, Kind: clip.Text}, Contents: contents}, nil)
	return s
}

// TestRows: what is clicked is what is drawn there, and the row of the cursor has its ground.
func TestRows(t *testing.T) {
	t.Parallel()
	p := painter(t)
	for _, scale := range []float64{0.5, 1, 1.5, 3} {
		rows := p.Resize(int(paint.Width*scale), int(paint.Height*scale), scale)
		s := state(t, rows, 100)
		for range rows + 5 {
			s.Key("down")
		}
		picture := p.Paint(paint.View{State: s})
		seen := map[int]int{}
		x := picture.Rect.Dx() - int(10*scale) - 2 // between the labels and the edge
		for y := range picture.Rect.Dy() {
			at, ok := p.At(s, x, y)
			if !ok {
				continue
			}
			seen[at]++
			if chosen := picture.RGBAAt(x, y) == paint.Light.Chosen; chosen != (at == s.Cursor) {
				t.Fatalf("scale %v: at %d is item %d; the cursor is on %d", scale, y, at, s.Cursor)
			}
		}
		if len(seen) != rows || seen[s.Top] == 0 || seen[s.Top+rows-1] == 0 {
			t.Errorf("scale %v: %d of %d rows", scale, len(seen), rows)
		}
	}
	// A list that is shorter than its room has nothing below.
	s := state(t, p.Resize(paint.Width, paint.Height, 1), 2)
	if _, ok := p.At(s, 300, 300); ok {
		t.Error("an item where there is none")
	}
}

// TestAnySize: nothing is drawn beyond the picture, whatever its size.
func TestAnySize(t *testing.T) {
	t.Parallel()
	p := painter(t)
	for _, size := range []image.Point{{1, 1}, {10, 500}, {500, 10}, {333, 222}, {paint.Width, paint.Height}} {
		for _, scale := range []float64{0.5, 1, 4} {
			s := state(t, p.Resize(size.X, size.Y, scale), 30)
			if got := p.Paint(paint.View{State: s, Composing: "x", Picture: image.NewGray(image.Rect(0, 0, 2000, 2000))}); got.Rect.Size() != size {
				t.Error(got.Rect)
			}
			for _, key := range []string{"f1", "esc", "ctrl+a", "down", "esc", "ctrl+r"} {
				s.Key(key)
				p.Paint(paint.View{State: s})
			}
			s.Overlay, s.Lines, s.First = picker.Text, []string{"a", "b\t", "\x00"}, 5
			p.Paint(paint.View{State: s})
			s.Overlay = picker.Swatch
			s.Note = "wrong"
			p.Paint(paint.View{State: s})
			p.PreviewSize()
		}
	}
}

// TestMenu: actions are where they can be clicked; nothing else can be while help lies over the list.
func TestMenu(t *testing.T) {
	t.Parallel()
	p := painter(t)
	s := state(t, p.Resize(paint.Width, paint.Height, 1), 30)
	s.Key("ctrl+a")
	if s.Overlay != picker.Menu || len(s.Menu) < 2 {
		t.Fatal(s.Overlay, s.Menu)
	}
	s.Key("down")
	picture := p.Paint(paint.View{State: s})
	n := 0
	for y := range picture.Rect.Dy() {
		at, ok := p.At(s, 705, y)
		if ok {
			n = max(n, at+1)
		}
		if chosen := picture.RGBAAt(705, y) == paint.Light.Chosen; chosen != (ok && at == s.Choice) {
			t.Fatalf("at %d", y)
		}
	}
	if n != len(s.Menu) {
		t.Errorf("%d of %d", n, len(s.Menu))
	}
	s.Key("esc")
	s.Key("f1")
	if _, ok := p.At(s, 300, 200); ok {
		t.Error("an item under the help")
	}
}

// TestCode: the squares of a QR code are all there, with light around.
func TestCode(t *testing.T) {
	t.Parallel()
	p := painter(t)
	for _, theme := range []paint.Theme{paint.Light, paint.Dark} {
		p.Theme = theme
		s := state(t, p.Resize(paint.Width, paint.Height, 1), 3)
		s.Key("ctrl+r")
		if s.Overlay != picker.Code {
			t.Fatal(s.Overlay, s.Note)
		}
		picture := p.Paint(paint.View{State: s})
		// The middle of the code is that of its area; the size of a square shows in its first dark row: the corner's mark is 7 wide.
		black, white := color.RGBA{A: 0xff}, color.RGBA{0xff, 0xff, 0xff, 0xff}
		var corner image.Point
		for i := range picture.Rect.Dx() * picture.Rect.Dy() {
			if corner = image.Pt(i%picture.Rect.Dx(), i/picture.Rect.Dx()); picture.RGBAAt(corner.X, corner.Y) == black {
				break
			}
		}
		n := 0
		for picture.RGBAAt(corner.X+n, corner.Y) == black {
			n++
		}
		n /= 7
		for y := -4; y < s.Code.Size+4; y++ {
			for x := -4; x < s.Code.Size+4; x++ {
				want := white
				if s.Code.Dark(x, y) {
					want = black
				}
				if got := picture.RGBAAt(corner.X+n*x+n/2, corner.Y+n*y+n/2); got != want {
					t.Fatalf("square %d, %d is %v", x, y, got)
				}
			}
		}
	}
}

// luminance is that of a colour (WCAG 2.1).
func luminance(c color.RGBA) float64 {
	part := func(v uint8) float64 {
		s := float64(v) / 255
		if s <= 0.04045 {
			return s / 12.92
		}
		return math.Pow((s+0.055)/1.055, 2.4)
	}
	return 0.2126*part(c.R) + 0.7152*part(c.G) + 0.0722*part(c.B)
}

// TestContrast: all text can be read, by the measure of WCAG's level AA.
func TestContrast(t *testing.T) {
	t.Parallel()
	for name, theme := range map[string]paint.Theme{"light": paint.Light, "dark": paint.Dark} {
		for what, pair := range map[string][2]color.RGBA{
			"ink": {theme.Ink, theme.Ground}, "ink in fields": {theme.Ink, theme.Field}, "faint": {theme.Faint, theme.Ground}, "faint in fields": {theme.Faint, theme.Field},
			"accent": {theme.Accent, theme.Ground}, "wrong": {theme.Wrong, theme.Ground}, "the chosen row": {theme.OnRow, theme.Chosen},
		} {
			a, b := luminance(pair[0]), luminance(pair[1])
			if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < 4.5 {
				t.Errorf("%s, %s: %.2f", name, what, ratio)
			}
		}
	}
}
