package store

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"github.com/klauspost/compress/zstd"

	"orrery/state"
	"orrery/state/delta"
)

// cached is how many decoded segments an operation keeps.
const cached = 6

// codec is the memory that an operation works with; it is handed on to the next one.
type codec struct {
	enc    *zstd.Encoder
	dec    *zstd.Decoder
	delta  delta.Encoder
	packed []byte // as stored
	plain  []byte // a delta, decompressed
	coded  []byte // a delta, made
	tight  []byte // compressed
	tight2 []byte
	slots  [cached]slot
	clock  int
}

type slot struct {
	name     digest
	position int64
	verified bool // compared with its hash
	used     int
	data     []byte
}

func (s *Store) codec() (*codec, error) {
	if c, ok := s.codecs.Get().(*codec); ok {
		return c, nil
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
		zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(maxSegment), zstd.WithEncoderCRC(true))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxMemory(2*maxSegment), zstd.WithDecodeAllCapLimit(true))
	return &codec{enc: enc, dec: dec}, err
}

// catalog is one operation's view of the objects in the store. It is not safe for concurrent use.
type catalog struct {
	store *Store
	lock  lock
	packs []*pack
	open  map[string]file
	fresh *packWriter // what this operation adds, nil if nothing
	// blamed collects what is wrong with packs, by name; nil: nobody asks.
	blamed    map[string]error
	undecoded map[digest]error // segments of which no copy could be decoded
	codec     *codec
}

// catalog opens a view that holds the store against Prune until it is closed.
func (s *Store) catalog(ctx context.Context) (*catalog, error) {
	l, err := s.lock(ctx, false)
	if err != nil {
		return nil, err
	}
	return s.locked(l)
}

// locked opens a view under a lock, which it takes over.
func (s *Store) locked(l lock) (c *catalog, err error) {
	c = &catalog{store: s, lock: l, open: map[string]file{}, undecoded: map[digest]error{}}
	if c.packs, err = s.indexes(); err == nil {
		c.codec, err = s.codec()
	}
	if err != nil {
		l.release()
		return nil, err
	}
	return c, nil
}

func (c *catalog) close() {
	for _, f := range c.open {
		_ = f.Close() // only read from
	}
	for i := range c.codec.slots {
		c.codec.slots[i].name = digest{}
	}
	c.store.codecs.Put(c.codec)
	c.lock.release()
}

// find returns the copy of an object that takes the fewest deltas. Always taking that one keeps chains finite
// where two processes stored the same segments as deltas of each other.
func (c *catalog) find(name digest) *entry {
	e, _ := c.locate(name)
	return e
}

func (c *catalog) locate(name digest) (best *entry, in *pack) {
	copies := 0
	for _, p := range c.packs {
		e := p.find(name)
		if e == nil {
			continue
		}
		if copies++; best == nil || e.depth < best.depth {
			best, in = e, p
		}
	}
	if copies < 2 || c.store.based(c, best) {
		return best, in
	}
	for _, p := range c.packs { // a pack that was lost had what that one is made from
		if e := p.find(name); e != nil && c.store.based(c, e) {
			return e, p
		}
	}
	return best, in
}

// has says whether an object is in the store or about to be.
func (c *catalog) has(name digest) *entry {
	if c.fresh != nil {
		if e := c.fresh.find(name); e != nil {
			return e
		}
	}
	return c.find(name)
}

// load reads an object as it is stored, into the codec's buffer.
func (c *catalog) load(name digest) (*entry, []byte, error) {
	if c.fresh != nil {
		if e := c.fresh.find(name); e != nil {
			b, err := c.loadFresh(e)
			return e, b, err
		}
	}
	e, p := c.locate(name)
	if e == nil {
		return nil, nil, c.absent(name)
	}
	b, err := c.loadFrom(p, e)
	if errors.Is(err, fs.ErrNotExist) { // compacted since: it is elsewhere
		if c.packs, err = c.store.indexes(); err != nil {
			return nil, nil, err
		}
		if e, p = c.locate(name); e == nil {
			return nil, nil, c.absent(name)
		}
		b, err = c.loadFrom(p, e)
	}
	return e, b, err
}

// loadFrom reads an object of a pack.
func (c *catalog) loadFrom(p *pack, e *entry) ([]byte, error) {
	f, err := c.handle(p)
	if err != nil {
		return nil, err
	}
	c.codec.packed = grow(c.codec.packed, int(e.stored))
	if _, err := f.ReadAt(c.codec.packed, e.offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, c.blame(p, fmt.Errorf("cannot read object %s: %w", e, err))
	} else if err != nil {
		return nil, c.blame(p, fmt.Errorf("%w: object %s is cut off", state.ErrCorrupt, e))
	}
	return c.codec.packed, nil
}

// blame notes that a pack is damaged, for whoever looks for that.
func (c *catalog) blame(p *pack, err error) error {
	if p == nil { // being written
		return err
	}
	if c.blamed != nil && c.blamed[p.name] == nil {
		c.blamed[p.name] = err
	}
	return &packError{p.name, fmt.Errorf("pack %s: %w", p.name, err)}
}

func (c *catalog) loadFresh(e *entry) ([]byte, error) {
	if err := c.fresh.flush(); err != nil {
		return nil, err
	}
	c.codec.packed = grow(c.codec.packed, int(e.stored))
	_, err := c.fresh.file.ReadAt(c.codec.packed, e.offset)
	return c.codec.packed, err
}

// absent is why an object that is needed is not there.
func (c *catalog) absent(name digest) error {
	for _, p := range c.packs {
		if p.broken != nil {
			return fmt.Errorf("object %s is missing (%w)", name, &packError{p.name, p.broken})
		}
	}
	return fmt.Errorf("%w: object %s is missing", state.ErrCorrupt, name)
}

func (c *catalog) handle(p *pack) (file, error) {
	if f := c.open[p.name]; f != nil {
		return f, nil
	}
	if len(c.open) >= 64 {
		for name, f := range c.open {
			_ = f.Close() // only read from
			delete(c.open, name)
			break
		}
	}
	f, err := c.store.files.Open(filepath.Join(c.store.packs(), p.name))
	if err == nil {
		c.open[p.name] = f
	}
	return f, err
}

// segment returns a segment's bytes, verified. They are valid until the next call.
func (c *catalog) segment(name digest) ([]byte, error) {
	slot, err := c.decode(name, 0)
	if err != nil {
		return nil, err
	}
	if !slot.verified && sum(slot.data, slot.position) != name {
		slot.name = digest{}
		return nil, fmt.Errorf("object %s: %w: content differs from its hash", objectName(kindRaw, name), state.ErrCorrupt)
	}
	slot.verified = true
	return slot.data, nil
}

// decode returns a segment without comparing it with its hash. That is enough for a base: its frames carry
// checksums against decay, and what is made from it is compared in turn.
func (c *catalog) decode(name digest, level int) (*slot, error) {
	if slot := c.codec.cached(name); slot != nil {
		return slot, nil
	}
	e := c.has(name)
	if e == nil {
		return nil, c.absent(name)
	}
	if e.kind == kindManifest || level > hardDepth {
		return nil, fmt.Errorf("%w: object %s is no segment", state.ErrCorrupt, e)
	}
	if err := c.undecoded[name]; err != nil {
		return nil, err
	}
	slot, err := c.decodeCopy(name, e, level)
	if err == nil || !damage(err) {
		return slot, err
	}
	for _, p := range c.packs { // another copy may be whole
		if other := p.find(name); other != nil && other != e {
			if slot, failed := c.decodeFrom(p, other, level); failed == nil {
				return slot, nil
			}
		}
	}
	c.undecoded[name] = err // chains of deltas meet: it is looked for once
	return nil, err
}

// decodeCopy decodes the copy of a segment that is to be used.
func (c *catalog) decodeCopy(name digest, e *entry, level int) (*slot, error) {
	base, err := c.bases(e.bases, level)
	if err != nil {
		return nil, err
	}
	e, stored, err := c.load(name)
	if err != nil {
		return nil, err
	}
	_, p := c.locate(name)
	return c.decodeStored(p, e, stored, base)
}

// decodeFrom decodes the copy of a segment that a certain pack has.
func (c *catalog) decodeFrom(p *pack, e *entry, level int) (*slot, error) {
	base, err := c.bases(e.bases, level)
	if err != nil {
		return nil, err
	}
	stored, err := c.loadFrom(p, e)
	if err != nil {
		return nil, err
	}
	return c.decodeStored(p, e, stored, base)
}

func (c *catalog) decodeStored(p *pack, e *entry, stored, base []byte) (*slot, error) {
	slot := c.codec.slot()
	var err error
	if slot.data, err = c.codec.unpack(slot.data, e, stored, base); err != nil {
		return nil, c.blame(p, fmt.Errorf("object %s: %w", e, err))
	}
	slot.name, slot.position, slot.verified = e.name, e.position, false
	return slot, nil
}

// bases returns what a delta refers to: its base segments one after another.
func (c *catalog) bases(names []digest, level int) ([]byte, error) {
	if len(names) == 1 {
		slot, err := c.decode(names[0], level+1)
		if err != nil {
			return nil, err
		}
		return slot.data, nil
	}
	var all []byte
	for _, name := range names {
		slot, err := c.decode(name, level+1)
		if err != nil {
			return nil, err
		}
		all = append(all, slot.data...)
	}
	return all, nil
}

// unpack decodes a stored segment into dst's memory.
func (c *codec) unpack(dst []byte, e *entry, stored, base []byte) (data []byte, err error) {
	dst = grow(dst, int(e.size))[:0]
	switch e.kind {
	case kindRaw:
		data = append(dst, stored...)
		if sum(data, e.position) != e.name { // there is no frame with a checksum
			err = errors.New("content differs from its hash")
		}
	case kindZstd:
		data, err = c.dec.DecodeAll(stored, dst)
	case kindDelta:
		c.plain = grow(c.plain, maxStored)[:0]
		if c.plain, err = c.dec.DecodeAll(stored, c.plain); err == nil {
			data, err = delta.Apply(dst, base, c.plain, int(e.size))
		}
	default:
		err = errors.New("unknown kind")
	}
	if err != nil {
		return dst, fmt.Errorf("%w: %w", state.ErrCorrupt, err)
	}
	if int64(len(data)) != e.size {
		return dst, fmt.Errorf("%w: its length differs", state.ErrCorrupt)
	}
	return data, nil
}

// cached returns a segment that was decoded lately.
func (c *codec) cached(name digest) *slot {
	for i := range c.slots {
		if s := &c.slots[i]; s.name == name && len(s.data) > 0 {
			c.clock++
			s.used = c.clock
			return s
		}
	}
	return nil
}

// slot is the memory of the segment that was not used for the longest time.
func (c *codec) slot() *slot {
	oldest := &c.slots[0]
	for i := range c.slots {
		if c.slots[i].used < oldest.used {
			oldest = &c.slots[i]
		}
	}
	c.clock++
	oldest.name, oldest.used = digest{}, c.clock
	return oldest
}

// manifest reads a snapshot's manifest. ErrNotFound if there is none.
func (c *catalog) manifest(id state.SnapshotID) (*manifest, error) {
	hash, err := parseID(id)
	if err != nil {
		return nil, err
	}
	name := manifestName(hash)
	if c.has(name) == nil {
		if err := c.absent(name); c.broken() {
			return nil, err
		}
		return nil, fmt.Errorf("snapshot %s: %w", id, state.ErrNotFound)
	}
	return c.manifestNamed(name)
}

func (c *catalog) manifestNamed(name digest) (*manifest, error) {
	e, b, err := c.load(name)
	if err != nil && !damage(err) {
		return nil, err
	}
	_, p := c.locate(name)
	m, err := c.manifestFrom(p, e, b, err)
	if err == nil {
		return m, nil
	}
	for _, p := range c.packs { // another copy may be whole
		if other := p.find(name); other != nil && other != e {
			b, failed := c.loadFrom(p, other)
			if m, failed = c.manifestFrom(p, other, b, failed); failed == nil {
				return m, nil
			}
		}
	}
	return nil, err
}

// manifestFrom decodes the copy of a manifest in a pack, if it could be read.
func (c *catalog) manifestFrom(p *pack, e *entry, b []byte, err error) (*manifest, error) {
	if err != nil {
		return nil, err
	}
	m, err := decodeManifest(b)
	if err != nil {
		return nil, c.blame(p, fmt.Errorf("object %s: %w", e, err))
	}
	if e.kind != kindManifest || manifestName(m.ID) != e.name {
		return nil, c.blame(p, fmt.Errorf("object %s: %w: it is the manifest of another snapshot", e, state.ErrCorrupt))
	}
	return m, nil
}

func (c *catalog) broken() bool {
	for _, p := range c.packs {
		if p.broken != nil {
			return true
		}
	}
	return false
}

func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}
