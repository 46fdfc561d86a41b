package replica

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"orrery/clip"
)

// Entry is what may change of an item, and what sort of item it is, so that people's limits can be kept without its contents.
type Entry struct {
	Kind    clip.Kind
	Size    int64
	Gone    Stamp // when it was deleted
	Pinned  Flag
	Note    Text
	Expires Moment
	Uses    []Use // one for each machine, in the order of machines
	Tags    []Tag // in the order of names
}

// Flag is a register of yes and no.
type Flag struct {
	On bool
	Stamp
}

// Text is a register of text.
type Text struct {
	Text string
	Stamp
}

// Moment is a register of a time in milliseconds since 1970; 0: never.
type Moment struct {
	At int64
	Stamp
}

// Use is how often, and when the last time, a machine copied the item. Only that machine changes it.
type Use struct {
	Count uint64
	At    int64 // milliseconds since 1970
	Stamp
}

// Tag says whether the item has a tag.
type Tag struct {
	Name string
	On   bool
	Stamp
}

// Live says whether the item is to be there.
func (e *Entry) Live() bool {
	for _, u := range e.Uses {
		if u.After(e.Gone) {
			return true
		}
	}
	return e.Pinned.On && e.Pinned.After(e.Gone)
}

// Used is when the item was copied last, in milliseconds since 1970, as the machine says that did so last. Of an item that only a pin keeps it is when it was pinned.
func (e *Entry) Used() int64 {
	last := Use{At: e.Pinned.Stamp.At.Moment().UnixMilli()}
	for _, u := range e.Uses {
		if u.After(last.Stamp) {
			last = u
		}
	}
	return last.At
}

// Last is the stamp of the last copy.
func (e *Entry) Last() (last Stamp) {
	for _, u := range e.Uses {
		if u.After(last) {
			last = u.Stamp
		}
	}
	return last
}

// Kept is the stamp of the last copy or pin, which is why the item is there.
func (e *Entry) Kept() Stamp {
	last := e.Last()
	if e.Pinned.On && e.Pinned.After(last) {
		last = e.Pinned.Stamp
	}
	return last
}

// Count is how often it was copied, on all machines.
func (e *Entry) Count() int {
	n := uint64(0)
	for _, u := range e.Uses {
		n += min(u.Count, 1<<31)
	}
	return int(min(n, 1<<31)) //nolint:gosec // bounded
}

// Mark is what people say of it.
func (e *Entry) Mark() clip.Mark {
	m := clip.Mark{Pinned: e.Pinned.On, Note: e.Note.Text}
	if e.Expires.At != 0 {
		m.Expires = time.UnixMilli(e.Expires.At)
	}
	for _, t := range e.Tags {
		if t.On && len(m.Tags) < clip.MaxTags {
			m.Tags = append(m.Tags, t.Name)
		}
	}
	return m
}

// Use notes n copies on a machine, of which the last was at a time.
func (e *Entry) Use(s Stamp, at int64, n int) {
	u := Use{uint64(max(n, 0)), at, s} //nolint:gosec // not negative
	i, ok := slices.BinarySearchFunc(e.Uses, s.By, func(u Use, d Device) int { return slices.Compare(u.By[:], d[:]) })
	if !ok {
		e.Uses = slices.Insert(e.Uses, i, u)
		return
	}
	u.Count += e.Uses[i].Count
	e.Uses[i] = u
}

// SetMark changes what is different from what people say now.
func (e *Entry) SetMark(s Stamp, m clip.Mark) {
	if m.Pinned != e.Pinned.On {
		e.Pinned = Flag{m.Pinned, s}
	}
	if m.Note != e.Note.Text {
		e.Note = Text{m.Note, s}
	}
	at := int64(0)
	if !m.Expires.IsZero() {
		at = m.Expires.UnixMilli()
	}
	if at != e.Expires.At {
		e.Expires = Moment{at, s}
	}
	before := e.Mark().Tags
	for _, t := range before {
		if !slices.Contains(m.Tags, t) {
			e.tag(Tag{t, false, s})
		}
	}
	for _, t := range m.Tags {
		if !slices.Contains(before, t) {
			e.tag(Tag{t, true, s})
		}
	}
}

// tag takes in a tag, if it is later than what is known of it.
func (e *Entry) tag(t Tag) {
	i, ok := slices.BinarySearchFunc(e.Tags, t.Name, func(t Tag, name string) int { return cmp.Compare(t.Name, name) })
	switch {
	case !ok:
		e.Tags = slices.Insert(e.Tags, i, t)
	case t.After(e.Tags[i].Stamp):
		e.Tags[i] = t
	}
}

// Delete deletes it, and all that was said of it.
func (e *Entry) Delete(s Stamp) {
	e.Gone = s
	e.cut()
}

// cut drops what was said before the deletion. It is part of what an entry means, so it may be done at any time.
func (e *Entry) cut() {
	before := func(s Stamp) bool { return !s.After(e.Gone) }
	if before(e.Pinned.Stamp) {
		e.Pinned = Flag{}
	}
	if before(e.Note.Stamp) {
		e.Note = Text{}
	}
	if before(e.Expires.Stamp) {
		e.Expires = Moment{}
	}
	e.Uses = slices.DeleteFunc(e.Uses, func(u Use) bool { return before(u.Stamp) })
	e.Tags = slices.DeleteFunc(e.Tags, func(t Tag) bool { return before(t.Stamp) })
	// Bounds that no honest machine reaches.
	if len(e.Uses) > maxUses {
		slices.SortFunc(e.Uses, func(a, b Use) int { return b.Compare(a.Stamp) })
		e.Uses = e.Uses[:maxUses]
		slices.SortFunc(e.Uses, func(a, b Use) int { return slices.Compare(a.By[:], b.By[:]) })
	}
	if len(e.Tags) > maxTags {
		slices.SortFunc(e.Tags, func(a, b Tag) int { return b.Compare(a.Stamp) })
		e.Tags = e.Tags[:maxTags]
		slices.SortFunc(e.Tags, func(a, b Tag) int { return cmp.Compare(a.Name, b.Name) })
	}
}

// Merge joins it with what another machine says, and says whether that changed anything.
func (e *Entry) Merge(o *Entry) bool {
	before := e.Append(nil)
	if e.Kind == 0 {
		e.Kind, e.Size = o.Kind, o.Size
	}
	if o.Gone.After(e.Gone) {
		e.Gone = o.Gone
	}
	if o.Pinned.After(e.Pinned.Stamp) {
		e.Pinned = o.Pinned
	}
	if o.Note.After(e.Note.Stamp) {
		e.Note = o.Note
	}
	if o.Expires.After(e.Expires.Stamp) {
		e.Expires = o.Expires
	}
	for _, u := range o.Uses {
		i, ok := slices.BinarySearchFunc(e.Uses, u.By, func(u Use, d Device) int { return slices.Compare(u.By[:], d[:]) })
		switch {
		case !ok:
			e.Uses = slices.Insert(e.Uses, i, u)
		case u.After(e.Uses[i].Stamp):
			e.Uses[i] = u
		}
	}
	for _, t := range o.Tags {
		e.tag(t)
	}
	e.cut()
	return !slices.Equal(before, e.Append(nil))
}

// Beyond is what of it a machine lacks that has heard all up to a vector; ok is false if that is nothing.
func (e *Entry) Beyond(v Vector) (d Entry, ok bool) {
	d = Entry{Kind: e.Kind, Size: e.Size}
	if !v.Covers(e.Gone) {
		d.Gone = e.Gone
	}
	if !v.Covers(e.Pinned.Stamp) {
		d.Pinned = e.Pinned
	}
	if !v.Covers(e.Note.Stamp) {
		d.Note = e.Note
	}
	if !v.Covers(e.Expires.Stamp) {
		d.Expires = e.Expires
	}
	for _, u := range e.Uses {
		if !v.Covers(u.Stamp) {
			d.Uses = append(d.Uses, u)
		}
	}
	for _, t := range e.Tags {
		if !v.Covers(t.Stamp) {
			d.Tags = append(d.Tags, t)
		}
	}
	d.stamps(func(Stamp) { ok = true })
	return d, ok
}

// stamps calls each with those of all registers that were ever changed.
func (e *Entry) stamps(each func(Stamp)) {
	for _, s := range []Stamp{e.Gone, e.Pinned.Stamp, e.Note.Stamp, e.Expires.Stamp} {
		if s.At != 0 {
			each(s)
		}
	}
	for _, u := range e.Uses {
		each(u.Stamp)
	}
	for _, t := range e.Tags {
		each(t.Stamp)
	}
}

// The registers of an encoded entry.
const (
	hasGone = 1 << iota
	hasPin
	pinned
	hasNote
	hasExpiry
)

func flag(bit byte, has bool) byte {
	if has {
		return bit
	}
	return 0
}

func appendStamp(b []byte, s Stamp) []byte {
	return append(binary.AppendUvarint(b, uint64(s.At)), s.By[:]...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Append encodes it; docs/formats/clip-sync.md says how.
func (e *Entry) Append(b []byte) []byte {
	flags := flag(hasGone, e.Gone.At != 0) | flag(hasPin, e.Pinned.At != 0) | flag(pinned, e.Pinned.On) | flag(hasNote, e.Note.At != 0) |
		flag(hasExpiry, e.Expires.Stamp != Stamp{})
	b = binary.AppendUvarint(append(b, flags, byte(e.Kind)), uint64(e.Size)) //nolint:gosec // not negative
	if flags&hasGone != 0 {
		b = appendStamp(b, e.Gone)
	}
	if flags&hasPin != 0 {
		b = appendStamp(b, e.Pinned.Stamp)
	}
	if flags&hasNote != 0 {
		b = appendString(appendStamp(b, e.Note.Stamp), e.Note.Text)
	}
	if flags&hasExpiry != 0 {
		b = binary.AppendVarint(appendStamp(b, e.Expires.Stamp), e.Expires.At)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Uses)))
	for _, u := range e.Uses {
		b = binary.AppendVarint(binary.AppendUvarint(appendStamp(b, u.Stamp), u.Count), u.At)
	}
	b = binary.AppendUvarint(b, uint64(len(e.Tags)))
	for _, t := range e.Tags {
		on := byte(0)
		if t.On {
			on = 1
		}
		b = appendString(append(appendStamp(b, t.Stamp), on), t.Name)
	}
	return b
}
