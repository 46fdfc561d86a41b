package fileset

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path/filepath"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"
)

const (
	// smallFile is the size in bytes up to which a file is read ahead, as a whole.
	smallFile = 256 << 10
	// batchBytes and batchEntries bound what one reader takes on at a time.
	batchBytes   = 1 << 20
	batchEntries = 256
)

// piece is an entry as it goes into a tar stream. A regular entry that is not small has no content yet.
type piece struct {
	entry   entry
	header  *tar.Header
	content []byte // valid until the next piece
	small   bool
}

// batch is a row of pieces that one reader completes.
type batch struct {
	pieces []piece
	size   int64 // of the small ones' contents
	arena  []byte
	err    error // of the piece behind the last one in pieces
	ready  chan struct{}
}

// readers is how many read files at the same time.
func readers() int { return min(4, runtime.GOMAXPROCS(0)) }

// aheadReader hands batches to goroutines that read, and keeps their order.
type aheadReader struct {
	folder      string
	work, order chan *batch
	spare       chan []byte
}

// ahead yields the entries of a folder in their order, and reads attributes and small files before they are asked for.
func ahead(ctx context.Context, folder string, entries []entry) iter.Seq2[piece, error] {
	return func(yield func(piece, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		r := aheadReader{folder, make(chan *batch), make(chan *batch, readers()), make(chan []byte, 2*readers()+2)}
		running.Go(func() { r.deal(ctx, entries) })
		for range readers() {
			running.Go(func() { r.read(ctx) })
		}
		for b := range r.order {
			select {
			case <-b.ready:
			case <-ctx.Done():
				yield(piece{}, ctx.Err())
				return
			}
			if !b.yield(yield) {
				return
			}
			r.spare <- b.arena
		}
		if err := ctx.Err(); err != nil {
			yield(piece{}, err)
		}
	}
}

// deal gives every batch its place in the order, and to whoever is free to read it.
func (r aheadReader) deal(ctx context.Context, entries []entry) {
	defer close(r.work)
	defer close(r.order)
	for b := range batches(entries) {
		for _, to := range []chan *batch{r.order, r.work} {
			select {
			case to <- b:
			case <-ctx.Done():
				return
			}
		}
	}
}

func (r aheadReader) read(ctx context.Context) {
	for b := range r.work {
		select {
		case b.arena = <-r.spare:
		default:
		}
		b.load(ctx, r.folder)
		close(b.ready)
	}
}

// yield passes the pieces on, and says whether there is to be more.
func (b *batch) yield(yield func(piece, error) bool) bool {
	for _, p := range b.pieces {
		if !yield(p, nil) {
			return false
		}
	}
	if b.err != nil {
		yield(piece{}, b.err)
	}
	return b.err == nil
}

// batches makes the headers of entries, and deals them out.
func batches(entries []entry) iter.Seq[*batch] {
	return func(yield func(*batch) bool) {
		first := map[[2]uint64]string{}
		b := &batch{ready: make(chan struct{})}
		for _, e := range entries {
			p := piece{entry: e, header: e.header(first)}
			p.small = p.header.Typeflag == tar.TypeReg && e.size <= smallFile
			b.pieces = append(b.pieces, p)
			if p.small {
				b.size += e.size
			}
			if len(b.pieces) < batchEntries && b.size < batchBytes {
				continue
			}
			if !yield(b) {
				return
			}
			b = &batch{ready: make(chan struct{})}
		}
		if len(b.pieces) > 0 {
			yield(b)
		}
	}
}

// load reads what the pieces lack.
func (b *batch) load(ctx context.Context, folder string) {
	if int64(cap(b.arena)) < b.size {
		b.arena = make([]byte, batchBytes+smallFile)
	}
	free := b.arena[:b.size]
	for i := range b.pieces {
		p := &b.pieces[i]
		err := ctx.Err()
		if err == nil {
			err = p.describe(folder)
		}
		if err == nil && p.small {
			p.content, free = free[:p.entry.size:p.entry.size], free[p.entry.size:]
			err = readSmall(filepath.Join(folder, p.entry.path), p.content)
		}
		if err != nil {
			b.pieces, b.err = b.pieces[:i], changedIfGone(p.entry.path, err)
			return
		}
	}
}

// describe adds extended attributes to the header.
func (p *piece) describe(folder string) (err error) {
	if p.header.Typeflag == tar.TypeReg || p.header.Typeflag == tar.TypeDir {
		p.header.PAXRecords, err = extended(filepath.Join(folder, p.entry.path))
	}
	return err
}

// changedIfGone adds a path to an error; what is gone since the walk has changed.
func changedIfGone(path string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = errChanged
	}
	return fmt.Errorf("%s: %w", path, err)
}

// inParallel calls do for 0 to n-1, several at a time, and returns the first error.
func inParallel(ctx context.Context, n int, do func(i int) error) error {
	const each = 512
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers())
	for from := 0; from < n; from += each {
		g.Go(func() error {
			for i := from; i < min(n, from+each); i++ {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}
