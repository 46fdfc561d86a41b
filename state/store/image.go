package store

import (
	"errors"
	"fmt"
	"io"

	"orrery/state"
)

// imageSegment is the length of an image's segments but for the last: a power of two, so that each is a
// subtree of the hash of the whole. It is part of the format.
const imageSegment = 1 << 20

// image stores the segments of an image. With ok, those outside the changed ranges are the parent's and not read.
func (w *saver) image(from state.Image, changed []state.Range, ok bool) error {
	m := w.m
	m.Layout, m.Size = layoutAligned, from.Size()
	if m.Size < 0 || m.Size > maxManifest/32*imageSegment/2 {
		return fmt.Errorf("an image of %d bytes is too large", m.Size)
	}
	m.Segments = make([]digest, (m.Size+imageSegment-1)/imageSegment)
	dirty := w.dirty(changed, ok)
	buffer := make([]byte, min(m.Size, imageSegment))
	for i := range m.Segments {
		if !dirty(i) {
			m.Segments[i] = w.parent.Segments[i]
			continue
		}
		if err := w.ctx.Err(); err != nil {
			return err
		}
		start, end := m.span(i)
		b := buffer[:end-start]
		if n, err := from.ReadAt(b, start); n < len(b) {
			if err == nil || errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return fmt.Errorf("cannot read the image at %d: %w", start, err)
		}
		m.Segments[i] = sum(b, m.position(i))
		var bases []digest
		if w.parent != nil {
			if bases = w.parent.covering(start, end); len(bases) == 1 && bases[0] == m.Segments[i] {
				continue
			}
		}
		if err := w.put(b, m.Segments[i], m.position(i), bases); err != nil {
			return err
		}
	}
	m.ID = join(m.Segments)
	return nil
}

// dirty says which segments must be read. The ends of both images count as changed where their sizes differ.
func (w *saver) dirty(changed []state.Range, ok bool) func(int) bool {
	p, m := w.parent, w.m
	if !ok || p.Layout != layoutAligned || len(p.Segments) < 2 || len(m.Segments) < 2 {
		return func(int) bool { return true }
	}
	marks := make([]bool, len(m.Segments))
	if p.Size != m.Size {
		for i := min(len(p.Segments), len(m.Segments)) - 1; i < len(marks); i++ {
			marks[i] = true
		}
	}
	for _, r := range changed {
		if r.Length <= 0 || r.Offset >= m.Size {
			continue
		}
		last := (min(m.Size-r.Offset, r.Length) + r.Offset - 1) / imageSegment
		for i := max(0, r.Offset) / imageSegment; i <= last; i++ {
			marks[i] = true
		}
	}
	return func(i int) bool { return marks[i] }
}
