package window

import (
	"bytes"
	"image"
	_ "image/gif"  // what is copied may be
	_ "image/jpeg" // likewise
	_ "image/png"  // likewise

	_ "golang.org/x/image/bmp" // likewise
	"golang.org/x/image/draw"
	_ "golang.org/x/image/tiff" // likewise
	_ "golang.org/x/image/webp" // likewise
)

// maxPixels bounds the pictures that are decoded: 32 million need 128 MB.
const maxPixels = 32 << 20

// thumbnail is a picture, as large as it is or as there is room for it; nil if it cannot be read.
func thumbnail(data []byte, room image.Point) image.Image {
	config, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || config.Width <= 0 || config.Height <= 0 || config.Width > maxPixels/config.Height {
		return nil
	}
	picture, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return nil
	}
	return fit(picture, room)
}

// fit makes a picture no larger than there is room.
func fit(picture image.Image, room image.Point) image.Image {
	size := picture.Bounds().Size()
	if size.X > room.X {
		size = image.Pt(room.X, max(1, size.Y*room.X/size.X))
	}
	if size.Y > room.Y {
		size = image.Pt(max(1, size.X*room.Y/size.Y), room.Y)
	}
	small := image.NewRGBA(image.Rectangle{Max: size})
	draw.ApproxBiLinear.Scale(small, small.Rect, picture, picture.Bounds(), draw.Src, nil)
	return small
}
