package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"

	"lukechampine.com/blake3"

	"orrery/state"
)

// reader reads a snapshot. ReadAt may be called from several goroutines.
type reader struct {
	store *Store
	id    state.SnapshotID
	m     *manifest
	lease lock

	mu     sync.Mutex
	c      *catalog
	offset int64
	hash   *blake3.Hasher // of what Read yielded, for snapshots whose manifest does not prove the id
	closed bool
}

var _ state.Reader = (*reader)(nil)

// Open reads a snapshot; every byte it yields has been verified. Prune keeps the snapshot until the reader is closed.
func (s *Store) Open(ctx context.Context, id state.SnapshotID) (state.Reader, error) {
	c, err := s.catalog(ctx)
	if err != nil {
		return nil, err
	}
	m, err := c.manifest(id)
	if err != nil {
		c.close()
		return nil, err
	}
	lease, err := s.acquire(ctx, filepath.Join(s.leases(), string(id)), false)
	if err != nil {
		c.close()
		return nil, err
	}
	c.lock.release() // the lease is enough
	c.lock = lock{}
	r := &reader{store: s, id: id, m: m, lease: lease, c: c}
	if m.Layout == layoutContent {
		r.hash = blake3.New(32, nil)
	}
	return r, nil
}

func (r *reader) Size() int64 { return r.m.Size }

func (r *reader) Read(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.offset == r.m.Size {
		return 0, io.EOF
	}
	n, err := r.readAt(b, r.offset)
	if err != nil || r.hash == nil {
		r.offset += int64(n)
		return n, err
	}
	_, _ = r.hash.Write(b[:n]) // never fails
	if r.offset+int64(n) == r.m.Size && digest(r.hash.Sum(nil)) != r.m.ID {
		return 0, fmt.Errorf("snapshot %s: %w: content differs from its id", r.id, state.ErrCorrupt)
	}
	r.offset += int64(n)
	return n, nil
}

func (r *reader) ReadAt(b []byte, offset int64) (n int, err error) {
	if offset < 0 {
		return 0, errors.New("negative offset")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(b) {
		if offset+int64(n) >= r.m.Size {
			return n, io.EOF
		}
		k, err := r.readAt(b[n:], offset+int64(n))
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

// readAt reads what one segment has.
func (r *reader) readAt(b []byte, offset int64) (int, error) {
	if r.closed {
		return 0, errors.New("snapshot reader is closed")
	}
	if len(b) == 0 {
		return 0, nil
	}
	i := r.m.find(offset)
	data, err := r.c.segment(r.m.Segments[i])
	if err != nil {
		return 0, fmt.Errorf("snapshot %s at %d: %w", r.id, offset, err)
	}
	start, end := r.m.span(i)
	e := r.c.has(r.m.Segments[i])
	if int64(len(data)) != end-start || e == nil || e.position != r.m.position(i) {
		return 0, fmt.Errorf("snapshot %s at %d: %w: a segment is not of its place", r.id, offset, state.ErrCorrupt)
	}
	return copy(b, data[offset-start:]), nil
}

// Differs compares manifests.
func (r *reader) Differs(ctx context.Context, from state.SnapshotID) ([]state.Range, error) {
	whole := []state.Range{{Offset: 0, Length: r.m.Size}}
	if r.m.Size == 0 || from == r.id {
		return nil, nil
	}
	c, err := r.store.catalog(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	other, err := c.manifest(from)
	if errors.Is(err, state.ErrNotFound) {
		return whole, nil
	}
	if err != nil {
		return nil, err
	}
	var differ []state.Range
	for i, name := range r.m.Segments {
		start, end := r.m.span(i)
		if i < len(other.Segments) && other.Segments[i] == name {
			if s, e := other.span(i); s == start && e == end {
				continue
			}
		}
		if last := len(differ) - 1; last >= 0 && differ[last].Offset+differ[last].Length == start {
			differ[last].Length += end - start
			continue
		}
		differ = append(differ, state.Range{Offset: start, Length: end - start})
	}
	return differ, nil
}

func (r *reader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.closed = true
		r.c.close()
		r.lease.release()
	}
	return nil
}

// Verify reads a snapshot whole and compares it with its id.
func (s *Store) Verify(ctx context.Context, id state.SnapshotID) error {
	r, err := s.Open(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }() // only read from
	hash := blake3.New(32, nil)
	buffer := make([]byte, imageSegment)
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.Read(buffer)
		_, _ = hash.Write(buffer[:n]) // never fails
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if digest(hash.Sum(nil)).id() != id {
		return fmt.Errorf("snapshot %s: %w: content differs from its id", id, state.ErrCorrupt)
	}
	return nil
}
