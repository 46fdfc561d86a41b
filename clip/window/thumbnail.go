package window

import (
	"bytes"
	"image"
	_ "image/gif"  // what is copied may be
	_ "image/jpeg" // likewise
	_ "image/png"  // likewise
	"strings"

	_ "golang.org/x/image/bmp" // likewise
	"golang.org/x/image/draw"
	_ "golang.org/x/image/tiff" // likewise
	_ "golang.org/x/image/webp" // likewise

	"orrery/clip"
)

// maxPixels bounds the pictures that are decoded: 32 million need 128 MB.
const maxPixels = 32 << 20

// thumbnail is an item's picture, as large as it is or as there is room for it; nil if it has none that can be read.
func thumbnail(contents []clip.Content, room image.Point) image.Image {
	for _, c := range contents {
		if !strings.HasPrefix(c.Type, "image/") {
			continue
		}
		config, _, err := image.DecodeConfig(bytes.NewReader(c.Data))
		if err != nil || config.Width <= 0 || config.Height <= 0 || config.Width > maxPixels/config.Height {
			continue
		}
		if picture, _, err := image.Decode(bytes.NewReader(c.Data)); err == nil {
			return fit(picture, room)
		}
	}
	return nil
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
