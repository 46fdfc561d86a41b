package store

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"lukechampine.com/blake3"

	"orrery/internal/progress"
	"orrery/state"
)

const (
	exchangeMagic = "ORRXCHG\x01"
	frameObject   = 1
	frameEnd      = 0
	maxEntry      = 256 // bytes of an encoded entry
)

// Objects lists what a snapshot consists of: its segments, a delta after its bases, and its manifest at the end.
func (s *Store) Objects(ctx context.Context, id state.SnapshotID) ([]string, error) {
	c, err := s.catalog(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	m, err := c.manifest(id)
	if err != nil {
		return nil, err
	}
	var names []string
	err = c.walk(m, func(e *entry) { names = append(names, e.String()) })
	return append(names, objectName(kindManifest, manifestName(m.ID))), err
}

// walk visits the segments of a snapshot and their bases once each, bases first. ErrCorrupt if one is missing.
func (c *catalog) walk(m *manifest, visit func(*entry)) error {
	seen := map[digest]bool{}
	var segment func(name digest) error
	segment = func(name digest) error {
		if seen[name] {
			return nil
		}
		seen[name] = true
		e := c.has(name)
		if e == nil {
			return c.absent(name)
		}
		for _, base := range e.bases {
			if err := segment(base); err != nil {
				return err
			}
		}
		visit(e)
		return nil
	}
	for _, name := range m.Segments {
		if err := segment(name); err != nil {
			return fmt.Errorf("snapshot %s: %w", m.ID, err)
		}
	}
	return nil
}

func parseObject(name string) (digest, error) {
	var d digest
	if len(name) == 2+2*len(d) && (name[:2] == "s-" || name[:2] == "m-") {
		if _, err := hex.Decode(d[:], []byte(name[2:])); err == nil && d.String() == name[2:] {
			return d, nil
		}
	}
	return d, fmt.Errorf("object %.100q: %w: not the name of an object", name, state.ErrBadProperty)
}

// Missing returns those of names that the store does not have, in the order given. A segment of which something that it
// is made from was lost is missing too.
func (s *Store) Missing(ctx context.Context, names []string) ([]string, error) {
	c, err := s.catalog(ctx)
	if err != nil {
		return nil, err
	}
	defer c.close()
	var missing []string
	for _, name := range names {
		d, err := parseObject(name)
		if err != nil {
			return nil, err
		}
		if e := c.find(d); e == nil || e.kind != kindManifest && !s.readable(c, d) {
			missing = append(missing, name)
		}
	}
	return missing, nil
}

// Export writes objects as a stream that Import reads, in the order given.
func (s *Store) Export(ctx context.Context, names []string, w io.Writer) error {
	c, err := s.catalog(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	b := bufio.NewWriterSize(w, 64<<10)
	_, _ = b.WriteString(exchangeMagic) // Flush reports what went wrong
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		d, err := parseObject(name)
		if err != nil {
			return err
		}
		if c.find(d) == nil {
			return fmt.Errorf("object %s: %w", name, state.ErrNotFound)
		}
		e, content, err := c.load(d)
		if err != nil {
			return err
		}
		header := *e
		header.offset = 0
		encoded := header.append(nil)
		_ = b.WriteByte(frameObject)
		_, _ = b.Write(binary.AppendUvarint(nil, uint64(len(encoded))))
		_, _ = b.Write(encoded)
		if _, err := b.Write(content); err != nil {
			return fmt.Errorf("cannot export object %s: %w", name, err)
		}
	}
	_ = b.WriteByte(frameEnd)
	_, _ = b.Write(binary.AppendUvarint(nil, uint64(len(names))))
	if err := b.Flush(); err != nil {
		return fmt.Errorf("cannot export %d objects: %w", len(names), err)
	}
	return nil
}

// Import reads such a stream, verifies each object and keeps it. Where the stream breaks off or turns out to be
// bad, what came before and was verified is kept, so that Missing says what is left to send.
func (s *Store) Import(ctx context.Context, r io.Reader) error {
	c, err := s.catalog(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	c.fresh = s.newPack(importPrefix)
	i := importer{catalog: c, in: bufio.NewReaderSize(r, 64<<10)}
	if err := i.run(ctx); err != nil {
		err = fmt.Errorf("cannot import all objects: %w", err)
		if i.writing {
			return errors.Join(err, c.fresh.abort())
		}
		_, failed := c.fresh.commit()
		return errors.Join(err, failed)
	}
	if _, err := c.fresh.commit(); err != nil {
		return fmt.Errorf("cannot import objects: %w", err)
	}
	return nil
}

type importer struct {
	*catalog
	in      *bufio.Reader
	payload bytes.Buffer
	writing bool // an error comes from the store's own folder
	// source is where objects are decoded, if not here: the store that they come from, where that is nearer.
	source *catalog
}

// near is where objects are decoded.
func (i *importer) near() *catalog {
	if i.source != nil {
		return i.source
	}
	return i.catalog
}

func (i *importer) run(ctx context.Context) error {
	magic := make([]byte, len(exchangeMagic))
	if _, err := io.ReadFull(i.in, magic); err != nil {
		return cutOff(err)
	}
	if string(magic) != exchangeMagic {
		return fmt.Errorf("%w: not an export of version 1", state.ErrCorrupt)
	}
	for count := uint64(0); ; count++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		kind, err := i.in.ReadByte()
		if err != nil {
			return cutOff(err)
		}
		switch kind {
		case frameEnd:
			n, err := binary.ReadUvarint(i.in)
			if err != nil {
				return cutOff(err)
			}
			if n != count {
				return fmt.Errorf("%w: %d objects instead of %d", state.ErrCorrupt, count, n)
			}
			return nil
		case frameObject:
			if err := i.object(ctx); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%w: unknown frame", state.ErrCorrupt)
		}
	}
}

func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: the stream is cut off", state.ErrCorrupt)
	}
	return err
}

// object reads one object, verifies it, and keeps it if it is new.
func (i *importer) object(ctx context.Context) error {
	length, err := binary.ReadUvarint(i.in)
	if err != nil {
		return cutOff(err)
	}
	if length > maxEntry {
		return fmt.Errorf("%w: object description too long", state.ErrCorrupt)
	}
	encoded := make([]byte, length)
	if _, err := io.ReadFull(i.in, encoded); err != nil {
		return cutOff(err)
	}
	d := decoder{b: encoded}
	e, err := d.entry()
	if err != nil {
		return err
	}
	if len(d.b) > 0 || e.offset != 0 {
		return fmt.Errorf("%w: malformed object description", state.ErrCorrupt)
	}
	if i.has(e.name) != nil {
		_, err := io.CopyN(io.Discard, i.in, e.stored)
		return cutOff(err)
	}
	i.payload.Reset() // grows with what arrives, not with what is announced
	if _, err := io.CopyN(&i.payload, i.in, e.stored); err != nil {
		return cutOff(err)
	}
	if e.kind == kindManifest {
		return i.manifest(ctx, e)
	}
	return i.segment(e)
}

// segment keeps a segment whose bases are here and whose content has its hash.
func (i *importer) segment(e entry) error {
	depth, effort := 0, 0
	for _, name := range e.bases {
		base := i.has(name)
		if base == nil || base.kind == kindManifest {
			return fmt.Errorf("%w: object %s comes before its base", state.ErrCorrupt, &e)
		}
		depth, effort = max(depth, int(base.depth)+1), effort+int(base.effort)+1
	}
	near := i.near()
	base, err := near.bases(e.bases, 0)
	if err != nil {
		return err
	}
	slot := near.codec.slot()
	content := i.payload.Bytes()
	if slot.data, err = near.codec.unpack(slot.data, &e, content, base); err != nil {
		return fmt.Errorf("object %s: %w", &e, err)
	}
	if sum(slot.data, e.position) != e.name {
		return fmt.Errorf("object %s: %w: content differs from its hash", &e, state.ErrCorrupt)
	}
	slot.name, slot.position, slot.verified = e.name, e.position, true
	if depth > maxDepth || effort > maxEffort { // a chain that is too long here is cut
		e.kind, e.bases, depth, effort = kindZstd, nil, 0, 0
		content = i.codec.enc.EncodeAll(slot.data, nil)
	}
	e.depth, e.effort = uint8(depth), uint8(effort)
	return i.keep(e, content)
}

func (i *importer) keep(e entry, content []byte) error {
	err := i.fresh.add(e, content)
	i.writing = err != nil
	return err
}

// manifest keeps the manifest of a snapshot that is wholly here.
func (i *importer) manifest(ctx context.Context, e entry) error {
	m, err := decodeManifest(i.payload.Bytes())
	if err != nil {
		return fmt.Errorf("object %s: %w", &e, err)
	}
	if manifestName(m.ID) != e.name {
		return fmt.Errorf("object %s: %w: it is the manifest of another snapshot", &e, state.ErrCorrupt)
	}
	if err := i.whole(m); err != nil {
		return err
	}
	if m.Layout == layoutContent && len(m.Segments) > 1 {
		if err := i.near().prove(ctx, m, nil); err != nil {
			return err
		}
	}
	e.depth, e.effort = 0, 0
	return i.keep(e, i.payload.Bytes())
}

// whole checks that a snapshot's segments are here and fit.
func (c *catalog) whole(m *manifest) error {
	if err := c.walk(m, func(*entry) {}); err != nil {
		return err
	}
	for i, name := range m.Segments {
		start, end := m.span(i)
		if e := c.has(name); e.kind == kindManifest || e.size != end-start || e.position != m.position(i) {
			return fmt.Errorf("snapshot %s: %w: a segment is not of its place", m.ID, state.ErrCorrupt)
		}
	}
	return nil
}

// prove reads a snapshot whole and compares it with its id.
func (c *catalog) prove(ctx context.Context, m *manifest, task *progress.Task) error {
	hash := blake3.New(32, nil)
	for _, name := range m.Segments {
		if err := ctx.Err(); err != nil {
			return err
		}
		b, err := c.segment(name)
		if err != nil {
			return fmt.Errorf("snapshot %s: %w", m.ID, err)
		}
		_, _ = hash.Write(b) // never fails
		task.Add(int64(len(b)))
	}
	if digest(hash.Sum(nil)) != m.ID {
		return fmt.Errorf("snapshot %s: %w: content differs from its id", m.ID, state.ErrCorrupt)
	}
	return nil
}

// Adopt adds a generation for a snapshot whose objects were imported; ErrCorrupt if any is missing.
func (s *Store) Adopt(ctx context.Context, r state.Ref, reason string, id state.SnapshotID) (state.Generation, error) {
	g, err := s.adopt(ctx, r, reason, id)
	if err != nil {
		return state.Generation{}, fmt.Errorf("cannot adopt a snapshot for %s: %w", r, err)
	}
	return g, nil
}

func (s *Store) adopt(ctx context.Context, r state.Ref, reason string, id state.SnapshotID) (g state.Generation, err error) {
	if err := checkRef(r); err != nil {
		return g, err
	}
	held, err := s.lockHistory(ctx, r)
	if err != nil {
		return g, err
	}
	defer held.release()
	c, err := s.catalog(ctx)
	if err != nil {
		return g, err
	}
	defer c.close()
	m, err := c.manifest(id)
	if errors.Is(err, state.ErrNotFound) {
		return g, fmt.Errorf("%w: %w", state.ErrCorrupt, err)
	}
	if err != nil {
		return g, err
	}
	if err := c.whole(m); err != nil {
		return g, err
	}
	if err := s.files.SyncDir(s.packs()); err != nil { // an import that failed at it may have left them visible
		return g, err
	}
	h, err := s.history(r)
	if err != nil {
		return g, err
	}
	if h.newest() == id && !h.last().Unfinished {
		g = h.Generations[len(h.Generations)-1]
		return g, s.settle(g)
	}
	g = state.Generation{
		Container: r.Container, Component: r.Component, Snapshot: id, Reason: reason, Size: m.Size, Stored: m.Stored,
	}
	all, err := s.Generations(ctx, state.Ref{})
	if err != nil {
		return g, err
	}
	for _, other := range all {
		if other.Snapshot == id {
			g.Stored = 0
		}
	}
	return s.append(h, g)
}
