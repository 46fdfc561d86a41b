package terminal

import (
	"bytes"
	"fmt"
	"image"
	_ "image/gif" // pictures that can be shown
	_ "image/jpeg"
	_ "image/png"
	"strings"

	"charm.land/lipgloss/v2"
	"golang.org/x/image/draw"
	_ "golang.org/x/image/webp" // as above

	"orrery/clip"
)

// maxPixels is the largest picture that is decoded: 16 million take 64 MB.
const maxPixels = 16 << 20

// picture draws a picture in some rows of letters, two pixels above each other in each.
func (m *model) picture(c *clip.Content, rows int) []string {
	config, format, err := image.DecodeConfig(bytes.NewReader(c.Data))
	said := fmt.Sprintf("%s, %d bytes", harmless(c.Type), len(c.Data))
	if err != nil {
		return []string{faint.Render(m.cut(said))}
	}
	said = fmt.Sprintf("%s, %d × %d, %d bytes", format, config.Width, config.Height, len(c.Data))
	lines := []string{faint.Render(m.cut(said))}
	if rows < 3 || config.Width <= 0 || config.Height <= 0 || config.Width > maxPixels/config.Height {
		return lines
	}
	if m.drawn == nil || m.drawnID != m.state.Item.ID || m.drawnRows != rows || m.drawnWidth != m.width {
		m.drawn, m.drawnID, m.drawnRows, m.drawnWidth = blocks(c.Data, m.width, rows-1), m.state.Item.ID, rows, m.width
	}
	return append(lines, m.drawn...)
}

// blocks scales a picture down to at most width letters and rows.
func blocks(data []byte, width, rows int) []string {
	from, _, err := image.Decode(bytes.NewReader(data))
	if err != nil {
		return []string{}
	}
	size := from.Bounds().Size()
	w, h := fit(size, width, 2*rows)
	to := image.NewRGBA(image.Rect(0, 0, w, h))
	draw.ApproxBiLinear.Scale(to, to.Bounds(), from, from.Bounds(), draw.Over, nil)
	lines := make([]string, 0, rows)
	for y := 0; y < h; y += 2 {
		var line strings.Builder
		for x := range w {
			style := lipgloss.NewStyle().Foreground(to.RGBAAt(x, y))
			if y+1 < h {
				style = style.Background(to.RGBAAt(x, y+1))
			}
			line.WriteString(style.Render("▀"))
		}
		lines = append(lines, line.String())
	}
	return lines
}

// fit is the largest size of the same shape within bounds, and not larger than the picture.
func fit(size image.Point, width, height int) (w, h int) {
	w, h = min(size.X, width), min(size.Y, height)
	if size.X*h > size.Y*w {
		h = size.Y * w / size.X
	} else {
		w = size.X * h / size.Y
	}
	return max(1, w), max(1, h)
}
