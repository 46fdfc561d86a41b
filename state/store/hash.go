package store

import (
	"encoding/hex"
	"fmt"
	"math/bits"

	"lukechampine.com/blake3/guts"

	"orrery/state"
)

// digest is a BLAKE3 hash or the chaining value of a subtree.
type digest [32]byte

func (d digest) String() string { return hex.EncodeToString(d[:]) }

func (d digest) id() state.SnapshotID { return state.SnapshotID(d.String()) }

// parseID reads a snapshot id. Anything else than 64 lower-case hex digits cannot exist.
func parseID(id state.SnapshotID) (digest, error) {
	var d digest
	if len(id) != 2*len(d) {
		return d, fmt.Errorf("snapshot %.80q: %w (an id has 64 hex digits)", string(id), state.ErrNotFound)
	}
	if _, err := hex.Decode(d[:], []byte(id)); err != nil || d.String() != string(id) {
		return d, fmt.Errorf("snapshot %.80q: %w (an id has 64 hex digits)", string(id), state.ErrNotFound)
	}
	return d, nil
}

// free is the position of a segment whose hash does not depend on its place.
const free = -1

// sum hashes a segment. At a position, a multiple of the segment's aligned size, it is the chaining value
// of the segment's subtree in the tree of the whole; a free segment has its own BLAKE3 hash.
func sum(b []byte, position int64) digest {
	if position == free {
		n := node(b, 0)
		n.Flags |= guts.FlagRoot
		return toDigest(guts.ChainingValue(n))
	}
	return toDigest(guts.ChainingValue(node(b, uint64(position)/guts.ChunkSize)))
}

// node is the root of the tree over b, whose first chunk is number counter.
func node(b []byte, counter uint64) guts.Node {
	const wide = guts.MaxSIMD * guts.ChunkSize
	if len(b) > wide {
		left := 1 << (bits.Len(uint(len(b)-1)) - 1)
		l := guts.ChainingValue(node(b[:left], counter))
		r := guts.ChainingValue(node(b[left:], counter+uint64(left)/guts.ChunkSize))
		return guts.ParentNode(l, r, &guts.IV, 0)
	}
	if len(b) == wide {
		return guts.CompressBuffer((*[wide]byte)(b), wide, &guts.IV, counter, 0)
	}
	var padded [wide]byte
	copy(padded[:], b)
	return guts.CompressBuffer(&padded, len(b), &guts.IV, counter, 0)
}

// join is the hash of a whole from its aligned segments' chaining values; of one segment it is that segment's hash.
func join(segments []digest) digest {
	switch len(segments) {
	case 0:
		return sum(nil, free)
	case 1:
		return segments[0]
	}
	n := parent(segments)
	n.Flags |= guts.FlagRoot
	return toDigest(guts.ChainingValue(n))
}

func parent(segments []digest) guts.Node {
	left := 1 << (bits.Len(uint(len(segments)-1)) - 1)
	return guts.ParentNode(chaining(segments[:left]), chaining(segments[left:]), &guts.IV, 0)
}

func chaining(segments []digest) [8]uint32 {
	if len(segments) == 1 {
		var b [64]byte
		copy(b[:], segments[0][:])
		words := guts.BytesToWords(b)
		return [8]uint32(words[:8])
	}
	return guts.ChainingValue(parent(segments))
}

func toDigest(cv [8]uint32) digest {
	var words [16]uint32
	copy(words[:], cv[:])
	b := guts.WordsToBytes(words)
	return digest(b[:32])
}
