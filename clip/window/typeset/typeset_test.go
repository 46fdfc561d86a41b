package typeset

import (
	"image"
	"image/color"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/go-text/typesetting/font"

	"orrery/internal/testenv"
)

func setter(tb testing.TB) *Setter {
	tb.Helper()
	s, err := New()
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

var plain = Style{Size: 14} //nolint:gochecknoglobals // a constant

// starts are where in the text a line's runs begin, from left to right.
func starts(l *Line) (at []int) {
	for i := range l.runs {
		at = append(at, l.runs[i].Runes.Offset)
	}
	return at
}

// TestOrder: runs stand where Unicode's algorithm puts them, also numbers in text that is read from the right.
func TestOrder(t *testing.T) {
	t.Parallel()
	s := setter(t)
	for _, c := range []struct {
		text  string
		right bool
		want  []int
	}{
		{"abc", false, []int{0}},
		{"אבג", true, []int{0}},
		{"ab אב cd", false, []int{0, 3, 5}},
		{"ab אב 12 גד cd", false, []int{0, 8, 6, 3, 11}},
		{"אב ab 12 גד", true, []int{8, 3, 0}},
		{"12 אב", true, []int{2, 0}},
	} {
		l := s.Line(c.text, plain, 1000)
		if got := merged(l); l.Right != c.right || !slices.Equal(got, c.want) {
			t.Errorf("%q: %v %v, not %v", c.text, l.Right, got, c.want)
		}
	}
}

// merged are starts of runs that are apart by more than their font or script.
func merged(l *Line) (at []int) {
	for i, start := range starts(l) {
		if i > 0 {
			before := &l.runs[i-1]
			if before.Direction == l.runs[i].Direction && (before.Runes.Offset+before.Runes.Count == start) {
				continue
			}
			if before.Direction == l.runs[i].Direction && start+l.runs[i].Runes.Count == before.Runes.Offset { // from the right
				at[len(at)-1] = start
				continue
			}
		}
		at = append(at, start)
	}
	return at
}

// TestFits: no line is wider than its room, and what is left out is said.
func TestFits(t *testing.T) {
	t.Parallel()
	s := setter(t)
	for _, text := range []string{"", "a", "hello world", strings.Repeat("word ", 100), strings.Repeat("w", 500), strings.Repeat("שלום ", 50), "a\tb\nc\x00d\u2028e", "\u202e\u2066reversed", "\xff\xfe"} {
		for _, width := range []int{1, 7, 50, 200, 1000} {
			l := s.Line(text, plain, width)
			if l.Width > width && width > 20 {
				t.Errorf("%.20q: %d pixels in %d", text, l.Width, width)
			}
			lines := s.Lines(text, Style{Size: 14, Mono: true}, width, 3)
			if len(lines) > 3 {
				t.Errorf("%.20q: %d lines", text, len(lines))
			}
		}
	}
	whole, cut := s.Line("hello world", plain, 1000), s.Line("hello world", plain, 50)
	last := cut.runs[len(cut.runs)-1]
	if len(whole.runs) != 1 || !reflect.DeepEqual(last.Glyphs, s.ellipsis(plain, last.Direction).Glyphs) {
		t.Error("no ellipsis")
	}
	if got := len(s.Lines("one\n\nthree\r\nfour", plain, 500, 10)); got != 4 {
		t.Errorf("%d lines", got)
	}
}

// TestDraw: ink is where the line is, in its colour, and nowhere else.
func TestDraw(t *testing.T) {
	t.Parallel()
	s := setter(t)
	l := s.Line("Hamburgefonstiv", plain, 300)
	height, base := s.Height(plain)
	draw := func(x int) *image.RGBA {
		picture := image.NewRGBA(image.Rect(0, 0, 300, 3*height))
		s.Draw(picture, l, x, height+base, color.RGBA{0, 0, 0xff, 0xff})
		return picture
	}
	picture := draw(20)
	if !reflect.DeepEqual(picture, draw(20)) {
		t.Error("it is drawn otherwise the second time")
	}
	where := image.Rectangle{}
	for y := range 3 * height {
		for x := range 300 {
			if c := picture.RGBAAt(x, y); c.A != 0 {
				where = where.Union(image.Rect(x, y, x+1, y+1))
				if c.R != 0 || c.G != 0 || c.B != c.A {
					t.Fatalf("%v", c)
				}
			}
		}
	}
	if room := image.Rect(20, height, 20+l.Width+1, 2*height); !where.In(room) || where.Dx() < l.Width-4 {
		t.Errorf("ink in %v, line in %v", where, room)
	}
	for _, x := range []int{-1 << 20, 1 << 20} {
		if draw(x).Pix[0] != 0 {
			t.Error("ink of a line that is elsewhere")
		}
	}
}

// TestMissing: characters that the built-in fonts lack are told once, and drawn by a font that has them; those that are pictures in its colours.
func TestMissing(t *testing.T) {
	t.Parallel()
	s := setter(t)
	s.Line("Größe Ελληνικά Русский", plain, 500)
	if got := s.Missing(); len(got) != 0 {
		t.Errorf("%q", got)
	}
	s.Line("a👋b שלום\u200d", plain, 500)
	if got := s.Missing(); string(got) != "ולםש👋" {
		t.Errorf("%q", string(got))
	}
	s.Lines("👋", plain, 500, 1)
	if got := s.Missing(); len(got) != 0 {
		t.Errorf("%q is told twice", string(got))
	}
	const path = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
	f, err := os.Open(path)
	if err != nil {
		testenv.Missing(t, path, "apt-get install fonts-noto-color-emoji")
	}
	defer f.Close()
	face, err := font.ParseTTF(f)
	if err != nil {
		t.Fatal(err)
	}
	s.Use(map[rune]*font.Face{'👋': face, '👩': face, '👧': face})
	height, base := s.Height(plain)
	picture := image.NewRGBA(image.Rect(0, 0, 100, height))
	s.Draw(picture, s.Line("👋", plain, 100), 10, base, color.RGBA{A: 0xff})
	coloured := 0
	for i := 0; i < len(picture.Pix); i += 4 {
		if picture.Pix[i] > picture.Pix[i+2]+50 {
			coloured++
		}
	}
	if coloured < 20 {
		t.Errorf("%d yellow pixels", coloured)
	}
	if one, family := s.Line("👩", plain, 100), s.Line("👩\u200d👩\u200d👧", plain, 100); one.Width != family.Width {
		t.Errorf("a family is %d pixels wide, a woman %d", family.Width, one.Width)
	}
}

func FuzzLine(f *testing.F) {
	s := setter(f)
	picture := image.NewRGBA(image.Rect(0, 0, 100, 30))
	f.Add("hello", 14.0, 80)
	f.Add("שלום\u202e123", 3.0, 5)
	f.Fuzz(func(_ *testing.T, text string, size float64, width int) {
		if !(size >= 1 && size < 200) {
			return
		}
		s.Draw(picture, s.Line(text, Style{Size: size}, width%5000), 0, 20, color.RGBA{A: 0xff})
		s.Lines(text, Style{Size: size, Mono: true}, width%5000, 4)
	})
}
