package shared

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/table/kv"
)

// phase is how far the move is.
type phase string

// The phases.
const (
	phaseGround  phase = ""        // there is no record: the keys are on the ground
	phaseSealed  phase = "sealed"  // nobody reads or writes them; it can be given up
	phaseCopying phase = "copying" // they are on their way to the bucket
	phaseMoved   phase = "moved"   // they are in the bucket
)

const recordVersion = 1

// record says where the shared keys are.
type record struct {
	Version int   `json:"version"`
	Phase   phase `json:"phase"`
	// Offset is added to the sequences of the chain, so that revisions go on above those of the ground.
	Offset uint64 `json:"offset,omitempty"`
}

// errVersion says that a record is of a later version of the program.
var errVersion = errors.New("of another version of this program")

func (r record) encode() []byte {
	r.Version = recordVersion
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // it has nothing that cannot be encoded
	}
	return b
}

// decodeRecord reads a record; of nil, which is none.
func decodeRecord(value []byte) (record, error) {
	var r record
	if value == nil {
		return r, nil
	}
	if err := json.Unmarshal(value, &r); err != nil {
		return r, fmt.Errorf("key %s: %w", kv.SealKey, err)
	}
	switch r.Phase {
	case phaseSealed, phaseCopying, phaseMoved:
		if r.Version == recordVersion {
			return r, nil
		}
	case phaseGround:
	}
	return record{}, fmt.Errorf("key %s (phase %q, version %d): %w", kv.SealKey, r.Phase, r.Version, errVersion)
}

// First is what the ground of a new cluster has from the beginning, so that its shared keys are in the bucket as soon as there is one.
func First() fabric.Entry {
	return fabric.Entry{Key: kv.SealKey, Value: record{Phase: phaseCopying}.encode()}
}

// In the bucket a value begins with its revision on the ground, as an unsigned varint, if it was copied from there, and otherwise with 0. So a copied key keeps
// its revision until it is written, and whoever read it before the move can swap it afterwards.

func encodeValue(revision uint64, value []byte) []byte {
	b := make([]byte, 0, binary.MaxVarintLen64+len(value))
	return append(binary.AppendUvarint(b, revision), value...)
}

// entry is a key of the bucket as the table has it.
func (b *bucket) entry(key []byte, v chain.Value) (fabric.Entry, error) {
	revision, n := binary.Uvarint(v.Value)
	if n <= 0 {
		return fabric.Entry{}, fmt.Errorf("key %q of bucket %s: %w", key, Bucket, chain.ErrCorrupt)
	}
	if revision == 0 {
		revision = b.revision(v.Version)
	}
	return fabric.Entry{Key: string(key), Value: v.Value[n:len(v.Value):len(v.Value)], Revision: revision}, nil
}
