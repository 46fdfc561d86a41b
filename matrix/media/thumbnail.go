package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	_ "image/gif" // decoders of pictures
	"image/jpeg"
	"image/png"
	"io"
	"os"

	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // a decoder, too

	"orrery/matrix/store"
)

// Limits of thumbnails.
const (
	maxPixels = 50_000_000 // of the picture that is made smaller
	maxEdge   = 1600       // of a thumbnail
)

// sizes are those in which thumbnails are made: what is asked for gets the next larger one (clause client-server API, thumbnails).
var sizes = []struct {
	width, height int
	crop          bool
}{{32, 32, true}, {96, 96, true}, {320, 240, false}, {640, 480, false}, {800, 600, false}, {maxEdge, 1200, false}}

// Thumbnail is a small copy of a picture, made the first time that it is asked for, and its type. Other media have none: ErrUnsupported.
func (m *Media) Thumbnail(ctx context.Context, row store.Media, width, height int, crop bool) (*os.File, string, error) {
	size := sizes[len(sizes)-1]
	for _, s := range sizes {
		if s.crop == crop && s.width >= width && s.height >= height {
			size = s
			break
		}
	}
	for _, kind := range []string{"png", "jpeg"} {
		if f, err := os.Open(m.thumbnailPath(row, size.width, size.height, kind)); err == nil {
			return f, "image/" + kind, nil
		}
	}
	select {
	case m.thumb <- struct{}{}:
		defer func() { <-m.thumb }()
	case <-ctx.Done():
		return nil, "", ctx.Err()
	}
	content, kind, err := m.shrink(row, size.width, size.height, size.crop)
	if err != nil {
		return nil, "", err
	}
	path := m.thumbnailPath(row, size.width, size.height, kind)
	if err := writeWhole(path, m.path("incoming", ""), content); err != nil {
		return nil, "", err
	}
	f, err := os.Open(path)
	return f, "image/" + kind, err
}

func (m *Media) thumbnailPath(row store.Media, width, height int, kind string) string {
	return m.path("thumbnail", fmt.Sprintf("%s-%dx%d.%s", row.Hash, width, height, kind))
}

// writeWhole writes a file that is there with all of its content, or not at all.
func writeWhole(path, by string, content []byte) error {
	f, err := os.CreateTemp(by, "thumbnail-")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

// shrink is a small copy of a picture, as PNG if it may be transparent, otherwise as JPEG.
func (m *Media) shrink(row store.Media, width, height int, crop bool) ([]byte, string, error) {
	f, err := m.Content(row)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = f.Close() }()
	info, format, err := image.DecodeConfig(f)
	if err != nil || info.Width <= 0 || info.Height <= 0 || info.Width > maxPixels/info.Height {
		return nil, "", fmt.Errorf("media %s: %w", row.ID, ErrUnsupported)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, "", err
	}
	picture, _, err := image.Decode(f)
	if err != nil {
		return nil, "", fmt.Errorf("media %s: %w", row.ID, ErrUnsupported)
	}
	from, to := picture.Bounds(), image.Rect(0, 0, width, height)
	if crop {
		from = middle(from, width, height)
	} else {
		to = within(from, width, height)
	}
	if to.Dx() >= from.Dx() && to.Dy() >= from.Dy() { // never larger than the picture
		to = image.Rect(0, 0, from.Dx(), from.Dy())
	}
	small := image.NewRGBA(to)
	draw.CatmullRom.Scale(small, to, picture, from, draw.Src, nil)
	var out bytes.Buffer
	if format == "jpeg" || small.Opaque() && format != "png" {
		err = jpeg.Encode(&out, small, &jpeg.Options{Quality: 85})
		return out.Bytes(), "jpeg", err
	}
	err = png.Encode(&out, small)
	return out.Bytes(), "png", err
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
func within(of image.Rectangle, width, height int) image.Rectangle {
	w, h := of.Dx(), of.Dy()
	if w*height > h*width {
		return image.Rect(0, 0, width, max(1, h*width/w))
	}
	return image.Rect(0, 0, max(1, w*height/h), height)
}
