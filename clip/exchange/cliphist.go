package exchange

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"syscall"
	"time"

	"orrery/clip"
)

// cliphist keeps a bbolt database, whose bucket "b" has contents by ids that rise. It is read here and not by bbolt because that maps the file into memory and
// trusts it: a damaged one ends the program.
//
// A file is pages. The first two have the root of the tree of buckets, the newer one that is whole counts. A page is its number (64 bits), what it is, how many elements it has (16 bits each), how many
// pages it goes on for (32 bits), and elements: of a branch, the place and length of a key and a page; of a leaf, flags, a place, and the lengths of a key and of the value after it. A small
// bucket's only page is in its value. Numbers are in the machine's byte order, which is x86's and ARM's.
const (
	boltMagic    = 0xed0cdaed
	boltVersion  = 2
	boltHeader   = 16
	boltMeta     = 64
	boltBranch   = 1
	boltLeaf     = 2
	boltBucket   = 1  // flag of an element
	boltDepth    = 64 // of a tree, which is far deeper than any
	maxBoltPage  = clip.MaxItem + 1<<20
	cliphistName = "b"
)

func readCliphist(ctx context.Context, path string, each Each) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()                                                                     //nolint:errcheck // it was only read
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); err != nil { //nolint:gosec // a descriptor is small
		return fmt.Errorf("another program is writing to it (try again): %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return decodeCliphist(ctx, f, info.Size(), info.ModTime(), each)
}

func decodeCliphist(ctx context.Context, from io.ReaderAt, size int64, written time.Time, each Each) error {
	b := &bolt{from: from, size: size}
	root, err := b.open()
	if err != nil {
		return err
	}
	var bucket []byte
	if err := b.walk(ctx, root, nil, 0, func(flags uint32, key, value []byte) error {
		if flags&boltBucket != 0 && string(key) == cliphistName {
			bucket = append([]byte(nil), value...)
		}
		return nil
	}); err != nil {
		return err
	}
	if len(bucket) < boltHeader {
		return fmt.Errorf("%w: it has no bucket of cliphist's", ErrFormat)
	}
	items := 0
	top, inline := binary.LittleEndian.Uint64(bucket), bucket[boltHeader:]
	if err := b.walk(ctx, top, inline, 0, func(uint32, []byte, []byte) error { items++; return nil }); err != nil {
		return err
	}
	times := newClock(written, items)
	return b.walk(ctx, top, inline, 0, func(_ uint32, key, value []byte) error {
		item := clip.Item{Contents: []clip.Content{{Type: TypeOf(value), Data: append([]byte(nil), value...)}}}
		item.Used = times.tick()
		if err := each(item); err != nil {
			return fmt.Errorf("item %x: %w", key, err)
		}
		return nil
	})
}

// bolt is a database that is read.
type bolt struct {
	from     io.ReaderAt
	size     int64
	pageSize int64
	visited  int64 // pages, so that a circle ends
}

var errBolt = fmt.Errorf("%w: a bbolt database is damaged", ErrFormat)

// open finds the root of the newer of two descriptions that is whole.
func (b *bolt) open() (root uint64, err error) {
	var newest uint64
	found := false
	for _, at := range []int64{0, 4096, 8192, 16384, 32768, 65536} { // the second page, for all sizes of pages
		meta := make([]byte, boltHeader+boltMeta)
		if _, err := b.from.ReadAt(meta, at); err != nil {
			continue
		}
		meta = meta[boltHeader:]
		sum := fnv.New64a()
		_, _ = sum.Write(meta[:56])
		pageSize := int64(binary.LittleEndian.Uint32(meta[8:]))
		transaction := binary.LittleEndian.Uint64(meta[48:])
		if binary.LittleEndian.Uint32(meta) != boltMagic || binary.LittleEndian.Uint32(meta[4:]) != boltVersion || binary.LittleEndian.Uint64(meta[56:]) != sum.Sum64() ||
			at != 0 && at != pageSize || pageSize < 512 || pageSize > 1<<20 || found && transaction <= newest {
			continue
		}
		found, newest, root, b.pageSize = true, transaction, binary.LittleEndian.Uint64(meta[16:]), pageSize
	}
	if !found {
		return 0, fmt.Errorf("%w: it is no bbolt database, which cliphist has", ErrFormat)
	}
	return root, nil
}

// page reads a page, with those that it goes on for.
func (b *bolt) page(number uint64) ([]byte, error) {
	if b.visited++; b.visited > 4*(b.size/b.pageSize)+64 { // three walks
		return nil, errBolt
	}
	if number > uint64(b.size/b.pageSize) { //nolint:gosec // not negative
		return nil, errBolt
	}
	at := int64(number) * b.pageSize //nolint:gosec // within the file
	head := make([]byte, boltHeader)
	if _, err := b.from.ReadAt(head, at); err != nil {
		return nil, errors.Join(errBolt, err)
	}
	size := (int64(binary.LittleEndian.Uint32(head[12:])) + 1) * b.pageSize
	if size > maxBoltPage || size > b.size-at || binary.LittleEndian.Uint64(head) != number {
		return nil, errBolt
	}
	page := make([]byte, size)
	if _, err := b.from.ReadAt(page, at); err != nil {
		return nil, errors.Join(errBolt, err)
	}
	return page, nil
}

// walk gives each element below a page, or below the page that is in a bucket's value, in the order of keys.
func (b *bolt) walk(ctx context.Context, number uint64, inline []byte, depth int, each func(flags uint32, key, value []byte) error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	page := inline
	if number != 0 {
		var err error
		if page, err = b.page(number); err != nil {
			return err
		}
	}
	if len(page) < boltHeader || depth > boltDepth {
		return errBolt
	}
	kind, count := binary.LittleEndian.Uint16(page[8:]), int(binary.LittleEndian.Uint16(page[10:]))
	if len(page) < boltHeader*(count+1) || kind != boltBranch && kind != boltLeaf || kind == boltBranch && number == 0 {
		return errBolt
	}
	for i := range count {
		at := boltHeader * (i + 1)
		element := page[at:]
		if kind == boltBranch {
			if err := b.walk(ctx, max(1, binary.LittleEndian.Uint64(element[8:])), nil, depth+1, each); err != nil {
				return err
			}
			continue
		}
		begin := uint64(binary.LittleEndian.Uint32(element[4:]))
		key := begin + uint64(binary.LittleEndian.Uint32(element[8:]))
		end := key + uint64(binary.LittleEndian.Uint32(element[12:]))
		if end > uint64(len(element)) {
			return errBolt
		}
		if err := each(binary.LittleEndian.Uint32(element), element[begin:key], element[key:end]); err != nil {
			return err
		}
	}
	return nil
}
