package paint

import (
	"fmt"
	"image"
	"image/draw"
	"strings"

	"orrery/clip"
	"orrery/clip/picker"
)

// PreviewSize is how large a picture in the preview can be.
func (p *Painter) PreviewSize() image.Point { return p.look.Inset(p.px(8)).Size() }

// drawPreview draws the item under the cursor.
func (p *Painter) drawPreview(v View) {
	if p.look.Empty() {
		return
	}
	p.fill(p.look, p.Theme.Field)
	p.frame(p.look, p.Theme.Line)
	r := p.look.Inset(p.px(8))
	shows := v.State.Shows
	if shows == nil {
		return
	}
	if shows.Colour != nil {
		patch := image.Rect(r.Max.X-p.px(60), r.Min.Y, r.Max.X, r.Min.Y+p.px(40))
		p.fill(patch, opaque(*shows.Colour))
		p.frame(patch, p.Theme.Line)
		r.Max.X = patch.Min.X - p.pad
	}
	if v.Picture != nil {
		b := v.Picture.Bounds()
		at := image.Rectangle{Max: b.Size()}.Add(r.Min.Add(image.Pt((r.Dx()-b.Dx())/2, (r.Dy()-b.Dy())/2))).Intersect(r)
		draw.Draw(p.canvas, at, v.Picture, b.Min, draw.Over)
		return
	}
	p.paragraph(r, inWords(shows))
}

// inWords is what is shown of an item in text.
func inWords(shows *picker.Preview) string {
	if shows.Text != "" {
		return shows.Text
	}
	types := shows.Types
	if shows.Image != nil { // one that cannot be read, or is not read yet
		types = []clip.Content{*shows.Image}
	}
	var text strings.Builder
	for _, c := range types {
		fmt.Fprintf(&text, "%s, %d bytes\n", c.Type, len(c.Data))
	}
	return text.String()
}

// paragraph draws as many lines as an area has room for.
func (p *Painter) paragraph(r image.Rectangle, text string) {
	style := p.mono()
	height, base := p.set.Height(style)
	to := p.part(r)
	for i, line := range p.set.Lines(text, style, r.Dx(), r.Dy()/height) {
		x := r.Min.X
		if line.Right {
			x = r.Max.X - line.Width
		}
		p.set.Draw(to, line, x, r.Min.Y+i*height+base, p.Theme.Ink)
	}
}
