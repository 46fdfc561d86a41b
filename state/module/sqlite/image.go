package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"orrery/state"
)

// lockByte is in the range that SQLite locks; it stores nothing in the page around it, whose content so means nothing.
const lockByte = 1 << 30

// The header's fields that say who wrote last; https://sqlite.org/fileformat2.html#the_database_header.
const (
	offsetWriteVersion = 18 // 2: write-ahead log
	offsetReadVersion  = 19
	offsetCounter      = 24
	offsetPages        = 28
	offsetValidFor     = 92 // the change counter for which offsetPages is valid
	offsetLibrary      = 96

	canonicalCounter = 1
	canonicalLibrary = 3046000
	headerLength     = 100
)

// copyBuffer is how much is read at once.
const copyBuffer = 1 << 20

// image is the database at a pinned moment.
type image struct {
	*pin
	close   func() error
	changed func() ([]state.Range, bool)
}

var _ state.Image = (*image)(nil)

func (i *image) Size() int64 { return int64(i.pages) * int64(i.pageSize) }

func (i *image) Changed() ([]state.Range, bool) { return i.changed() }

func (i *image) Close() error { return i.close() }

// ReadAt reads from the log what it holds, and runs of other pages from the database file at once.
func (i *image) ReadAt(b []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, fmt.Errorf("negative offset %d", offset)
	}
	for n < len(b) {
		at := offset + int64(n)
		if at >= i.Size() {
			return n, io.EOF
		}
		length, err := i.readRun(b[n:min(int64(len(b)), int64(n)+i.Size()-at)], at)
		if err != nil {
			return n, err
		}
		n += length
	}
	return n, nil
}

// readRun reads the longest beginning of b that lies in one place, and returns its length.
func (i *image) readRun(b []byte, at int64) (int, error) {
	page := uint32(at/int64(i.pageSize)) + 1
	in := at % int64(i.pageSize)
	b = b[:min(len(b), i.run(page, int64(len(b))+in)-int(in))]
	var err error
	if where, ok := i.lookup(page); ok {
		_, err = i.logFile.ReadAt(b, where+in)
	} else if page == i.lockPage() {
		clear(b)
	} else {
		_, err = i.files.db.ReadAt(b, at)
	}
	if errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("%s ends before page %d of %d: %w", i.files.path, page, i.pages, state.ErrCorrupt)
	}
	if err != nil {
		return 0, err
	}
	if at < headerLength {
		i.canonical(b, at)
	}
	return len(b), nil
}

// run is the number of bytes, about enough for want, from the beginning of a page on that lie in one place.
func (i *image) run(page uint32, want int64) int {
	size := int64(i.pageSize)
	if _, ok := i.lookup(page); ok || page == i.lockPage() {
		return i.pageSize
	}
	length := size
	for length < want {
		page++
		if _, ok := i.lookup(page); ok || page == i.lockPage() {
			break
		}
		length += size
	}
	return int(length)
}

func (i *image) lookup(page uint32) (int64, bool) {
	if i.log == nil {
		return 0, false
	}
	return i.log.Lookup(page)
}

func (i *image) lockPage() uint32 { return uint32(lockByte/i.pageSize) + 1 }

// canonical overwrites the header's volatile fields in b, which begins at offset at.
func (i *image) canonical(b []byte, at int64) {
	var head [headerLength]byte
	head[offsetWriteVersion], head[offsetReadVersion] = 2, 2
	binary.BigEndian.PutUint32(head[offsetCounter:], canonicalCounter)
	// A library older than 3.7 leaves the size in the header stale, which the next field would declare valid.
	binary.BigEndian.PutUint32(head[offsetPages:], i.pages)
	binary.BigEndian.PutUint32(head[offsetValidFor:], canonicalCounter)
	binary.BigEndian.PutUint32(head[offsetLibrary:], canonicalLibrary)
	for _, field := range [][2]int64{{offsetWriteVersion, 2}, {offsetCounter, 8}, {offsetValidFor, 8}} {
		for at0 := max(field[0], at); at0 < min(field[0]+field[1], at+int64(len(b))); at0++ {
			b[at0-at] = head[at0]
		}
	}
}

func readCounter(f *os.File) (uint32, error) {
	var b [4]byte
	if _, err := f.ReadAt(b[:], offsetCounter); err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b[:]), nil
}

func unknown() ([]state.Range, bool) { return nil, false }

// Snapshot writes the database page by page as of one commit.
func (m *Module) Snapshot(ctx context.Context, t state.Target, w io.Writer) error {
	if err := settle(path(t)); err != nil {
		return err
	}
	p, err := m.pin(ctx, path(t), nil)
	if err != nil {
		return err
	}
	return errors.Join(writeImage(ctx, &image{p, p.Close, unknown}, w), p.Close())
}

func writeImage(ctx context.Context, i *image, w io.Writer) error {
	if i.Size() == 0 {
		return fmt.Errorf("database %s is empty: %w", i.files.path, state.ErrCorrupt)
	}
	buffer := make([]byte, copyBuffer)
	for at := int64(0); at < i.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := buffer[:min(int64(len(buffer)), i.Size()-at)]
		if _, err := i.ReadAt(part, at); err != nil {
			return err
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
		at += int64(len(part))
	}
	return nil
}
