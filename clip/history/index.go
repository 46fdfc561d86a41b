package history

import (
	"encoding/binary"
	"slices"
	"sort"
	"time"

	"orrery/clip"
	"orrery/clip/find"
)

// entry is what is kept in memory of an item: 56 bytes, and its preview.
type entry struct {
	id      clip.ID
	offset  int64 // of its record of recordAdd
	digest  uint64
	used    int64
	size    int64
	count   uint32
	preview uint32 // where it is in the arena
	length  uint8  // of the preview, less one
	kind    clip.Kind
	flags   uint8
}

const (
	flagDead    = 1 << iota // deleted
	flagMarked              // marks has more
	flagPreview             // it has one
)

// index finds entries by id, by digest, and in the order of use.
type index struct {
	entries []entry  // by id
	order   []uint32 // places in entries of those that live, by when they were used, which differs
	table   []uint32 // places plus one, by digest: open addressing
	texts   arena
	lower   *arena // texts in lower case, while somebody searches
	marks   map[clip.ID]clip.Mark
	files   map[string]int // how many parts of living items are in each file
	dead    int
	bytes   int64 // of all contents of living items
	next    clip.ID
}

func newIndex() *index {
	return &index{marks: map[clip.ID]clip.Mark{}, files: map[string]int{}, next: 1}
}

// arena holds previews in blocks, so that it grows without a copy.
type arena struct{ blocks [][]byte }

const (
	blockBits = 17
	blockSize = 1 << blockBits
)

// add keeps text, of at most clip.PreviewSize bytes.
func (a *arena) add(text string) uint32 {
	last := len(a.blocks) - 1
	if last < 0 || len(a.blocks[last])+len(text) > blockSize {
		a.blocks = append(a.blocks, make([]byte, 0, blockSize))
		last++
	}
	at := len(a.blocks[last])
	a.blocks[last] = append(a.blocks[last], text...)
	return uint32(last<<blockBits | at) //nolint:gosec // 2^15 blocks are 4 GB of previews
}

func (a *arena) get(at uint32, length int) []byte {
	block := a.blocks[at>>blockBits]
	begin := int(at & (blockSize - 1))
	return block[begin : begin+length : begin+length]
}

// lowered is a copy in lower case. Every text is where it was: a letter whose lower case has another length stays.
func (a *arena) lowered() *arena {
	out := &arena{blocks: make([][]byte, len(a.blocks))}
	for i, block := range a.blocks {
		out.blocks[i] = find.AppendLower(make([]byte, 0, len(block)), block)
	}
	return out
}

func (x *index) preview(e *entry) []byte {
	if e.flags&flagPreview == 0 {
		return nil
	}
	return x.texts.get(e.preview, int(e.length)+1)
}

// find is the entry with an id that lives; nil if there is none.
func (x *index) find(id clip.ID) *entry {
	i := sort.Search(len(x.entries), func(i int) bool { return x.entries[i].id >= id })
	if i == len(x.entries) || x.entries[i].id != id || x.entries[i].flags&flagDead != 0 {
		return nil
	}
	return &x.entries[i]
}

// like calls same with each living entry whose digest begins as d does, until it says that it is the one.
func (x *index) like(d digest, same func(*entry) bool) *entry {
	if len(x.table) == 0 {
		return nil
	}
	short := binary.LittleEndian.Uint64(d[:])
	mask := uint64(len(x.table) - 1)
	for i := short & mask; x.table[i] != 0; i = (i + 1) & mask {
		e := &x.entries[x.table[i]-1]
		if e.digest == short && e.flags&flagDead == 0 && same(e) {
			return e
		}
	}
	return nil
}

// add takes in a new item.
func (x *index) add(r *added, offset int64) *entry {
	e := entry{id: r.id, offset: offset, digest: binary.LittleEndian.Uint64(r.digest[:]), used: r.used, count: uint32(min(r.count, 1<<32-1)), kind: r.kind} //nolint:gosec // bounded
	for _, p := range r.parts {
		e.size += int64(p.size) //nolint:gosec // bounded by clip.MaxItem
		if p.file != "" {
			x.files[p.file]++
		}
	}
	if r.preview != "" {
		e.preview, e.length, e.flags = x.texts.add(r.preview), uint8(len(r.preview)-1), flagPreview //nolint:gosec // at most clip.PreviewSize
		if x.lower != nil {
			x.lower.add(string(find.Lower([]byte(r.preview))))
		}
	}
	x.entries = append(x.entries, e)
	x.insert(uint32(len(x.entries) - 1)) //nolint:gosec // not that many
	x.bytes += e.size
	x.next = max(x.next, r.id+1)
	if 4*len(x.entries) > 3*len(x.table) {
		x.rehash()
	} else {
		x.place(len(x.entries) - 1)
	}
	return &x.entries[len(x.entries)-1]
}

func (x *index) rehash() {
	size := 1024
	for size < 2*len(x.entries) {
		size *= 2
	}
	x.table = make([]uint32, size)
	for i := range x.entries {
		if x.entries[i].flags&flagDead == 0 {
			x.place(i)
		}
	}
}

func (x *index) place(at int) {
	mask := uint64(len(x.table) - 1)
	i := x.entries[at].digest & mask
	for x.table[i] != 0 {
		i = (i + 1) & mask
	}
	x.table[i] = uint32(at) + 1 //nolint:gosec // not that many
}

// insert gives an entry its place in the order of use.
func (x *index) insert(place uint32) {
	at := len(x.order)
	for at > 0 && x.entries[x.order[at-1]].used > x.entries[place].used {
		at--
	}
	x.order = slices.Insert(x.order, at, place)
}

// use moves an item up in the order.
func (x *index) use(e *entry, at int64) {
	place := x.placeOf(e)
	i := x.orderOf(place)
	x.order = slices.Delete(x.order, i, i+1)
	e.used = at
	e.count++
	x.insert(place)
}

// now is a time after that of all items, so that what is used now is the last.
func (x *index) now(clock time.Time) int64 {
	at := clock.UnixMilli()
	if n := len(x.order); n > 0 {
		at = max(at, x.entries[x.order[n-1]].used+1)
	}
	return at
}

func (x *index) placeOf(e *entry) uint32 {
	return uint32(sort.Search(len(x.entries), func(i int) bool { return x.entries[i].id >= e.id })) //nolint:gosec // not that many
}

// orderOf looks from the end: what is used again was mostly used lately.
func (x *index) orderOf(place uint32) int {
	for i := len(x.order) - 1; ; i-- { // it is there: it lives
		if x.order[i] == place {
			return i
		}
	}
}

// remove takes items out, and returns the files that nobody needs any more, if files says which an entry has.
func (x *index) remove(gone []*entry) {
	for _, e := range gone {
		e.flags |= flagDead
		x.bytes -= e.size
		delete(x.marks, e.id)
		x.dead++
	}
	x.order = slices.DeleteFunc(x.order, func(place uint32) bool { return x.entries[place].flags&flagDead != 0 })
}

// mark takes in what is said of an item.
func (x *index) mark(e *entry, m clip.Mark) {
	if m.Pinned || m.Note != "" || len(m.Tags) > 0 || !m.Expires.IsZero() {
		x.marks[e.id] = m
		e.flags |= flagMarked
		return
	}
	delete(x.marks, e.id)
	e.flags &^= flagMarked
}

func (x *index) summary(e *entry) clip.Summary {
	s := clip.Summary{ID: e.id, Kind: e.kind, Used: fromMilliseconds(e.used), Count: int(e.count), Size: e.size, Preview: string(x.preview(e))}
	if e.flags&flagMarked != 0 {
		s.Mark = x.marks[e.id]
	}
	return s
}
