package waylandwindow

import (
	"image"

	"orrery/clip/wayland/wire"
	"orrery/clip/window"
	"orrery/clip/window/paint"
)

const (
	unit = 120 // of a fractional scale: that many mean 1
	// maxScale, maxSide and maxArea bound what a compositor may ask for.
	maxScale = 8 * unit
	maxSide  = 8192
	maxArea  = 16 << 20
)

// output is a screen.
type output struct {
	remote *wire.Object
	mode   image.Point // its pixels
	scale  int
	holds  bool // the window is on it, also
}

// scale is how many pixels a unit of the compositor has, in 120ths.
type scale struct {
	whole    int // of the screens, or as the compositor prefers
	fraction int // as it prefers; 0: it has not said
}

// guess is for the time before the window is on a screen.
func (c *scale) guess(outputs map[uint32]*output) {
	c.whole = unit
	for _, o := range outputs {
		c.whole = max(c.whole, o.scale*unit)
	}
}

func (c *scale) value() int {
	if c.fraction != 0 {
		return c.fraction
	}
	return c.whole
}

func bounded(n int) int { return max(unit, min(n, maxScale)) }

// room is how large the window may be: as it wants to be, or as the smallest screen is.
func (s *Screen) room() image.Point {
	size := image.Pt(paint.Width, paint.Height)
	for _, o := range s.outputs {
		if o.mode.X > 0 && o.mode.Y > 0 {
			size.X, size.Y = min(size.X, o.mode.X/o.scale), min(size.Y, o.mode.Y/o.scale)
		}
	}
	return image.Pt(max(1, size.X), max(1, size.Y))
}

func (s *Screen) outputEvent(o *output, m *wire.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m.Opcode {
	case outputMode:
		if flags := m.Uint(); flags&1 != 0 { // the one that is on
			o.mode = image.Pt(int(m.Int()), int(m.Int()))
		}
	case outputScale:
		o.scale = bounded(int(m.Int())*unit) / unit
		if o.holds {
			s.rescale()
		}
	default:
		if m.Opcode >= outputEvents {
			return m.Unknown()
		}
	}
	return nil
}

func (s *Screen) surfaceEvent(m *wire.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch m.Opcode {
	case surfaceEnter, surfaceLeave:
		id := m.Uint()
		for _, o := range s.outputs {
			if o.remote.ID() == id {
				o.holds = m.Opcode == surfaceEnter
			}
		}
		s.rescale()
	case surfacePreferred:
		s.scale.whole = bounded(int(m.Int()) * unit)
		s.resize()
	default:
		if m.Opcode >= surfaceEvents {
			return m.Unknown()
		}
	}
	return nil
}

// rescale takes the largest scale of the screens that the window is on.
func (s *Screen) rescale() {
	largest := 0
	for _, o := range s.outputs {
		if o.holds {
			largest = max(largest, o.scale*unit)
		}
	}
	if largest > 0 {
		s.scale.whole = largest
		s.resize()
	}
}

// fraction is told of the scale that the compositor prefers.
func (s *Screen) fraction(m *wire.Message) error {
	if m.Opcode != fractionPrefers {
		return m.Unknown()
	}
	n := m.Uint()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.scale.fraction = bounded(int(min(n, maxScale)))
	s.resize()
	return nil
}

// pixels is how large a picture of the window is.
func (s *Screen) pixels() image.Point {
	n := s.scale.value()
	width := max(1, min((s.size.X*n+unit/2)/unit, maxSide))
	return image.Pt(width, max(1, min((s.size.Y*n+unit/2)/unit, maxSide, maxArea/width)))
}

// resize tells of another size or scale; the caller holds the lock.
func (s *Screen) resize() {
	p := s.pixels()
	e := window.Resized{Width: p.X, Height: p.Y, Scale: float64(s.scale.value()) / unit}
	if s.shown && e != s.told {
		s.told = e
		s.tell(e)
	}
}
