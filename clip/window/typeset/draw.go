package typeset

import (
	"bytes"
	"image"
	"image/color"
	"image/draw"
	_ "image/jpeg" // bitmaps of glyphs may be
	_ "image/png"  // likewise
	"math"

	"github.com/go-text/typesetting/font"
	"github.com/go-text/typesetting/font/opentype"
	"github.com/go-text/typesetting/font/opentype/tables"
	"github.com/go-text/typesetting/shaping"
	scale "golang.org/x/image/draw"
	"golang.org/x/image/math/fixed"
	"golang.org/x/image/vector"
)

const (
	// positions is how many places within a pixel a glyph may begin at.
	positions = 4
	// maxGlyph bounds a glyph's picture, in pixels either way.
	maxGlyph = 1024
	// maxBitmap bounds the pixels of a bitmap in a font.
	maxBitmap = 1 << 20
)

type glyphKey struct {
	face *font.Face
	id   font.GID
	size fixed.Int26_6
	at   uint8 // place within a pixel
}

// glyph is drawn: where its picture is, from the dot. It has a shape that takes the text's colour, or colours of its own.
type glyph struct {
	shape  *image.Alpha
	colour *image.RGBA
	bounds image.Rectangle
}

// Draw draws a line whose left end is at x, on a base at y.
func (s *Setter) Draw(to *image.RGBA, l *Line, x, y int, c color.RGBA) {
	ink := image.NewUniform(c)
	dot := fixed.I(x)
	for i := range l.runs {
		run := &l.runs[i]
		for j := range run.Glyphs {
			g := &run.Glyphs[j]
			s.drawGlyph(to, run, g, dot+g.XOffset, y-g.YOffset.Round(), ink)
			dot += g.Advance
		}
	}
}

func (s *Setter) drawGlyph(to *image.RGBA, run *shaping.Output, g *shaping.Glyph, x fixed.Int26_6, y int, ink *image.Uniform) {
	whole := x.Floor()
	if whole > to.Rect.Max.X+maxGlyph || whole < to.Rect.Min.X-maxGlyph {
		return
	}
	key := glyphKey{run.Face, g.GlyphID, run.Size, uint8(int(x-fixed.I(whole)) * positions / 64)} //nolint:gosec // less than positions
	made, ok := s.glyphs[key]
	if !ok {
		if len(s.glyphs) >= maxGlyphs {
			clear(s.glyphs)
		}
		made = picture(key, run, g)
		s.glyphs[key] = made
	}
	where := made.bounds.Add(image.Pt(whole, y))
	switch {
	case made.shape != nil:
		draw.DrawMask(to, where, ink, image.Point{}, made.shape, made.bounds.Min, draw.Over)
	case made.colour != nil:
		draw.Draw(to, where, made.colour, made.bounds.Min, draw.Over)
	}
}

// picture draws a glyph.
func picture(key glyphKey, run *shaping.Output, g *shaping.Glyph) *glyph {
	em := float32(run.Size) / 64 / float32(run.Face.Upem())
	shift := float32(key.at) / positions
	switch data := run.Face.GlyphData(key.id).(type) {
	case font.GlyphOutline:
		return outline(data.Segments, em, shift)
	case font.GlyphSVG: // its shape, in the text's colour
		return outline(data.Outline.Segments, em, shift)
	case font.GlyphColor:
		if layers, ok := data.Paint.(tables.PaintColrLayersResolved); ok {
			return layered(run.Face, layers, em, shift)
		}
		if shape, ok := run.Face.GlyphDataOutline(key.id); ok { // gradients and the like: its shape
			return outline(shape.Segments, em, shift)
		}
	case font.GlyphBitmap:
		return bitmap(data, g)
	}
	return &glyph{}
}

// outline fills a shape.
func outline(segments []font.Segment, em, shift float32) *glyph {
	bounds := extent(segments, em, shift)
	if bounds.Empty() || bounds.Dx() > maxGlyph || bounds.Dy() > maxGlyph {
		return &glyph{}
	}
	r := vector.NewRasterizer(bounds.Dx(), bounds.Dy())
	point := func(p opentype.SegmentPoint) (x, y float32) {
		return p.X*em + shift - float32(bounds.Min.X), -p.Y*em - float32(bounds.Min.Y)
	}
	for _, segment := range segments {
		ax, ay := point(segment.Args[0])
		bx, by := point(segment.Args[1])
		cx, cy := point(segment.Args[2])
		switch segment.Op {
		case opentype.SegmentOpMoveTo:
			r.ClosePath()
			r.MoveTo(ax, ay)
		case opentype.SegmentOpLineTo:
			r.LineTo(ax, ay)
		case opentype.SegmentOpQuadTo:
			r.QuadTo(ax, ay, bx, by)
		case opentype.SegmentOpCubeTo:
			r.CubeTo(ax, ay, bx, by, cx, cy)
		}
	}
	r.ClosePath()
	shape := image.NewAlpha(bounds)
	r.Draw(shape, bounds, image.Opaque, image.Point{})
	return &glyph{shape: shape, bounds: bounds}
}

// extent is the pixels that a shape may touch.
func extent(segments []font.Segment, em, shift float32) image.Rectangle {
	low, high := [2]float64{math.Inf(1), math.Inf(1)}, [2]float64{math.Inf(-1), math.Inf(-1)}
	for i := range segments {
		for _, p := range segments[i].ArgsSlice() {
			for axis, v := range [2]float64{float64(p.X*em + shift), float64(-p.Y * em)} {
				low[axis], high[axis] = min(low[axis], v), max(high[axis], v)
			}
		}
	}
	for axis := range low {
		if !(low[axis] > -maxGlyph && high[axis] < maxGlyph) {
			return image.Rectangle{}
		}
	}
	return image.Rect(int(math.Floor(low[0])), int(math.Floor(low[1])), int(math.Ceil(high[0])), int(math.Ceil(high[1])))
}

// foreground is the palette entry that means the text's colour; it is grey here, because a glyph's picture is kept for all colours.
const foreground = 0xffff

// layered puts shapes of a palette's colours over one another (COLR, version 0).
func layered(face *font.Face, layers tables.PaintColrLayersResolved, em, shift float32) *glyph {
	var parts []*glyph
	var all image.Rectangle
	for _, layer := range layers {
		shape, _ := face.GlyphDataOutline(font.GID(layer.GlyphID))
		part := outline(shape.Segments, em, shift)
		parts, all = append(parts, part), all.Union(part.bounds)
	}
	if all.Empty() {
		return &glyph{}
	}
	out := image.NewRGBA(all)
	for i, part := range parts {
		c := color.NRGBA{0x80, 0x80, 0x80, 0xff}
		if entry := int(layers[i].PaletteIndex); entry != foreground && len(face.CPAL) > 0 && entry < len(face.CPAL[0]) {
			r := face.CPAL[0][entry]
			c = color.NRGBA{r.Red, r.Green, r.Blue, r.Alpha}
		}
		if part.shape != nil {
			draw.DrawMask(out, part.bounds, image.NewUniform(c), image.Point{}, part.shape, part.bounds.Min, draw.Over)
		}
	}
	return &glyph{colour: out, bounds: all}
}

// bitmap scales a picture of a font to where the glyph is.
func bitmap(data font.GlyphBitmap, g *shaping.Glyph) *glyph {
	if data.Format != font.PNG && data.Format != font.JPG {
		return &glyph{}
	}
	bounds := image.Rect(g.XBearing.Floor(), -g.YBearing.Ceil(), (g.XBearing + g.Width).Ceil(), -(g.YBearing + g.Height).Floor())
	config, _, err := image.DecodeConfig(bytes.NewReader(data.Data))
	if err != nil || bounds.Empty() || bounds.Dx() > maxGlyph || bounds.Dy() > maxGlyph || config.Width*config.Height > maxBitmap {
		return &glyph{}
	}
	from, _, err := image.Decode(bytes.NewReader(data.Data))
	if err != nil {
		return &glyph{}
	}
	out := image.NewRGBA(bounds)
	scale.BiLinear.Scale(out, bounds, from, from.Bounds(), draw.Src, nil)
	return &glyph{colour: out, bounds: bounds}
}
