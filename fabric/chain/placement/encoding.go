package placement

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"orrery/fabric"
	"orrery/fabric/chain"
)

// The encodings are in ../DESIGN.md, "Records".

const (
	version    = 1
	versionNew = 2 // of records with fields that most do not have; a program that knows version 1 only refuses them
)

// Limits of what is decoded.
const (
	maxName    = 64
	maxMembers = 64
	maxReason  = 1 << 10
	maxSplits  = 1 << 10
	// MaxFactor is the largest replication factor.
	MaxFactor = 9
)

// Encode is the record's value.
func (k KeeperRecord) Encode() []byte {
	return appendBytes(binary.AppendUvarint([]byte{version}, k.Generation), k.Node)
}

// DecodeKeeper reads what KeeperRecord.Encode wrote.
func DecodeKeeper(value []byte) (KeeperRecord, error) {
	d := newDecoder(value, version)
	k := KeeperRecord{Generation: d.uvarint(), Node: d.node()}
	return k, d.end("keeper", k.Encode, value)
}

// Encode is the record's value.
func (n Node) Encode() []byte {
	return append(appendBytes([]byte{version}, n.ID), flag(n.Drain))
}

// DecodeNode reads what Node.Encode wrote.
func DecodeNode(value []byte) (Node, error) {
	d := newDecoder(value, version)
	n := Node{ID: d.node(), Drain: d.flag()}
	return n, d.end("node", n.Encode, value)
}

// Encode is the record's value.
func (b Bucket) Encode() []byte {
	v := appendBytes([]byte{version}, b.Name)
	v = binary.AppendUvarint(v, uint64(b.Factor))
	v = append(v, byte(b.Durability), byte(b.State))
	v = binary.AppendVarint(v, b.Created)
	v = binary.AppendUvarint(v, uint64(b.First))
	v = binary.AppendUvarint(v, uint64(len(b.Splits)))
	for _, s := range b.Splits {
		v = appendBytes(v, s)
	}
	return v
}

// DecodeBucket reads what Bucket.Encode wrote.
func DecodeBucket(value []byte) (Bucket, error) {
	d := newDecoder(value, version)
	b := Bucket{
		Name: string(d.bytes(maxName)), Factor: int(d.most(MaxFactor)), Durability: Durability(d.byte(byte(Synced), byte(Replicated))),
		State: BucketState(d.byte(byte(Creating), byte(Deleting))), Created: d.varint(), First: chain.ID(d.uvarint()),
	}
	for range d.most(maxSplits) {
		b.Splits = append(b.Splits, d.bytes(chain.MaxKey))
	}
	if err := d.end("bucket", b.Encode, value); err != nil {
		return Bucket{}, err
	}
	return b, checkBucket(b)
}

func checkBucket(b Bucket) error {
	if err := CheckBucketName(b.Name); err != nil {
		return err
	}
	if b.Factor < 1 || b.Factor > MaxFactor {
		return fmt.Errorf("bucket %s: its replication factor is %d, it can be 1 to %d", b.Name, b.Factor, MaxFactor)
	}
	if b.Durability != Synced && b.Durability != Replicated {
		return fmt.Errorf("bucket %s: there is no durability %d", b.Name, b.Durability)
	}
	if len(b.Splits) > maxSplits {
		return fmt.Errorf("bucket %s: %d partitions are more than %d", b.Name, len(b.Splits)+1, maxSplits+1)
	}
	for i, s := range b.Splits {
		if len(s) == 0 || len(s) > chain.MaxKey || i > 0 && bytes.Compare(b.Splits[i-1], s) >= 0 {
			return fmt.Errorf("bucket %s: the keys between its partitions are not sorted, empty, or longer than %d bytes", b.Name, chain.MaxKey)
		}
	}
	return nil
}

// Encode is the record's value.
func (c Chain) Encode() []byte {
	v := []byte{version}
	if c.extended() {
		v[0] = versionNew
	}
	v = binary.AppendUvarint(v, uint64(c.ID))
	v = appendBytes(v, c.Bucket)
	v = appendRange(v, c.Range)
	v = binary.AppendUvarint(v, c.Epoch)
	v = binary.AppendUvarint(v, uint64(len(c.Members)))
	for _, m := range c.Members {
		v = appendBytes(v, m.Node)
		v = append(binary.AppendUvarint(v, m.Incarnation), byte(m.State))
	}
	v = binary.AppendUvarint(v, c.Keeper)
	v = append(v, flag(c.Fresh))
	v = binary.AppendUvarint(v, uint64(c.Parent))
	v = binary.AppendUvarint(v, uint64(len(c.Away)))
	for _, n := range c.Away {
		v = appendBytes(v, n)
	}
	v = append(v, flag(c.Move != nil))
	if c.Move != nil {
		v = appendBytes(appendBytes(v, c.Move.From), c.Move.To)
	}
	v = append(v, flag(c.Split != nil))
	if c.Split != nil {
		v = appendRange(binary.AppendUvarint(v, uint64(c.Split.Child)), c.Split.Range)
		v = binary.AppendUvarint(v, c.Split.Epoch)
	}
	v = binary.AppendVarint(appendBytes(v, c.Reason), c.Changed)
	if c.extended() {
		v = append(v, flag(c.Unsynced), flag(c.Recovery != nil))
		if c.Recovery != nil {
			v = c.Recovery.append(v, c.Line)
		}
	}
	return v
}

// extended says whether a record has what version 1 has no place for.
func (c Chain) extended() bool { return c.Unsynced || c.Recovery != nil }

// DecodeChain reads what Chain.Encode wrote.
func DecodeChain(value []byte) (Chain, error) {
	d := newDecoder(value, versionNew)
	var c Chain
	c.ID, c.Bucket, c.Range, c.Epoch = chain.ID(d.uvarint()), string(d.bytes(maxName)), d.keys(), d.uvarint()
	for range d.most(maxMembers) {
		c.Members = append(c.Members, chain.Member{
			Replica: chain.Replica{Node: d.node(), Incarnation: d.uvarint()},
			State:   chain.State(d.byte(byte(chain.Serving), byte(chain.Syncing))),
		})
	}
	c.Keeper, c.Fresh, c.Parent = d.uvarint(), d.flag(), chain.ID(d.uvarint())
	for range d.most(maxMembers) {
		c.Away = append(c.Away, d.node())
	}
	if d.flag() {
		c.Move = &Move{From: d.node(), To: d.node()}
	}
	if d.flag() {
		c.Split = &Split{Child: chain.ID(d.uvarint()), Range: d.keys(), Epoch: d.uvarint()}
	}
	c.Reason, c.Changed = string(d.bytes(maxReason)), d.varint()
	if d.version == versionNew {
		c.Unsynced = d.flag()
		if d.flag() {
			c.Recovery, c.Line = d.recovery()
		}
	}
	if err := d.end("chain", c.Encode, value); err != nil {
		return Chain{}, err
	}
	return c, c.check()
}

// check says what a chain's record may not be.
func (c Chain) check() error {
	bad := func(why string) error { return fmt.Errorf("%w: record of chain %d: %s", chain.ErrCorrupt, c.ID, why) }
	if c.ID == 0 || c.Epoch == 0 || len(c.Range.End) > 0 && bytes.Compare(c.Range.Start, c.Range.End) >= 0 {
		return bad("no id, no epoch or no keys")
	}
	serving := 0
	for i, m := range c.Members {
		if m.State == chain.Serving {
			serving++
		}
		if m.State != chain.Serving && i != len(c.Members)-1 {
			return bad("a member that does not serve is not the last")
		}
		if c.On(m.Node) != i {
			return bad(fmt.Sprintf("node %s has two places", m.Node))
		}
	}
	if len(c.Members) > 0 && serving == 0 {
		return bad("no member serves")
	}
	return nil
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendBytes[T ~string | ~[]byte](v []byte, b T) []byte {
	return append(binary.AppendUvarint(v, uint64(len(b))), b...)
}

func appendRange(v []byte, r chain.Range) []byte { return appendBytes(appendBytes(v, r.Start), r.End) }

// decoder reads a record; after the first error it reads zeros.
type decoder struct {
	rest    []byte
	version byte
	err     error
}

// newDecoder reads the version, which is newest at most.
func newDecoder(value []byte, newest byte) *decoder {
	d := &decoder{rest: value}
	if d.version = d.byte(0, 255); d.err == nil && (d.version < version || d.version > newest) {
		d.fail("format version %d, this program knows %d (update it)", d.version, newest)
	}
	return d
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{chain.ErrCorrupt}, args...)...)
	}
	d.rest = nil
}

// end checks that all was read, and that there is one encoding only.
func (d *decoder) end(what string, encode func() []byte, value []byte) error {
	if d.err == nil && (len(d.rest) > 0 || !bytes.Equal(encode(), value)) {
		d.fail("it is not as it was written")
	}
	if d.err != nil {
		return fmt.Errorf("%s record: %w", what, d.err)
	}
	return nil
}

func (d *decoder) byte(least, most byte) byte {
	if len(d.rest) == 0 {
		d.fail("cut short")
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	if b < least || b > most {
		d.fail("%d is not within %d and %d", b, least, most)
	}
	return b
}

func (d *decoder) flag() bool { return d.byte(0, 1) == 1 }

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.fail("cut short")
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) varint() int64 {
	n, size := binary.Varint(d.rest)
	if size <= 0 {
		d.fail("cut short")
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) most(limit uint64) uint64 {
	n := d.uvarint()
	if n > limit {
		d.fail("%d is more than %d", n, limit)
		return 0
	}
	return n
}

// bytes returns a copy; nil if there are none.
func (d *decoder) bytes(limit uint64) []byte {
	n := d.most(limit)
	if n > uint64(len(d.rest)) {
		d.fail("cut short")
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	if n == 0 {
		return nil
	}
	return slices.Clone(b)
}

func (d *decoder) node() fabric.NodeID { return fabric.NodeID(d.bytes(maxName)) }
func (d *decoder) keys() chain.Range {
	return chain.Range{Start: d.bytes(chain.MaxKey), End: d.bytes(chain.MaxKey)}
}
