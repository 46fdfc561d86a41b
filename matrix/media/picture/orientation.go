package picture

import "image"

// Orientations (Exif 2.32, 4.6.4, tag 274) say how a picture is to be turned. From transposed on its width becomes its height.
const (
	upright = iota + 1
	mirrored
	upsideDown
	mirroredUpsideDown
	transposed
	right // it is to be turned to the right
	transversed
	left
)

// turn is a picture as it is to be seen.
func turn(p *image.RGBA, orientation int) *image.RGBA {
	w, h := p.Rect.Dx(), p.Rect.Dy()
	from := map[int]func(x, y int) (int, int){
		mirrored:           func(x, y int) (int, int) { return w - 1 - x, y },
		upsideDown:         func(x, y int) (int, int) { return w - 1 - x, h - 1 - y },
		mirroredUpsideDown: func(x, y int) (int, int) { return x, h - 1 - y },
		transposed:         func(x, y int) (int, int) { return y, x },
		right:              func(x, y int) (int, int) { return y, h - 1 - x },
		transversed:        func(x, y int) (int, int) { return w - 1 - y, h - 1 - x },
		left:               func(x, y int) (int, int) { return w - 1 - y, x },
	}[orientation]
	if from == nil {
		return p
	}
	size := image.Rect(0, 0, w, h)
	if orientation >= transposed {
		size = image.Rect(0, 0, h, w)
	}
	turned := image.NewRGBA(size)
	for y := range size.Dy() {
		for x := range size.Dx() {
			turned.SetRGBA(x, y, p.RGBAAt(from(x, y)))
		}
	}
	return turned
}
