package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"

	"golang.org/x/sync/errgroup"
	"lukechampine.com/blake3"

	"orrery/fabric"
	"orrery/fabric/chain"
)

const (
	partSize    = 1 << 20
	partsAtOnce = 4
	// manifestMark begins the value of a key that is a large object.
	manifestMark = "\x00orrery large object 1\n"
	// partMark is behind the key in the keys of parts.
	partMark = "\x00\xffpart\x00"
)

// ErrNotLarge says that a key is there, and is no large object.
var ErrNotLarge = errors.New("not a large object")

// manifest is what the key of a large object has.
type manifest struct {
	ID    string `json:"id"` // of the parts' keys
	Size  int64  `json:"size"`
	Parts int    `json:"parts"`
	Hash  string `json:"blake3"`
}

// IsPart says whether a key is a part of a large object. Parts stand behind their object's key, so that scans see them.
func IsPart(key []byte) bool { return bytes.Contains(key, []byte(partMark)) }

func partKey(key []byte, id string, index int) []byte {
	k := append(append(append([]byte{}, key...), partMark...), id...)
	return binary.BigEndian.AppendUint32(k, uint32(index)) //nolint:gosec // counts from 0
}

// parts is the range of the keys of all parts of an object.
func parts(key []byte) chain.Range {
	start := append(append([]byte{}, key...), partMark...)
	end := append([]byte{}, start...)
	end[len(end)-1]++
	return chain.Range{Start: start, End: end}
}

// PutLarge writes what r yields, of any size, in parts of 1 MiB, and commits it by writing the key last: readers have the object before or this one. What it
// replaces is removed afterwards. It returns how much it wrote. Whoever else wrote the key meanwhile is a fabric.ErrConflict.
func (b *Bucket) PutLarge(ctx context.Context, key []byte, r io.Reader) (int64, error) {
	if len(key)+len(partMark)+40 > chain.MaxKey {
		return 0, b.failed("write object", key, chain.ErrTooLarge)
	}
	old, err := b.Get(ctx, key)
	if err != nil && !errors.Is(err, fabric.ErrNotFound) {
		return 0, err
	}
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return 0, err
	}
	m := manifest{ID: hex.EncodeToString(id[:])}
	err = b.putParts(ctx, key, r, &m)
	if err == nil {
		var value []byte
		if value, err = json.Marshal(m); err == nil {
			_, err = b.CompareAndSwap(ctx, key, old.Version, append([]byte(manifestMark), value...))
		}
	}
	if err != nil {
		if !errors.Is(err, chain.ErrUnknown) {
			err = errors.Join(err, b.dropParts(context.WithoutCancel(ctx), key, m))
		}
		return 0, b.failed("write object", key, err)
	}
	if before, err := manifestOf(old.Value); err == nil {
		return m.Size, b.dropParts(ctx, key, before)
	}
	return m.Size, nil
}

// putParts writes the parts, several at a time.
func (b *Bucket) putParts(ctx context.Context, key []byte, r io.Reader, m *manifest) error {
	sum := blake3.New(32, nil)
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(partsAtOnce)
	for ctx.Err() == nil {
		part := make([]byte, partSize)
		n, err := io.ReadFull(r, part)
		if n > 0 {
			_, _ = sum.Write(part[:n])
			index := m.Parts
			m.Parts++
			m.Size += int64(n)
			work.Go(func() error {
				_, err := b.Put(ctx, partKey(key, m.ID, index), part[:n])
				return err
			})
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return errors.Join(fmt.Errorf("cannot read what to write: %w", err), work.Wait())
		}
	}
	m.Hash = hex.EncodeToString(sum.Sum(nil))
	return work.Wait()
}

func (b *Bucket) dropParts(ctx context.Context, key []byte, m manifest) error {
	writes := make([]chain.Write, m.Parts)
	for i := range writes {
		writes[i] = chain.Write{Op: chain.OpDelete, Key: partKey(key, m.ID, i)}
	}
	return b.Batch(ctx, writes)
}

func manifestOf(value []byte) (manifest, error) {
	var m manifest
	rest, ok := bytes.CutPrefix(value, []byte(manifestMark))
	if !ok {
		return m, ErrNotLarge
	}
	if err := json.Unmarshal(rest, &m); err != nil {
		return m, fmt.Errorf("manifest: %w: %w", chain.ErrCorrupt, err)
	}
	return m, nil
}

// OpenLarge returns a reader of a large object, and its size. Reading ends with fabric.ErrConflict if the object is replaced meanwhile, and with
// chain.ErrCorrupt if it is not what was written.
func (b *Bucket) OpenLarge(ctx context.Context, key []byte) (io.Reader, int64, error) {
	v, err := b.Get(ctx, key)
	if err != nil {
		return nil, 0, err
	}
	m, err := manifestOf(v.Value)
	if err != nil {
		return nil, 0, b.failed("read object", key, err)
	}
	return &largeReader{ctx: ctx, bucket: b, key: key, manifest: m, sum: blake3.New(32, nil)}, m.Size, nil
}

// largeReader reads an object part by part.
type largeReader struct {
	ctx      context.Context //nolint:containedctx // of the reads, which have no argument for it
	bucket   *Bucket
	key      []byte
	manifest manifest
	sum      hash.Hash
	next     int
	rest     []byte
}

// Read reads.
func (r *largeReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.next == r.manifest.Parts {
			if hex.EncodeToString(r.sum.Sum(nil)) != r.manifest.Hash {
				return 0, r.bucket.failed("read object", r.key, chain.ErrCorrupt)
			}
			return 0, io.EOF
		}
		v, err := r.bucket.Get(r.ctx, partKey(r.key, r.manifest.ID, r.next))
		if errors.Is(err, fabric.ErrNotFound) {
			err = r.bucket.failed("read object", r.key, fmt.Errorf("%w: a part is gone", fabric.ErrConflict))
		}
		if err != nil {
			return 0, err
		}
		_, _ = r.sum.Write(v.Value)
		r.rest = v.Value
		r.next++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// DeleteLarge removes a large object, and whatever parts an interrupted PutLarge of the same key left.
func (b *Bucket) DeleteLarge(ctx context.Context, key []byte) error {
	if err := b.Delete(ctx, key); err != nil {
		return err
	}
	var writes []chain.Write
	for item, err := range b.Scan(ctx, parts(key)) {
		if err != nil {
			return err
		}
		writes = append(writes, chain.Write{Op: chain.OpDelete, Key: item.Key})
	}
	return b.Batch(ctx, writes)
}
