package wire

import (
	"encoding/binary"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// Copy is a piece of a copy of a replica's state. The pieces of a copy come in order over one connection.
type Copy struct {
	Chain    chain.ID
	Epoch    uint64        // of the sender's config
	From, To chain.Replica // the sender, and who gets it
	Piece    uint64        // from 0
	Last     bool
	// The state is as of the entry Applied, of AppliedEpoch. The same in all pieces.
	Applied      uint64
	AppliedEpoch uint64
	Records      []Record
}

// Record is a record of a store, as it is kept on disk.
type Record struct {
	Part  byte
	Key   []byte
	Value []byte
}

// AppendCopy appends a piece's frame.
func AppendCopy(b []byte, c *Copy) []byte {
	b, at := begin(b, KindCopy)
	b = binary.AppendUvarint(b, uint64(c.Chain))
	b = binary.AppendUvarint(b, c.Epoch)
	for _, r := range []chain.Replica{c.From, c.To} {
		b = binary.AppendUvarint(appendBytes(b, []byte(r.Node)), r.Incarnation)
	}
	b = append(binary.AppendUvarint(b, c.Piece), flag(c.Last))
	for _, n := range []uint64{c.Applied, c.AppliedEpoch, uint64(len(c.Records))} {
		b = binary.AppendUvarint(b, n)
	}
	for _, r := range c.Records {
		b = appendBytes(appendBytes(append(b, r.Part), r.Key), r.Value)
	}
	return end(b, at)
}

// DecodeCopy reads a piece, which shares the frame's bytes.
func DecodeCopy(frame []byte) (*Copy, error) {
	d := decoder{rest: frame[headSize+1:]}
	c := &Copy{Chain: chain.ID(d.uvarint()), Epoch: d.uvarint()}
	c.From = chain.Replica{Node: fabric.NodeID(d.bytes()), Incarnation: d.uvarint()}
	c.To = chain.Replica{Node: fabric.NodeID(d.bytes()), Incarnation: d.uvarint()}
	c.Piece, c.Last, c.Applied, c.AppliedEpoch = d.uvarint(), d.byte() == 1, d.uvarint(), d.uvarint()
	for range d.count(maxMany) {
		c.Records = append(c.Records, Record{Part: d.byte(), Key: d.bytes(), Value: d.bytes()})
	}
	return c, d.end()
}
