package exchange

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"orrery/clip"
)

// Version of the format.
const Version = 1

// header is the first line.
type header struct {
	Format  string `json:"format"`
	Version int    `json:"version"`
}

const ownFormat = "orrery-clip-export"

// maxLine bounds a line: an item's bytes are a third longer in base64, and all else is small.
const maxLine = clip.MaxItem/3*4 + 1<<20

// Writer writes items.
type Writer struct {
	w *bufio.Writer
	e *json.Encoder
}

// NewWriter begins a file.
func NewWriter(w io.Writer) (*Writer, error) {
	buffer := bufio.NewWriterSize(w, 64<<10)
	out := &Writer{buffer, json.NewEncoder(buffer)}
	return out, out.e.Encode(header{ownFormat, Version})
}

// Write adds an item.
func (w *Writer) Write(item clip.Item) error { return w.e.Encode(item) }

// Close writes what is left. It leaves the file open.
func (w *Writer) Close() error { return w.w.Flush() }

func readOwn(ctx context.Context, path string, each Each) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // it was only read
	return ReadExport(ctx, f, each)
}

// ReadExport gives each item that a Writer wrote.
func ReadExport(ctx context.Context, from io.Reader, each Each) error {
	limited := &limitedLine{from: from, left: maxLine}
	d := json.NewDecoder(limited)
	var h header
	if err := d.Decode(&h); err != nil {
		return fmt.Errorf("%w: its first line: %w", ErrFormat, err)
	}
	if h.Format != ownFormat || h.Version < 1 {
		return fmt.Errorf("%w: its first line is not that of clip export", ErrFormat)
	}
	if h.Version > Version {
		return fmt.Errorf("%w: version %d is newer than this program's, which is %d (use a newer clip)", ErrFormat, h.Version, Version)
	}
	for n := 1; ctx.Err() == nil; n++ {
		limited.left = maxLine
		var item clip.Item
		switch err := d.Decode(&item); {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, clip.ErrTooLarge):
			return fmt.Errorf("item %d: %w", n, err)
		case err != nil:
			return fmt.Errorf("%w: item %d: %w", ErrFormat, n, err)
		}
		if err := each(item); err != nil {
			return fmt.Errorf("item %d: %w", n, err)
		}
	}
	return ctx.Err()
}

// limitedLine refuses a line that would not fit into memory.
type limitedLine struct {
	from io.Reader
	left int64
}

// Read implements io.Reader.
func (l *limitedLine) Read(b []byte) (int, error) {
	if l.left <= 0 {
		return 0, fmt.Errorf("line of more than %d bytes: %w", maxLine, clip.ErrTooLarge)
	}
	n, err := l.from.Read(b)
	l.left -= int64(n)
	return n, err
}
