package paint

import (
	"fmt"
	"image"
	"image/color"
	"strings"

	"orrery/clip/action"
	"orrery/clip/picker"
)

// drawOverlay draws what lies over the list; false if nothing does.
func (p *Painter) drawOverlay(s *picker.State) bool {
	switch s.Overlay {
	case picker.None:
		return false
	case picker.Help:
		p.drawHelp()
	case picker.Menu:
		p.drawMenu(s)
	case picker.Code:
		p.drawCode(s.Code)
	case picker.Swatch:
		p.drawSwatch(s.Colour)
	case picker.Text:
		p.drawText(s)
	}
	return true
}

// over is the area of overlays.
func (p *Painter) over() image.Rectangle { return p.list.Union(p.look) }

// drawHelp draws what the keys do.
func (p *Painter) drawHelp() {
	r := p.over()
	height, _ := p.set.Height(p.plain())
	height += p.px(4)
	for i, key := range picker.Keys {
		at := image.Rect(r.Min.X+p.px(8), r.Min.Y+i*height, r.Max.X, r.Min.Y+(i+1)*height)
		left, right := at, at
		left.Max.X, right.Min.X = at.Min.X+p.px(150), at.Min.X+p.px(160)
		p.text(left, key[0], p.plain(), p.Theme.Accent)
		p.text(right, key[1], p.plain(), p.Theme.Ink)
	}
}

// menuTop is the first action that is drawn.
func (p *Painter) menuTop(s *picker.State) int { return max(0, s.Choice-p.over().Dy()/p.row+1) }

func (p *Painter) drawMenu(s *picker.State) {
	r := p.over()
	top := p.menuTop(s)
	for i, a := range s.Menu[top:min(len(s.Menu), top+r.Dy()/p.row)] {
		at := image.Rect(r.Min.X, r.Min.Y+i*p.row, r.Max.X, r.Min.Y+(i+1)*p.row)
		ink, faint := p.Theme.Ink, p.Theme.Faint
		if top+i == s.Choice {
			p.fill(at, p.Theme.Chosen)
			ink, faint = p.Theme.OnRow, p.Theme.OnRow
		}
		at.Min.X += p.px(8)
		if top+i < 9 {
			p.text(at, fmt.Sprint(top+i+1), p.small(), faint)
		}
		at.Min.X += p.px(30)
		p.text(at, a.Name, p.plain(), ink)
	}
}

// margin is how many light squares a QR code needs around it.
const margin = 4

// drawCode draws a QR code, dark on light whatever the theme is, as large as there is room for whole pixels.
func (p *Painter) drawCode(code *picker.Modules) {
	r := p.over()
	all := code.Size + 2*margin
	n := min(r.Dx(), r.Dy()) / all
	if n == 0 {
		p.text(image.Rect(r.Min.X, r.Min.Y, r.Max.X, r.Min.Y+p.row), fmt.Sprintf("the QR code needs %d pixels: make the window larger", all), p.plain(), p.Theme.Wrong)
		return
	}
	corner := r.Min.Add(image.Pt((r.Dx()-n*all)/2, (r.Dy()-n*all)/2))
	p.fill(image.Rectangle{corner, corner.Add(image.Pt(n*all, n*all))}, rgb(0xffffff))
	for y := range code.Size {
		for x := range code.Size {
			if code.Dark(x, y) {
				at := corner.Add(image.Pt(n*(x+margin), n*(y+margin)))
				p.fill(image.Rectangle{at, at.Add(image.Pt(n, n))}, rgb(0))
			}
		}
	}
}

func opaque(c action.Colour) color.RGBA { return color.RGBA{c.R, c.G, c.B, 0xff} }

func (p *Painter) drawSwatch(c action.Colour) {
	r := p.over()
	words := r
	words.Min.Y = r.Max.Y - p.row
	r.Max.Y = words.Min.Y
	p.fill(r, opaque(c))
	p.frame(r, p.Theme.Line)
	p.text(words, fmt.Sprintf("%s  rgb(%d, %d, %d)", c, c.R, c.G, c.B), p.plain(), p.Theme.Ink)
}

// drawText draws what an action printed.
func (p *Painter) drawText(s *picker.State) {
	first := max(0, min(s.First, len(s.Lines)-1))
	r := p.over()
	height, _ := p.set.Height(p.mono())
	p.paragraph(r, strings.Join(s.Lines[first:min(len(s.Lines), first+r.Dy()/height+1)], "\n"))
}
