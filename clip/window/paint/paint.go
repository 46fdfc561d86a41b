// Package paint draws a picker's state into a picture, and says what is where in it. It is pure but for the fonts that its setter has been given.
//
// From top to bottom: the query, the list, a preview of the item under the cursor, and a line about how it stands. Sizes are in pixels; they follow the scale
// of the screen.
package paint

import (
	"fmt"
	"image"
	"image/color"
	"image/draw"
	"math"
	"strings"

	"orrery/clip"
	"orrery/clip/picker"
	"orrery/clip/window/typeset"
)

// Theme are the colours.
type Theme struct {
	Ground, Field, Chosen, Line      color.RGBA
	Ink, Faint, Accent, Wrong, OnRow color.RGBA // OnRow is the ink on Chosen
}

// The themes.
var (
	Light = Theme{ //nolint:gochecknoglobals // a constant
		Ground: rgb(0xfafafa), Field: rgb(0xffffff), Chosen: rgb(0x1f6feb), Line: rgb(0xd0d4da),
		Ink: rgb(0x1c1f24), Faint: rgb(0x667080), Accent: rgb(0x1a62d0), Wrong: rgb(0xb3261e), OnRow: rgb(0xffffff),
	}
	Dark = Theme{ //nolint:gochecknoglobals // a constant
		Ground: rgb(0x1e2127), Field: rgb(0x272b33), Chosen: rgb(0x2f6fd0), Line: rgb(0x3a404b),
		Ink: rgb(0xe6e9ee), Faint: rgb(0x9aa4b2), Accent: rgb(0x6cb0ff), Wrong: rgb(0xff8a80), OnRow: rgb(0xffffff),
	}
)

func rgb(v uint32) color.RGBA {
	return color.RGBA{uint8(v >> 16 & 0xff), uint8(v >> 8 & 0xff), uint8(v & 0xff), 0xff}
}

// Width and Height are how large a window is at scale 1, if there is room.
const (
	Width  = 720
	Height = 560
)

// View is what is drawn.
type View struct {
	State     *picker.State
	Composing string      // text that is not in the query yet
	Picture   image.Image // of the item under the cursor, once it is there
}

// Painter draws.
type Painter struct {
	Theme Theme

	set    *typeset.Setter
	canvas *image.RGBA
	scale  float64
	em     float64
	pad    int
	row    int // height of a row
	field  image.Rectangle
	list   image.Rectangle
	look   image.Rectangle // where the preview is; empty: no room
	foot   image.Rectangle
}

// New makes a painter.
func New(set *typeset.Setter, theme Theme) *Painter {
	return &Painter{set: set, Theme: theme, canvas: image.NewRGBA(image.Rectangle{})}
}

// Resize gives it another size, and says for how many rows there is room.
func (p *Painter) Resize(width, height int, scale float64) (rows int) {
	p.scale, p.em = scale, math.Round(14*scale)
	if size := image.Rect(0, 0, width, height); p.canvas.Rect != size {
		p.canvas = image.NewRGBA(size)
	}
	line, _ := p.set.Height(p.plain())
	p.pad, p.row = p.px(10), line+p.px(10)
	all := p.canvas.Rect.Inset(p.pad)
	p.field = image.Rect(all.Min.X, all.Min.Y, all.Max.X, all.Min.Y+line+p.px(16))
	p.foot = image.Rect(all.Min.X, all.Max.Y-line, all.Max.X, all.Max.Y)
	middle := image.Rect(all.Min.X, p.field.Max.Y+p.pad, all.Max.X, p.foot.Min.Y-p.px(6))
	p.list, p.look = middle, image.Rectangle{}
	if preview := middle.Dy() * 2 / 5; middle.Dy() > 10*p.row { // else the list has all
		p.look = middle
		p.look.Min.Y = middle.Max.Y - preview
	}
	if !p.look.Empty() {
		p.list.Max.Y = p.look.Min.Y - p.pad
	}
	rows = max(1, p.list.Dy()/p.row)
	p.list.Max.Y = p.list.Min.Y + rows*p.row
	return rows
}

// px is a length at scale 1 in pixels.
func (p *Painter) px(n float64) int { return int(math.Round(n * p.scale)) }

func (p *Painter) plain() typeset.Style { return typeset.Style{Size: p.em} }
func (p *Painter) small() typeset.Style { return typeset.Style{Size: math.Round(p.em * 0.86)} }
func (p *Painter) mono() typeset.Style {
	return typeset.Style{Size: math.Round(p.em * 0.93), Mono: true}
}

// At is what stands at a place: an item of the list, or an action of the menu where that lies over it.
func (p *Painter) At(s *picker.State, x, y int) (index int, ok bool) {
	area, top, n := p.list, s.Top, len(s.Items)
	switch s.Overlay {
	case picker.None:
	case picker.Menu:
		area, top, n = p.over(), p.menuTop(s), len(s.Menu)
	default:
		return 0, false
	}
	if !image.Pt(x, y).In(area) {
		return 0, false
	}
	index = top + (y-area.Min.Y)/p.row
	return index, index < n
}

// Paint draws. The picture is the painter's, until the next call.
func (p *Painter) Paint(v View) *image.RGBA {
	p.fill(p.canvas.Rect, p.Theme.Ground)
	p.drawField(v)
	if !p.drawOverlay(v.State) {
		for i, item := range v.State.Visible() {
			p.drawRow(v.State, i, &item)
		}
		p.drawPreview(v)
	}
	p.drawFoot(v.State)
	return p.canvas
}

func (p *Painter) fill(r image.Rectangle, c color.RGBA) {
	draw.Draw(p.canvas, r, image.NewUniform(c), image.Point{}, draw.Src)
}

// part is the picture's part in an area, beyond which nothing is drawn.
func (p *Painter) part(r image.Rectangle) *image.RGBA {
	return p.canvas.SubImage(r).(*image.RGBA) //nolint:forcetypeassert // an RGBA's part is one
}

// frame draws the edge of an area.
func (p *Painter) frame(r image.Rectangle, c color.RGBA) {
	n := max(1, p.px(1))
	p.fill(image.Rect(r.Min.X, r.Min.Y, r.Max.X, r.Min.Y+n), c)
	p.fill(image.Rect(r.Min.X, r.Max.Y-n, r.Max.X, r.Max.Y), c)
	p.fill(image.Rect(r.Min.X, r.Min.Y, r.Min.X+n, r.Max.Y), c)
	p.fill(image.Rect(r.Max.X-n, r.Min.Y, r.Max.X, r.Max.Y), c)
}

// text draws a line of text in an area, in the middle of its height; text that is read from the right stands at the right.
func (p *Painter) text(r image.Rectangle, text string, style typeset.Style, c color.RGBA) {
	l := p.set.Line(text, style, r.Dx())
	height, base := p.set.Height(style)
	x := r.Min.X
	if l.Right {
		x = r.Max.X - l.Width
	}
	p.set.Draw(p.part(r), l, x, r.Min.Y+(r.Dy()-height)/2+base, c)
}

// textRight draws a short text at the right of an area, and gives what is left of the area.
func (p *Painter) textRight(r image.Rectangle, text string, style typeset.Style, c color.RGBA) image.Rectangle {
	at := r
	at.Min.X = r.Max.X - p.set.Line(text, style, r.Dx()).Width
	p.text(at, text, style, c)
	r.Max.X = at.Min.X - p.pad
	return r
}

// drawField draws the query. Of one that is too long its end is seen, where it is written.
func (p *Painter) drawField(v View) {
	p.fill(p.field, p.Theme.Field)
	p.frame(p.field, p.Theme.Accent)
	r := p.field.Inset(p.px(8))
	r = p.textRight(r, string(v.State.Mode), p.small(), p.Theme.Faint)
	query := v.State.Query + v.Composing
	if query == "" {
		hint := r
		hint.Min.X += p.px(6)
		p.text(hint, "type to search", p.plain(), p.Theme.Faint)
	}
	caret := max(1, p.px(1.5))
	style := p.plain()
	line := p.set.Line(query, style, 1<<16)
	x := r.Min.X - max(0, line.Width+caret-r.Dx())
	height, base := p.set.Height(style)
	top := r.Min.Y + (r.Dy()-height)/2
	p.set.Draw(p.part(r), line, x, top+base, p.Theme.Ink)
	at := x + line.Width
	if line.Right {
		at = x
	}
	p.fill(image.Rect(at, top, at+caret, top+height).Intersect(p.field), p.Theme.Accent)
	if v.Composing != "" {
		from := p.set.Line(v.State.Query, style, 1<<16).Width
		p.fill(image.Rect(x+from, top+height-caret, x+line.Width, top+height).Intersect(r), p.Theme.Faint)
	}
}

// signs of the kinds, in words: fonts lack symbols more often than letters.
var signs = map[clip.Kind]string{clip.HTML: "html", clip.Image: "image", clip.Files: "files", clip.Other: "other"} //nolint:gochecknoglobals // a table

func (p *Painter) drawRow(s *picker.State, i int, item *clip.Summary) {
	r := image.Rect(p.list.Min.X, p.list.Min.Y+i*p.row, p.list.Max.X, p.list.Min.Y+(i+1)*p.row)
	ink, faint := p.Theme.Ink, p.Theme.Faint
	if s.Top+i == s.Cursor {
		p.fill(r, p.Theme.Chosen)
		ink, faint = p.Theme.OnRow, p.Theme.OnRow
	}
	r.Min.X, r.Max.X = r.Min.X+p.px(8), r.Max.X-p.px(8)
	number := ""
	if i < 9 {
		number = fmt.Sprint(i + 1)
	}
	p.text(image.Rect(r.Min.X, r.Min.Y, r.Min.X+p.px(14), r.Max.Y), number, p.small(), faint)
	r.Min.X += p.px(18)
	if item.Pinned {
		dot := p.px(6)
		p.fill(image.Rect(r.Min.X, r.Min.Y+(r.Dy()-dot)/2, r.Min.X+dot, r.Min.Y+(r.Dy()+dot)/2), p.mark(s, i))
	}
	r.Min.X += p.px(12)
	for _, label := range labels(item) {
		r = p.textRight(r, label, p.small(), faint)
	}
	text := item.Preview
	if item.Note != "" {
		text = item.Note + " · " + text
	}
	p.text(r, text, p.plain(), ink)
}

// mark is the colour of a pin.
func (p *Painter) mark(s *picker.State, i int) color.RGBA {
	if s.Top+i == s.Cursor {
		return p.Theme.OnRow
	}
	return p.Theme.Accent
}

// labels are what stands at the right of a row.
func labels(item *clip.Summary) (labels []string) {
	if sign := signs[item.Kind]; sign != "" {
		labels = append(labels, sign)
	}
	if len(item.Tags) > 0 {
		labels = append(labels, "#"+strings.Join(item.Tags, " #"))
	}
	return labels
}

func (p *Painter) drawFoot(s *picker.State) {
	if s.Note != "" {
		p.text(p.foot, s.Note, p.small(), p.Theme.Wrong)
		return
	}
	enter := "enter copies"
	if s.Paste {
		enter = "enter pastes"
	}
	r := p.textRight(p.foot, enter+" · f1 helps", p.small(), p.Theme.Faint)
	text := fmt.Sprintf("%d items", len(s.Items))
	if len(s.Items) > 0 {
		text = fmt.Sprintf("%d of %d", s.Cursor+1, len(s.Items))
	}
	p.text(r, text, p.small(), p.Theme.Faint)
}
