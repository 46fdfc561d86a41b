package x11window

import (
	"fmt"
	"math/bits"

	"github.com/jezek/xgb/xproto"
)

// format is how a screen's pixels are.
type format struct {
	size    int  // bytes of a pixel
	pad     int  // bytes to which a row is filled up
	big     bool // the most significant byte comes first
	shift   [3]int
	lose    [3]int // bits of a byte that a colour has no room for
	ordinal bool   // blue, green, red and a byte that does not matter
}

func formatOf(setup *xproto.SetupInfo, screen *xproto.ScreenInfo) (format, error) {
	f := format{big: setup.ImageByteOrder == xproto.ImageOrderMSBFirst}
	for _, p := range setup.PixmapFormats {
		if p.Depth == screen.RootDepth {
			f.size, f.pad = int(p.BitsPerPixel)/8, int(p.ScanlinePad)/8
		}
	}
	for _, depth := range screen.AllowedDepths {
		for _, v := range depth.Visuals {
			if v.VisualId != screen.RootVisual || v.Class != xproto.VisualClassTrueColor && v.Class != xproto.VisualClassDirectColor || f.size < 2 || f.size > 4 {
				continue
			}
			for i, mask := range []uint32{v.RedMask, v.GreenMask, v.BlueMask} {
				f.shift[i], f.lose[i] = bits.TrailingZeros32(mask), max(0, 8-bits.OnesCount32(mask))
			}
			f.ordinal = f.size == 4 && !f.big && f.shift == [3]int{16, 8, 0} && f.lose == [3]int{}
			return f, nil
		}
	}
	return f, fmt.Errorf("its screen has %d colours in a palette, or a depth of %d that is not known here (use the picker in a terminal: --terminal)", 1<<min(screen.RootDepth, 16), screen.RootDepth)
}

// rowSize is how many bytes a row of pixels has.
func (f *format) rowSize(width int) int {
	return (width*f.size + f.pad - 1) / max(1, f.pad) * max(1, f.pad)
}

// row adds a row of pixels that are red, green, blue and alpha.
func (f *format) row(to, line []byte) []byte {
	begin := len(to)
	if f.ordinal {
		to = append(to, line...)
		made := to[begin:]
		for i := 0; i+3 < len(made); i += 4 {
			made[i], made[i+2] = made[i+2], made[i]
		}
		return to
	}
	for i := 0; i+3 < len(line); i += 4 {
		var v uint32
		for c := range 3 {
			v |= uint32(line[i+c]) >> f.lose[c] << f.shift[c]
		}
		for b := range f.size {
			if f.big {
				b = f.size - 1 - b
			}
			to = append(to, byte(v>>(8*b)))
		}
	}
	for f.pad > 0 && (len(to)-begin)%f.pad != 0 {
		to = append(to, 0)
	}
	return to
}
