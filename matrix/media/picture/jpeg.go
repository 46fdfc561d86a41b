package picture

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"io"
)

// frame is what a JPEG file says before its picture (ITU-T T.81, annex B).
type frame struct {
	orientation int
	samples     float64 // of all components, for each pixel; 0: there is no frame
	components  int
	progressive bool
}

// Markers of segments.
const (
	markerApp1 = 0xE1 // Exif
	markerScan = 0xDA
	markerEnd  = 0xD9
)

// memory is how much it takes to decode that many pixels: a byte for each sample, and four for its coefficient if they come bit by bit. What is printed in
// four colours is converted.
func (f *frame) memory(pixels int64) int64 {
	each := f.samples
	if f.progressive {
		each *= 5
	}
	if f.components == channels {
		each += channels
	}
	return int64(each * float64(pixels))
}

// scan reads a file up to its picture. What it does not find, or cannot make sense of, is as if it were not there.
func scan(file io.Reader) (f frame) {
	f.orientation = upright
	r := bufio.NewReader(file)
	_, _ = r.Discard(2) // the marker of the beginning
	for {
		marker, content, ok := segment(r)
		if !ok {
			return f
		}
		switch {
		case marker == markerApp1:
			if o := orientation(content); o != 0 {
				f.orientation = o
			}
		case isFrame(marker):
			f.read(marker, content)
		}
	}
}

// isFrame says whether a marker is that of a frame (table B.1): the others among its numbers are those of tables.
func isFrame(marker byte) bool {
	return marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC
}

// segment reads one; false where there is none, or the picture begins.
func segment(r *bufio.Reader) (marker byte, content []byte, ok bool) {
	if b, err := r.ReadByte(); err != nil || b != 0xFF {
		return 0, nil, false
	}
	for marker = 0xFF; marker == 0xFF; { // any number of them may stand before it
		var err error
		if marker, err = r.ReadByte(); err != nil || marker == markerScan || marker == markerEnd {
			return 0, nil, false
		}
	}
	var length [2]byte
	if _, err := io.ReadFull(r, length[:]); err != nil {
		return 0, nil, false
	}
	n := int(binary.BigEndian.Uint16(length[:])) - len(length)
	if n < 0 {
		return 0, nil, false
	}
	content = make([]byte, n)
	_, err := io.ReadFull(r, content)
	return marker, content, err == nil
}

// read reads a frame's header (B.2.2): precision, height, width, and of each component its number, how densely it is sampled, and its table.
func (f *frame) read(marker byte, header []byte) {
	const before, each = 6, 3
	if len(header) < before || len(header) < before+each*int(header[5]) {
		return
	}
	f.components, f.progressive, f.samples = int(header[5]), marker&3 == 2, 0
	across, down, all := 1, 1, 0
	for i := range f.components {
		density := header[before+each*i+1]
		h, v := int(density>>4), int(density&15)
		across, down, all = max(across, h), max(down, v), all+h*v
	}
	f.samples = float64(all) / float64(across*down)
}

// orientation is that of an Exif segment, 0 if it has none: the tag's value in the first directory (Exif 2.32, 4.5 and 4.6.4).
func orientation(segment []byte) int {
	const tag, short, entry = 274, 3, 12
	tiff, ok := bytes.CutPrefix(segment, []byte("Exif\x00\x00"))
	if !ok || len(tiff) < 8 {
		return 0
	}
	var order binary.ByteOrder = binary.BigEndian
	if tiff[0] == 'I' {
		order = binary.LittleEndian
	}
	at := uint64(order.Uint32(tiff[4:]))
	if at+2 > uint64(len(tiff)) {
		return 0
	}
	directory := tiff[at:]
	for i := range int(order.Uint16(directory)) {
		e := 2 + i*entry
		if e+entry > len(directory) {
			return 0
		}
		if order.Uint16(directory[e:]) == tag && order.Uint16(directory[e+2:]) == short {
			if o := int(order.Uint16(directory[e+8:])); o >= upright && o <= left {
				return o
			}
			return 0
		}
	}
	return 0
}
