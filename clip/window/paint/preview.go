package paint

import (
	"fmt"
	"image"
	"image/draw"
	"strings"

	"orrery/clip"
	"orrery/clip/picker"
)

// maxPreview is how much of a text is set for the preview.
const maxPreview = 16 << 10

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
	switch item := v.State.Item; {
	case item == nil:
	case v.Picture != nil:
		b := v.Picture.Bounds()
		at := image.Rectangle{Max: b.Size()}.Add(r.Min.Add(image.Pt((r.Dx()-b.Dx())/2, (r.Dy()-b.Dy())/2)))
		draw.Draw(p.canvas, at.Intersect(r), v.Picture, b.Min.Add(at.Intersect(r).Min.Sub(at.Min)), draw.Over)
	default:
		p.paragraph(r, contents(item))
	}
}

// contents is an item in words.
func contents(item *clip.Item) string {
	if text, ok := clip.PlainText(item.Contents); ok {
		return text[:min(len(text), maxPreview)]
	}
	var text strings.Builder
	for _, c := range item.Contents {
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

// drawHelp draws what the keys do.
func (p *Painter) drawHelp() {
	r := p.list.Union(p.look)
	height, _ := p.set.Height(p.plain())
	for i, key := range picker.Keys {
		at := image.Rect(r.Min.X, r.Min.Y+i*(height+p.px(4)), r.Max.X, r.Min.Y+i*(height+p.px(4))+height)
		p.text(image.Rect(at.Min.X, at.Min.Y, at.Min.X+p.px(150), at.Max.Y), key[0], p.plain(), p.Theme.Accent)
		p.text(image.Rect(at.Min.X+p.px(160), at.Min.Y, at.Max.X, at.Max.Y), key[1], p.plain(), p.Theme.Ink)
	}
}
