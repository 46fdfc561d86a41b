package dysnomia

import (
	"bytes"
	"errors"
	"io"
	"strings"
)

// completing reads a dump, and adds its end marker if it ends with the words of a whole one and then nothing.
type completing struct {
	r            io.Reader
	closing, end string
	tail         []byte // the end of what was read
	marker       *strings.Reader
}

// Read implements io.Reader.
func (c *completing) Read(p []byte) (int, error) {
	if c.marker != nil {
		return c.marker.Read(p)
	}
	n, err := c.r.Read(p)
	c.tail = append(c.tail, p[:n]...)
	if excess := len(c.tail) - len(c.closing) - 64; excess > 0 {
		c.tail = append(c.tail[:0], c.tail[excess:]...)
	}
	if errors.Is(err, io.EOF) && c.closing != "" && bytes.HasSuffix(bytes.TrimSpace(c.tail), []byte(c.closing)) {
		c.marker, err = strings.NewReader(c.end), nil
	}
	return n, err
}
