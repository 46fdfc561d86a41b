// Package picture makes pictures smaller, and says before how much memory that takes.
package picture

import (
	"fmt"
	"image"
	"image/color"
	_ "image/gif" // decoders of pictures
	_ "image/jpeg"
	_ "image/png"
	"io"
	"math"

	_ "golang.org/x/image/webp" // a decoder, too
)

// Picture is what a file says of its picture.
type Picture struct {
	Format        string // jpeg, png, gif or webp
	Width, Height int    // as it is stored, before it is turned
	Memory        int64  // bytes that it takes at most while it is made smaller
	orientation   int
}

// Examine reads what a file says of its picture, without decoding it.
func Examine(r io.ReadSeeker) (*Picture, error) {
	c, format, err := image.DecodeConfig(r)
	if err != nil {
		return nil, err
	}
	if c.Width <= 0 || c.Height <= 0 {
		return nil, fmt.Errorf("%d x %d pixels", c.Width, c.Height)
	}
	p := &Picture{Format: format, Width: c.Width, Height: c.Height, Memory: math.MaxInt64, orientation: upright}
	if c.Height > maxPixels/c.Width {
		return p, nil
	}
	pixels := int64(c.Width) * int64(c.Height)
	p.Memory = pixels * size(c.ColorModel)
	switch format {
	case "png", "gif", "webp": // interlaced, or with a second copy for what was transformed
		p.Memory *= 2
	case "jpeg":
		if _, err := r.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		f := scan(r)
		p.orientation = f.orientation
		if f.samples > 0 {
			p.Memory = f.memory(pixels)
		}
	}
	p.Memory += int64(stripRows * c.Width * 4)
	return p, nil
}

// maxPixels are more than any memory is for, and few enough for the arithmetic of averages.
const maxPixels = 1 << 30

// size is how many bytes a pixel takes at most.
func size(m color.Model) int64 {
	switch m {
	case color.GrayModel:
		return 1
	case color.Gray16Model:
		return 2
	case color.YCbCrModel:
		return 3
	case color.RGBAModel, color.NRGBAModel, color.NYCbCrAModel, color.CMYKModel:
		return 4
	}
	if _, ok := m.(color.Palette); ok {
		return 1
	}
	return 8
}

// Shrink decodes the picture and makes it smaller, upright: so that all of it fits into a size or, cropped, so that its middle fills the size. It is never made larger.
func (p *Picture) Shrink(r io.Reader, width, height int, crop bool) (*image.RGBA, error) {
	whole, _, err := image.Decode(r)
	if err != nil {
		return nil, err
	}
	if p.orientation >= transposed {
		width, height = height, width
	}
	from := whole.Bounds()
	if crop {
		from = middle(from, width, height)
	} else {
		width, height = within(from, width, height)
	}
	if width >= from.Dx() && height >= from.Dy() {
		width, height = from.Dx(), from.Dy()
	}
	return turn(average(whole, from, min(width, from.Dx()), min(height, from.Dy())), p.orientation), nil
}

// middle is the largest part in the middle of a picture that has the proportions of a size.
func middle(of image.Rectangle, width, height int) image.Rectangle {
	w, h := of.Dx(), of.Dy()
	if w*height > h*width {
		w = max(1, h*width/height)
	} else {
		h = max(1, w*height/width)
	}
	x, y := of.Min.X+(of.Dx()-w)/2, of.Min.Y+(of.Dy()-h)/2
	return image.Rect(x, y, x+w, y+h)
}

// within is the size of a whole picture that fits into another one.
func within(of image.Rectangle, width, height int) (int, int) {
	w, h := of.Dx(), of.Dy()
	if w*height > h*width {
		return width, max(1, h*width/w)
	}
	return max(1, w*height/h), height
}
