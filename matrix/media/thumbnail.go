package media

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image/jpeg"
	"image/png"
	"io"
	"os"

	"orrery/matrix/media/picture"
	"orrery/matrix/store"
)

// Limits of thumbnails.
const (
	maxMemory = 200 << 20 // bytes for the picture that is made smaller
	maxEdge   = 1600      // pixels of a thumbnail
)

// sizes are those in which thumbnails are made: what is asked for gets the next larger one (clause client-server API, thumbnails).
var sizes = []struct {
	width, height int
	crop          bool
}{{32, 32, true}, {96, 96, true}, {320, 240, false}, {640, 480, false}, {800, 600, false}, {maxEdge, 1200, false}}

// Thumbnail is a small copy of a picture, made the first time that it is asked for, and its type. Other media have none: ErrUnsupported; nor
// have pictures for which there is not enough memory: ErrTooLarge.
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
	content, kind, err := m.shrink(ctx, row, size.width, size.height, size.crop)
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

// shrink is a small copy of a picture, as PNG if it may be transparent, otherwise as JPEG. It waits until there is memory for it.
func (m *Media) shrink(ctx context.Context, row store.Media, width, height int, crop bool) ([]byte, string, error) {
	f, err := m.Content(row)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = f.Close() }()
	p, err := picture.Examine(f)
	if err != nil {
		return nil, "", fmt.Errorf("media %s: %w", row.ID, ErrUnsupported)
	}
	if p.Memory > min(maxMemory, m.c.Memory.Size()) {
		return nil, "", fmt.Errorf("media %s, %d x %d pixels: %w", row.ID, p.Width, p.Height, ErrTooLarge)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, "", err
	}
	release, err := m.c.Memory.Take(ctx, p.Memory)
	if err != nil {
		return nil, "", err
	}
	defer release()
	small, err := p.Shrink(f, width, height, crop)
	if err != nil {
		return nil, "", fmt.Errorf("media %s: %w", row.ID, ErrUnsupported)
	}
	var out bytes.Buffer
	if p.Format == "jpeg" || small.Opaque() && p.Format != "png" {
		err = jpeg.Encode(&out, small, &jpeg.Options{Quality: 85})
		return out.Bytes(), "jpeg", err
	}
	err = png.Encode(&out, small)
	return out.Bytes(), "png", err
}
