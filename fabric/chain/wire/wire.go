// Package wire is the bytes of the chains' protocol: frames of messages between replicas, of requests and of answers.
package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/conn"
	"orrery/fabric/chain/replica"
)

// Protocol is the ALPN name of connections.
const Protocol = "orrery-chain/1"

// Kind is what a frame holds.
type Kind byte

// The kinds of frames.
const (
	KindMessage Kind = 1
	KindRequest Kind = 2
	KindAnswer  Kind = 3
	KindCopy    Kind = 4
)

// A frame is: 4 bytes of the body's length, 4 of its CRC-32C, big endian; the body: 1 byte of kind, and what that kind has.
const (
	headSize = 8
	maxBody  = 16 << 20
	maxMany  = 64 << 10 // keys, items, entries or changes of one frame
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Framing finds the frames.
var Framing = conn.Framing{Head: headSize, Size: size}

func size(head []byte) (int, error) {
	n := binary.BigEndian.Uint32(head)
	if n == 0 || n > maxBody {
		return 0, fmt.Errorf("%w: frame of %d bytes", chain.ErrCorrupt, n)
	}
	return headSize + int(n), nil
}

func begin(b []byte, k Kind) ([]byte, int) {
	at := len(b)
	return append(b, 0, 0, 0, 0, 0, 0, 0, 0, byte(k)), at
}

func end(b []byte, at int) []byte {
	body := b[at+headSize:]
	binary.BigEndian.PutUint32(b[at:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[at+4:], crc32.Checksum(body, castagnoli))
	return b
}

// KindOf checks a frame and says what it holds.
func KindOf(frame []byte) (Kind, error) {
	if len(frame) <= headSize {
		return 0, fmt.Errorf("%w: frame cut short", chain.ErrCorrupt)
	}
	body := frame[headSize:]
	if binary.BigEndian.Uint32(frame[4:]) != crc32.Checksum(body, castagnoli) {
		return 0, fmt.Errorf("%w: frame's checksum", chain.ErrCorrupt)
	}
	return Kind(body[0]), nil
}

// Errors are those that have a number, which is their place from 1.
func Errors() []error { return numbered }

var numbered = []error{
	chain.ErrNotServing, chain.ErrEpoch, chain.ErrBusy, chain.ErrUnknown, chain.ErrConflict, chain.ErrTooLarge, chain.ErrBadValue, chain.ErrSuperseded,
	chain.ErrOutOfRange, chain.ErrCompacted, chain.ErrCorrupt, fabric.ErrForbidden, fabric.ErrNotFound, fabric.ErrClosed, fabric.ErrNoQuorum,
}

// AppendRequest appends a request's frame.
func AppendRequest(b []byte, q *chain.Request) []byte {
	b, at := begin(b, KindRequest)
	b = binary.AppendUvarint(b, q.ID)
	b = append(b, byte(q.Ask), byte(q.Consistency))
	b = binary.AppendUvarint(b, uint64(q.Chain))
	b = binary.AppendUvarint(b, uint64(q.Bound.Age))
	b = binary.AppendUvarint(b, q.Bound.Versions)
	b = binary.AppendUvarint(b, uint64(q.Limit))
	b = binary.AppendUvarint(b, q.From)
	b = binary.AppendUvarint(b, uint64(len(q.Keys)))
	for _, k := range q.Keys {
		b = appendBytes(b, k)
	}
	b = appendBytes(appendBytes(b, q.Range.Start), q.Range.End)
	if q.Ask == chain.AskDo {
		b = appendCommand(b, &q.Command)
	}
	return end(b, at)
}

func appendCommand(b []byte, c *chain.Command) []byte {
	b = binary.BigEndian.AppendUint64(b, c.Client)
	b = binary.AppendUvarint(b, c.Request)
	b = binary.AppendUvarint(b, c.Floor)
	b = binary.AppendUvarint(b, uint64(len(c.If)))
	for _, f := range c.If {
		b = binary.AppendUvarint(appendBytes(b, f.Key), f.Version)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Do)))
	for _, w := range c.Do {
		b = appendBytes(appendBytes(append(b, byte(w.Op)), w.Key), w.Value)
		b = binary.AppendVarint(b, w.Delta)
		b = binary.AppendUvarint(b, uint64(w.TTL/time.Millisecond))
	}
	return b
}

// DecodeRequest reads a request, which shares the frame's bytes.
func DecodeRequest(frame []byte, q *chain.Request) error {
	d := decoder{rest: frame[headSize+1:]}
	*q = chain.Request{Keys: q.Keys[:0]}
	q.ID = d.uvarint()
	q.Ask, q.Consistency = chain.Ask(d.byte()), chain.Consistency(d.byte())
	q.Chain = chain.ID(d.uvarint())
	q.Bound.Age, q.Bound.Versions = time.Duration(d.uvarint()), d.uvarint()
	q.Limit, q.From = int(d.uvarint()), d.uvarint()
	for range d.count(maxMany) {
		q.Keys = append(q.Keys, d.bytes())
	}
	q.Range = chain.Range{Start: d.bytes(), End: d.bytes()}
	if q.Ask == chain.AskDo {
		q.Command = d.command()
	}
	return d.end()
}

func (d *decoder) command() chain.Command {
	c := chain.Command{Client: d.uint64(), Request: d.uvarint(), Floor: d.uvarint()}
	for range d.count(chain.MaxWrites) {
		c.If = append(c.If, chain.Condition{Key: d.bytes(), Version: d.uvarint()})
	}
	for range d.count(chain.MaxWrites) {
		c.Do = append(c.Do, chain.Write{Op: chain.Op(d.byte()), Key: d.bytes(), Value: d.bytes(), Delta: d.varint(), TTL: time.Duration(d.uvarint()) * time.Millisecond})
	}
	return c
}

// AppendAnswer appends an answer's frame.
func AppendAnswer(b []byte, a *chain.Answer) []byte {
	b, at := begin(b, KindAnswer)
	b = binary.AppendUvarint(b, a.ID)
	number := byte(0)
	for i, e := range numbered {
		if errors.Is(a.Err, e) && number == 0 {
			number = byte(i + 1)
		}
	}
	b = append(b, number)
	b = appendBytes(b, []byte(a.Text))
	b = binary.AppendUvarint(b, a.Applied)
	b = binary.AppendUvarint(b, uint64(len(a.Items)))
	for i := range a.Items {
		item := &a.Items[i]
		b = appendBytes(appendBytes(b, item.Key), item.Value.Value)
		b = binary.AppendUvarint(b, item.Value.Version)
		b = binary.AppendVarint(b, item.Value.Expires)
		b = append(b, flag(item.Missing))
	}
	b = append(b, flag(a.More))
	b = AppendResult(b, a.Result)
	return end(appendBytes(b, a.Map), at)
}

// AppendResult appends a result.
func AppendResult(b []byte, r chain.Result) []byte {
	b = binary.AppendUvarint(append(b, byte(r.Outcome)), r.Version)
	b = binary.AppendUvarint(b, uint64(r.Index))
	return binary.AppendVarint(b, r.Number)
}

func (d *decoder) result() chain.Result {
	return chain.Result{Outcome: chain.Outcome(d.byte()), Version: d.uvarint(), Index: int(d.uvarint()), Number: d.varint()}
}

// DecodeResult reads what AppendResult wrote.
func DecodeResult(b []byte) (chain.Result, error) {
	d := decoder{rest: b}
	r := d.result()
	return r, d.end()
}

// AnswerID checks a frame that is to hold an answer, and says to which request.
func AnswerID(frame []byte) (uint64, error) {
	k, err := KindOf(frame)
	if err != nil {
		return 0, err
	}
	if k != KindAnswer {
		return 0, fmt.Errorf("%w: no answer but a frame of kind %d", chain.ErrCorrupt, k)
	}
	d := decoder{rest: frame[headSize+1:]}
	return d.uvarint(), d.err
}

// DecodeAnswer reads an answer, which shares the frame's bytes.
func DecodeAnswer(frame []byte, a *chain.Answer) error {
	d := decoder{rest: frame[headSize+1:]}
	*a = chain.Answer{ID: d.uvarint(), Items: a.Items[:0]}
	if n := int(d.byte()); n > len(numbered) {
		d.fail()
	} else if n > 0 {
		a.Err = numbered[n-1]
	}
	a.Text = string(d.bytes())
	if a.Err != nil && a.Text != "" {
		a.Err = fmt.Errorf("%w (%s)", a.Err, a.Text)
	}
	a.Applied = d.uvarint()
	for range d.count(maxMany) {
		a.Items = append(a.Items, chain.Item{Key: d.bytes(), Value: chain.Value{Value: d.bytes(), Version: d.uvarint(), Expires: d.varint()}, Missing: d.byte() == 1})
	}
	a.More = d.byte() == 1
	a.Result = d.result()
	a.Map = d.bytes()
	return d.end()
}

// AppendMessage appends a message's frame.
func AppendMessage(b []byte, m *replica.Message) []byte {
	b, at := begin(b, KindMessage)
	b = append(b, byte(m.Kind))
	b = binary.AppendUvarint(b, uint64(m.Chain))
	b = binary.AppendUvarint(b, m.Epoch)
	for _, r := range []chain.Replica{m.From, m.To} {
		b = binary.AppendUvarint(appendBytes(b, []byte(r.Node)), r.Incarnation)
	}
	for _, n := range []uint64{m.Sequence, m.Entry, m.Committed, m.Durable, m.Query, uint64(len(m.Entries))} {
		b = binary.AppendUvarint(b, n)
	}
	b = binary.AppendVarint(b, m.Time)
	for i := range m.Entries {
		b = AppendEntry(b, &m.Entries[i])
	}
	return end(b, at)
}

// AppendEntry appends an entry.
func AppendEntry(b []byte, e *chain.Entry) []byte {
	b = binary.AppendUvarint(binary.AppendUvarint(b, e.Epoch), e.Sequence)
	b = binary.BigEndian.AppendUint64(binary.AppendVarint(b, e.Time), e.Client)
	b = binary.AppendUvarint(binary.AppendUvarint(b, e.Request), e.Floor)
	b = AppendResult(b, e.Result)
	b = binary.AppendUvarint(b, uint64(len(e.Changes)))
	for _, c := range e.Changes {
		b = append(appendBytes(appendBytes(b, c.Key), c.Value), flag(c.Deleted))
		b = binary.AppendVarint(b, c.Expires)
	}
	return b
}

func (d *decoder) entry() chain.Entry {
	e := chain.Entry{Epoch: d.uvarint(), Sequence: d.uvarint(), Time: d.varint(), Client: d.uint64(), Request: d.uvarint(), Floor: d.uvarint(), Result: d.result()}
	for range d.count(maxMany) {
		e.Changes = append(e.Changes, chain.Change{Key: d.bytes(), Value: d.bytes(), Deleted: d.byte() == 1, Expires: d.varint()})
	}
	return e
}

// DecodeEntry reads an entry, which shares the bytes.
func DecodeEntry(b []byte) (chain.Entry, error) {
	d := decoder{rest: b}
	e := d.entry()
	return e, d.end()
}

// DecodeMessage reads a message, which shares the frame's bytes.
func DecodeMessage(frame []byte) (*replica.Message, error) {
	d := decoder{rest: frame[headSize+1:]}
	m := &replica.Message{Kind: replica.Kind(d.byte()), Chain: chain.ID(d.uvarint()), Epoch: d.uvarint()}
	m.From = chain.Replica{Node: fabric.NodeID(d.bytes()), Incarnation: d.uvarint()}
	m.To = chain.Replica{Node: fabric.NodeID(d.bytes()), Incarnation: d.uvarint()}
	m.Sequence, m.Entry, m.Committed, m.Durable, m.Query = d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint(), d.uvarint()
	n := d.count(maxMany)
	m.Time = d.varint()
	for range n {
		m.Entries = append(m.Entries, d.entry())
	}
	return m, d.end()
}

func flag(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func appendBytes(b, s []byte) []byte { return append(binary.AppendUvarint(b, uint64(len(s))), s...) }

// decoder reads a body; after the first error it reads zeros.
type decoder struct {
	rest []byte
	err  error
}

func (d *decoder) fail() {
	if d.err == nil {
		d.err = fmt.Errorf("%w: frame's body is cut short or no such thing", chain.ErrCorrupt)
	}
	d.rest = nil
}

func (d *decoder) end() error {
	if len(d.rest) > 0 {
		d.fail()
	}
	return d.err
}

func (d *decoder) byte() byte {
	if len(d.rest) == 0 {
		d.fail()
		return 0
	}
	b := d.rest[0]
	d.rest = d.rest[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	n, size := binary.Uvarint(d.rest)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) varint() int64 {
	n, size := binary.Varint(d.rest)
	if size <= 0 {
		d.fail()
		return 0
	}
	d.rest = d.rest[size:]
	return n
}

func (d *decoder) uint64() uint64 {
	if len(d.rest) < 8 {
		d.fail()
		return 0
	}
	n := binary.BigEndian.Uint64(d.rest)
	d.rest = d.rest[8:]
	return n
}

// count reads how many things follow, limit at the most and each of a byte at least.
func (d *decoder) count(limit int) int {
	n := d.uvarint()
	if n > uint64(min(len(d.rest), limit)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.count(maxBody)
	b := d.rest[:n:n]
	d.rest = d.rest[n:]
	if n == 0 {
		return nil
	}
	return b
}
