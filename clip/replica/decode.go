package replica

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"orrery/clip"
)

// decoder reads bytes of others; once something was not as it should be, it reads zeros.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n < 0 || n > len(d.rest) {
		d.bad = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

// uvarint is a number up to most.
func (d *decoder) uvarint(most uint64) uint64 {
	v, n := binary.Uvarint(d.rest)
	if d.bad || n <= 0 || v > most {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

// moment is a time in milliseconds since 1970.
func (d *decoder) moment() int64 {
	v, n := binary.Varint(d.rest)
	if d.bad || n <= 0 || v < 0 || v > int64(latest>>counterBits) {
		d.bad = true
		return 0
	}
	d.rest = d.rest[n:]
	return v
}

func (d *decoder) stamp() (s Stamp) {
	s.At = Time(d.uvarint(uint64(latest)))
	copy(s.By[:], d.take(len(s.By)))
	d.bad = d.bad || s.At == 0
	return s
}

func (d *decoder) string(most int) string {
	return string(d.take(int(d.uvarint(uint64(most))))) //nolint:gosec // bounded
}

func (d *decoder) end() error {
	if d.bad || len(d.rest) > 0 {
		return ErrMalformed
	}
	return nil
}

// Decode reads an entry. What it returns shares no memory with b.
func Decode(b []byte) (Entry, error) {
	d := &decoder{rest: b}
	flags := d.byte()
	e := Entry{Kind: clip.Kind(d.byte()), Size: int64(d.uvarint(clip.MaxItem))} //nolint:gosec // bounded
	if flags&hasGone != 0 {
		e.Gone = d.stamp()
	}
	if flags&hasPin != 0 {
		e.Pinned = Flag{flags&pinned != 0, d.stamp()}
	}
	if flags&hasNote != 0 {
		s := d.stamp()
		e.Note = Text{d.string(clip.MaxNote), s}
	}
	if flags&hasExpiry != 0 {
		s := d.stamp()
		e.Expires = Moment{d.moment(), s}
	}
	for range d.uvarint(maxUses) {
		s := d.stamp()
		e.Uses = append(e.Uses, Use{Count: d.uvarint(1 << 32), At: d.moment(), Stamp: s})
	}
	for range d.uvarint(maxTags) {
		s, on := d.stamp(), d.byte() == 1
		e.Tags = append(e.Tags, Tag{d.string(clip.MaxTag), on, s})
	}
	if err := d.end(); err != nil {
		return Entry{}, fmt.Errorf("%w entry", err)
	}
	return e, e.check()
}

// check says whether an entry is as honest machines make them.
func (e *Entry) check() error {
	uses := slices.IsSortedFunc(e.Uses, func(a, b Use) int { return strictly(slices.Compare(a.By[:], b.By[:])) })
	tags := slices.IsSortedFunc(e.Tags, func(a, b Tag) int { return strictly(cmp.Compare(a.Name, b.Name)) })
	empty := slices.ContainsFunc(e.Tags, func(t Tag) bool { return t.Name == "" })
	if !uses || !tags || empty || e.Kind > clip.Other || e.Kind == 0 {
		return fmt.Errorf("%w entry", ErrMalformed)
	}
	return nil
}

// strictly makes equal ones count as out of order.
func strictly(c int) int {
	if c == 0 {
		return 1
	}
	return c
}

// Append encodes it, always in the same order.
func (v Vector) Append(b []byte) []byte {
	devices := make([]Device, 0, len(v))
	for d := range v {
		devices = append(devices, d)
	}
	slices.SortFunc(devices, func(a, b Device) int { return slices.Compare(a[:], b[:]) })
	b = binary.AppendUvarint(b, uint64(len(devices)))
	for _, d := range devices {
		b = appendStamp(b, Stamp{v[d], d})
	}
	return b
}

// DecodeVector reads a vector.
func DecodeVector(b []byte) (Vector, error) {
	d := &decoder{rest: b}
	v := Vector{}
	for range d.uvarint(MaxDevices) {
		s := d.stamp()
		v[s.By] = s.At
	}
	if err := d.end(); err != nil {
		return nil, fmt.Errorf("%w vector", err)
	}
	return v, nil
}
