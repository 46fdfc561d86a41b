package etcd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"orrery/internal/spool"
	"orrery/state"
)

// A snapshot is a line that names the format; for each key, in order, a line with the lengths of key and value in bytes,
// then key, value, and a line's end; and a line with the number of keys, which is the end.
const (
	magic     = "Orrery etcd snapshot 1\n"
	maxLength = 64 << 20 // of a key or a value; etcd's own limit is lower by far
	attempts  = 4
)

// The size of a page follows the size of values.
const (
	firstPage = 16
	maxPage   = 2048
	pageBytes = 4 << 20
)

// dumpAgain fills the file with a snapshot and rewinds it. It begins anew where the server compacts its history meanwhile.
func (k *keyspace) dumpAgain(ctx context.Context, f *os.File) error {
	var err error
	for range attempts {
		if err = errors.Join(f.Truncate(0), spool.Rewind(f)); err != nil {
			return err
		}
		if err = k.dump(ctx, f); !compacted(err) {
			return errors.Join(err, spool.Rewind(f))
		}
	}
	return fmt.Errorf("the server compacts its history faster than the keys can be read (try again, or compact less often): %w", err)
}

// dump writes a snapshot of one revision.
func (k *keyspace) dump(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriterSize(w, 64<<10)
	if _, err := out.WriteString(magic); err != nil {
		return err
	}
	count := 0
	err := k.each(ctx, func(p pair) error {
		if p.Lease != 0 {
			return nil
		}
		count++
		return writePair(out, p.Key[len(k.prefix):], p.Value)
	})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(out, "end %d\n", count); err != nil {
		return err
	}
	return out.Flush()
}

func writePair(out *bufio.Writer, key, value []byte) error {
	_, err := fmt.Fprintf(out, "%d %d\n", len(key), len(value))
	for _, b := range [][]byte{key, value, {'\n'}} {
		if err == nil {
			_, err = out.Write(b)
		}
	}
	return err
}

// each visits the keys of one revision in order.
func (k *keyspace) each(ctx context.Context, visit func(pair) error) error {
	var after []byte
	var revision int64
	limit := int64(firstPage)
	for {
		page, at, err := k.page(ctx, after, revision, limit)
		if err != nil {
			return err
		}
		revision = at
		size := 0
		for _, p := range page {
			size += len(p.Key) + len(p.Value)
			if err := visit(p); err != nil {
				return err
			}
		}
		if int64(len(page)) < limit {
			return nil
		}
		after = page[len(page)-1].Key
		if size < pageBytes/2 {
			limit = min(2*limit, maxPage)
		} else if size > pageBytes {
			limit = max(limit/2, 1)
		}
	}
}

// reader yields the keys of a snapshot.
type reader struct {
	in    *bufio.Reader
	begun bool
	count int
	last  []byte
}

func newReader(r io.Reader) *reader { return &reader{in: bufio.NewReaderSize(r, 64<<10)} }

// next returns the next key and its value, or io.EOF after the last one, when all has been seen to be there.
func (r *reader) next() (key, value []byte, err error) {
	if !r.begun {
		head := make([]byte, len(magic))
		if _, err := io.ReadFull(r.in, head); err != nil {
			return nil, nil, cut(err)
		}
		if string(head) != magic {
			return nil, nil, fmt.Errorf("%w: it is not a snapshot of etcd keys of version 1", state.ErrCorrupt)
		}
		r.begun = true
	}
	line, err := r.in.ReadSlice('\n')
	if err != nil {
		return nil, nil, cut(err)
	}
	var k, v, end int
	if n, err := fmt.Sscanf(string(line), "end %d\n", &end); err == nil && n == 1 {
		return nil, nil, r.finish(end)
	}
	if n, err := fmt.Sscanf(string(line), "%d %d\n", &k, &v); err != nil || n != 2 || k < 0 || v < 0 || k > maxLength || v > maxLength {
		return nil, nil, fmt.Errorf("%w: %.40q in the snapshot is no length of a key and a value", state.ErrCorrupt, line)
	}
	var both bytes.Buffer // grows with what is there, whatever the line says
	if _, err := io.CopyN(&both, r.in, int64(k+v+1)); err != nil {
		return nil, nil, cut(err)
	}
	b := both.Bytes()
	if b[k+v] != '\n' || r.count > 0 && bytes.Compare(r.last, b[:k]) >= 0 {
		return nil, nil, fmt.Errorf("%w: key %.80q in the snapshot is in the wrong place", state.ErrCorrupt, b[:k])
	}
	r.count++
	r.last = b[:k:k]
	return b[:k:k], b[k : k+v : k+v], nil
}

func (r *reader) finish(end int) error {
	if end != r.count {
		return fmt.Errorf("%w: the snapshot has %d keys and says %d", state.ErrCorrupt, r.count, end)
	}
	_, err := r.in.ReadByte()
	if err == nil {
		err = fmt.Errorf("%w: something comes after the snapshot's end", state.ErrCorrupt)
	}
	return err // io.EOF, if all is well
}

// cut says what an end in the middle means.
func cut(err error) error {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("%w: the snapshot ends in the middle", state.ErrCorrupt)
	}
	return fmt.Errorf("cannot read the snapshot: %w", err)
}

// read visits the keys of a snapshot.
func read(r io.Reader, visit func(key, value []byte) error) error {
	in := newReader(r)
	for {
		key, value, err := in.next()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := visit(key, value); err != nil {
			return err
		}
	}
}

// receive writes a snapshot to the file, if it is whole, and rewinds it.
func receive(f *os.File, r io.Reader) error {
	if err := read(io.TeeReader(r, f), func([]byte, []byte) error { return nil }); err != nil {
		return err
	}
	return spool.Rewind(f)
}
