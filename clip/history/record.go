package history

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"orrery/clip"
)

// The kinds of records. The numbers are on disk.
const (
	recordAdd    = 1
	recordUse    = 2
	recordMark   = 3
	recordDelete = 4
	recordEntry  = 5
	recordHeard  = 6
)

// digest names an item's contents: two items with the same one are the same.
type digest [16]byte

// added is the record of a new item.
type added struct {
	id      clip.ID
	digest  digest
	created int64 // milliseconds since 1970
	used    int64
	count   uint64
	kind    clip.Kind
	preview string
	app     string
	parts   []part
}

// part is one content of an added item: its bytes, or the name of the file that has them.
type part struct {
	kind string
	size uint64
	data []byte // nil where file is not ""
	file string
}

// used is the record of an item that was copied again.
type used struct {
	id clip.ID
	at int64
}

// marked is the record of what was said of an item, all of it.
type marked struct {
	id   clip.ID
	mark clip.Mark
}

// deleted is the record of items that are gone.
type deleted struct{ ids []clip.ID }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func (r *added) encode() []byte {
	b := append(make([]byte, 0, 256), recordAdd)
	b = binary.AppendUvarint(b, uint64(r.id))
	b = append(b, r.digest[:]...)
	b = binary.AppendVarint(b, r.created)
	b = binary.AppendVarint(b, r.used)
	b = binary.AppendUvarint(b, r.count)
	b = append(b, byte(r.kind))
	b = appendString(appendString(b, r.preview), r.app)
	b = binary.AppendUvarint(b, uint64(len(r.parts)))
	for _, p := range r.parts {
		b = binary.AppendUvarint(appendString(b, p.kind), p.size)
		b = appendString(b, p.file)
		if p.file == "" {
			b = append(b, p.data...)
		}
	}
	return b
}

func (r used) encode() []byte {
	return binary.AppendVarint(binary.AppendUvarint([]byte{recordUse}, uint64(r.id)), r.at)
}

func (r marked) encode() []byte {
	flags := byte(0)
	if r.mark.Pinned {
		flags = 1
	}
	b := append(binary.AppendUvarint([]byte{recordMark}, uint64(r.id)), flags)
	b = binary.AppendVarint(b, milliseconds(r.mark.Expires))
	b = binary.AppendUvarint(appendString(b, r.mark.Note), uint64(len(r.mark.Tags)))
	for _, t := range r.mark.Tags {
		b = appendString(b, t)
	}
	return b
}

func (r deleted) encode() []byte {
	b := binary.AppendUvarint([]byte{recordDelete}, uint64(len(r.ids)))
	for _, id := range r.ids {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return b
}

// milliseconds is 0 for the zero time.
func milliseconds(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMilliseconds(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

var errRecord = errors.New("no such record")

// decode reads the body of a record: *added, used, marked, deleted, entryOf or heardOf. What it returns shares no memory with body but the parts' data.
func decode(body []byte) (any, error) {
	d := &decoder{rest: body}
	var record any
	switch kind := d.byte(); kind {
	case recordAdd:
		record = d.added()
	case recordUse:
		record = used{clip.ID(d.uvarint()), d.varint()}
	case recordMark:
		record = d.marked()
	case recordDelete:
		n := d.count(1)
		ids := make([]clip.ID, 0, n)
		for range n {
			ids = append(ids, clip.ID(d.uvarint()))
		}
		record = deleted{ids}
	case recordEntry:
		record = d.entry()
	case recordHeard:
		record = d.heard()
	default:
		return nil, fmt.Errorf("%w: kind %d", errRecord, kind)
	}
	if d.bad || len(d.rest) > 0 {
		return nil, fmt.Errorf("%w: its %d bytes are not as they should be", errRecord, len(body))
	}
	return record, nil
}

// decoder reads a body; once something was not as it should be, it reads zeros.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) added() *added {
	r := &added{id: clip.ID(d.uvarint())}
	copy(r.digest[:], d.take(uint64(len(r.digest))))
	r.created, r.used, r.count = d.varint(), d.varint(), d.uvarint()
	r.kind = clip.Kind(d.byte())
	r.preview, r.app = d.string(clip.PreviewSize), d.string(maxApp)
	n := d.count(3)
	if n > clip.MaxTypes {
		d.bad = true
		return r
	}
	for range n {
		p := part{kind: d.string(clip.MaxType), size: d.uvarint()}
		if p.file = d.string(maxFile); p.file == "" {
			p.data = d.take(p.size)
		}
		r.parts = append(r.parts, p)
	}
	return r
}

func (d *decoder) marked() marked {
	r := marked{id: clip.ID(d.uvarint())}
	r.mark.Pinned = d.byte() == 1
	r.mark.Expires = fromMilliseconds(d.varint())
	r.mark.Note = d.string(clip.MaxNote)
	for range min(d.count(1), clip.MaxTags) {
		r.mark.Tags = append(r.mark.Tags, d.string(clip.MaxTag))
	}
	return r
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.rest)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) varint() int64 {
	v, n := binary.Varint(d.rest)
	if d.bad || n <= 0 {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// count is a number of things of at least size bytes each.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.rest)/size) {
		d.bad = true
		return 0
	}
	return int(n) //nolint:gosec // checked above
}

func (d *decoder) string(most int) string {
	n := d.uvarint()
	if n > uint64(most) { //nolint:gosec // not negative
		d.bad = true
	}
	return string(d.take(n))
}
