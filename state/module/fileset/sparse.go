package fileset

import (
	"bytes"
	"errors"
	"io"
	"os"
)

// hole is the unit, in bytes, in which zeros are left out of a file. File systems allocate at least that much.
const hole = 4 << 10

var zeros [hole]byte

// copySparse copies r into an empty file and leaves holes where it has zeros.
func copySparse(f *os.File, r io.Reader) error {
	buffer := make([]byte, 16*hole)
	var size int64
	for {
		n, err := io.ReadFull(r, buffer)
		if written := writeSparse(f, buffer[:n], size); written != nil {
			return written
		}
		size += int64(n)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return f.Truncate(size)
		}
		if err != nil {
			return err
		}
	}
}

// writeSparse writes what is not zeros, in runs as long as can be.
func writeSparse(f *os.File, b []byte, at int64) error {
	for len(b) > 0 {
		empty := 0
		for empty+hole <= len(b) && bytes.Equal(b[empty:empty+hole], zeros[:]) {
			empty += hole
		}
		full := empty
		for full < len(b) && (full+hole > len(b) || !bytes.Equal(b[full:full+hole], zeros[:])) {
			full = min(full+hole, len(b))
		}
		if _, err := f.WriteAt(b[empty:full], at+int64(empty)); err != nil {
			return err
		}
		b, at = b[full:], at+int64(full)
	}
	return nil
}
