package store

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"sort"
	"time"

	"orrery/state"
)

// layout says how a snapshot was cut into segments. The numbers are part of the format.
type layout uint8

const (
	layoutAligned layout = 1 // segments of imageSegment bytes at their positions in the tree
	layoutContent layout = 2 // free segments, cut where the content says so
)

const manifestMagic = "ORRSNAP\x01"

// manifestName is the name of a snapshot's manifest among the objects.
func manifestName(id digest) digest { return sum(append([]byte("orrery manifest "), id[:]...), free) }

// manifest says what a snapshot consists of.
type manifest struct {
	ID       digest
	Module   string
	Created  time.Time
	Parent   state.SnapshotID
	Stored   int64
	Size     int64
	Layout   layout
	Segments []digest
	ends     []int64  // of content segments: where each ends
	keys     []uint64 // of content segments: what was in front of each
}

// head is the part of a manifest that people may read.
type head struct {
	Module   string           `json:"module"`
	Created  time.Time        `json:"created"`
	Parent   state.SnapshotID `json:"parent,omitempty"`
	Stored   int64            `json:"stored"`
	Size     int64            `json:"size"`
	Layout   layout           `json:"layout"`
	Segments int              `json:"segments"`
}

// span returns where segment i lies.
func (m *manifest) span(i int) (start, end int64) {
	if m.Layout == layoutContent {
		if i > 0 {
			start = m.ends[i-1]
		}
		return start, m.ends[i]
	}
	start = int64(i) * imageSegment
	return start, min(start+imageSegment, m.Size)
}

// position is what segment i is hashed with.
func (m *manifest) position(i int) int64 {
	if m.Layout == layoutContent || len(m.Segments) == 1 {
		return free
	}
	return int64(i) * imageSegment
}

// find returns the segment that holds the byte at offset.
func (m *manifest) find(offset int64) int {
	if m.Layout == layoutAligned {
		return int(offset / imageSegment)
	}
	return sort.Search(len(m.ends), func(i int) bool { return m.ends[i] > offset })
}

// covering returns the segments that hold the bytes from start to end, as many as a delta may have.
func (m *manifest) covering(start, end int64) []digest {
	if start >= min(end, m.Size) {
		return nil
	}
	first, last := m.find(start), m.find(min(end, m.Size)-1)+1
	last = min(last, first+maxBases)
	return m.Segments[first:last:last]
}

func (m *manifest) encode() ([]byte, error) {
	h, err := json.Marshal(head{m.Module, m.Created, m.Parent, m.Stored, m.Size, m.Layout, len(m.Segments)})
	if err != nil {
		return nil, err
	}
	b := append([]byte(manifestMagic), m.ID[:]...)
	b = binary.AppendUvarint(b, uint64(len(h)))
	b = append(b, h...)
	for i, name := range m.Segments {
		b = append(b, name[:]...)
		if m.Layout == layoutContent {
			start, end := m.span(i)
			b = binary.AppendUvarint(b, uint64(end-start))
			b = binary.LittleEndian.AppendUint64(b, m.keys[i])
		}
	}
	check := sum(b, free)
	return append(b, check[:]...), nil
}

// decodeManifest decodes and checks a manifest. For an aligned snapshot, that its segments make up the id has
// been proven afterwards; for one cut by content that takes reading it.
func decodeManifest(b []byte) (*manifest, error) {
	corrupt := func(what string) (*manifest, error) {
		return nil, fmt.Errorf("%w: snapshot manifest: %s", state.ErrCorrupt, what)
	}
	if len(b) < len(manifestMagic)+64 || !bytes.HasPrefix(b, []byte(manifestMagic)) {
		return corrupt("not a manifest of version 1")
	}
	body := b[:len(b)-32]
	if sum(body, free) != digest(b[len(body):]) {
		return corrupt("checksum differs")
	}
	d := decoder{b: body[len(manifestMagic):]}
	m := &manifest{ID: d.digest()}
	var h head
	if err := json.Unmarshal(d.take(int(d.uvarint(1<<20))), &h); err != nil || d.bad {
		return corrupt("malformed head")
	}
	m.Module, m.Created, m.Parent, m.Stored, m.Size, m.Layout = h.Module, h.Created, h.Parent, h.Stored, h.Size, h.Layout
	if h.Segments < 0 || h.Segments > len(d.b)/32 || h.Size < 0 {
		return corrupt("malformed head")
	}
	if m.Segments = make([]digest, h.Segments); m.Layout == layoutContent {
		m.ends, m.keys = make([]int64, h.Segments), make([]uint64, h.Segments)
	}
	end := int64(0)
	for i := range m.Segments {
		m.Segments[i] = d.digest()
		if m.Layout == layoutContent {
			length := d.uvarint(maxSegment)
			end += length
			m.ends[i] = end
			if key := d.take(8); key != nil {
				m.keys[i] = binary.LittleEndian.Uint64(key)
			}
			d.bad = d.bad || length == 0
		}
	}
	if d.bad || len(d.b) != 0 || !m.sound(end) {
		return corrupt("segments do not make up the snapshot")
	}
	return m, nil
}

func (m *manifest) sound(end int64) bool {
	switch m.Layout {
	case layoutContent:
		return end == m.Size && (len(m.Segments) > 1 || join(m.Segments) == m.ID)
	case layoutAligned:
		return int64(len(m.Segments)) == (m.Size+imageSegment-1)/imageSegment && join(m.Segments) == m.ID
	}
	return false
}
