package store

import (
	"encoding/binary"
	"fmt"

	"orrery/state"
)

// The limits of what is decoded. They bound memory whatever the bytes say.
const (
	maxSegment  = 2 << 20
	maxStored   = maxSegment + 64<<10
	maxManifest = 256 << 20
	maxDepth    = 16  // deltas between a segment and whole ones, when it is written
	maxEffort   = 128 // segments decoded to read one
	maxBases    = 4
	hardDepth   = 255
)

// kind is what an object is and how it is encoded. The numbers are part of the format.
type kind uint8

const (
	kindRaw      kind = 1 // a segment as it is
	kindZstd     kind = 2 // a segment as a zstd frame
	kindDelta    kind = 3 // a segment as a zstd frame of a delta
	kindManifest kind = 4
)

// entry describes an object of a pack.
type entry struct {
	name     digest
	kind     kind
	depth    uint8
	effort   uint8
	position int64
	offset   int64 // in the pack
	stored   int64 // bytes in the pack
	size     int64 // bytes when decoded
	bases    []digest
}

func (e *entry) String() string { return objectName(e.kind, e.name) }

// objectName is what an object is called between stores.
func objectName(k kind, name digest) string {
	if k == kindManifest {
		return "m-" + name.String()
	}
	return "s-" + name.String()
}

func (e *entry) append(b []byte) []byte {
	b = append(b, byte(e.kind), e.depth, e.effort, byte(len(e.bases)))
	b = append(b, e.name[:]...)
	b = binary.AppendVarint(b, e.position)
	b = binary.AppendUvarint(b, uint64(e.offset))
	b = binary.AppendUvarint(b, uint64(e.stored))
	b = binary.AppendUvarint(b, uint64(e.size))
	for _, base := range e.bases {
		b = append(b, base[:]...)
	}
	return b
}

// decoder takes values from the front of a byte string; after the first bad one it yields zeroes.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.b) {
		d.bad = true
		return nil
	}
	front := d.b[:n]
	d.b = d.b[n:]
	return front
}

func (d *decoder) uvarint(limit int64) int64 {
	v, n := binary.Uvarint(d.b)
	if d.bad || n <= 0 || v > uint64(limit) {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return int64(v)
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.b)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) digest() (v digest) {
	copy(v[:], d.take(len(v)))
	return v
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// entry decodes and checks one entry.
func (d *decoder) entry() (entry, error) {
	e := entry{kind: kind(d.byte()), depth: d.byte(), effort: d.byte()}
	bases := int(d.byte())
	e.name, e.position = d.digest(), d.varint()
	e.offset, e.stored, e.size = d.uvarint(1<<56), d.uvarint(maxManifest), d.uvarint(maxManifest)
	if bases > maxBases {
		d.bad = true
	}
	for range bases {
		if d.bad {
			break
		}
		e.bases = append(e.bases, d.digest())
	}
	if d.bad || !e.sound() {
		return entry{}, fmt.Errorf("%w: malformed object description", state.ErrCorrupt)
	}
	return e, nil
}

func (e *entry) sound() bool {
	switch e.kind {
	case kindManifest:
		return len(e.bases) == 0 && e.stored == e.size && e.position == free
	case kindRaw, kindZstd, kindDelta:
		if (e.kind == kindRaw && e.stored != e.size) || (e.kind == kindDelta) != (len(e.bases) > 0) {
			return false
		}
		aligned := e.position == free || (e.position >= 0 && e.position%imageSegment == 0 && e.size <= imageSegment)
		return aligned && e.size <= maxSegment && e.stored <= maxStored && e.size > 0
	}
	return false
}
