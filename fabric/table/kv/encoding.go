package kv

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"orrery/fabric"
)

// Every encoding begins with a version, so that a later one can be told apart. DESIGN.md of the table has the formats.
const (
	version        = 1
	versionSealed  = 2 // of what has SealKey, so that a program that does not know what it means refuses it
	sessionVersion = 1
)

// versionOf is the version of a command or an entry.
func versionOf(key string) byte {
	if key == SealKey {
		return versionSealed
	}
	return version
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode returns the command as the log holds it.
func (c Command) Encode() []byte {
	b := make([]byte, 0, 2+8+5*binary.MaxVarintLen64+len(c.Key)+len(c.Value))
	b = append(b, versionOf(c.Key), byte(c.Op))
	b = binary.BigEndian.AppendUint64(b, c.Client)
	b = binary.AppendUvarint(b, c.Incarnation)
	b = binary.AppendUvarint(b, c.Sequence)
	b = binary.AppendUvarint(b, c.Floor)
	b = binary.AppendUvarint(b, c.Expect)
	b = appendBytes(b, c.Key)
	return append(b, c.Value...)
}

// DecodeCommand reads what Encode wrote. The value is a part of encoded.
func DecodeCommand(encoded []byte) (Command, error) {
	d := decoder{rest: encoded}
	version := d.byte()
	c := Command{
		Op:          Op(d.byte()),
		Client:      d.fixed64(),
		Incarnation: d.uvarint(),
		Sequence:    d.uvarint(),
		Floor:       d.uvarint(),
		Expect:      d.uvarint(),
		Key:         string(d.bytes()),
	}
	c.Value = d.rest
	if d.bad || version != versionOf(c.Key) || c.Op < OpPut || c.Op > OpDelete {
		return Command{}, fmt.Errorf("%w: command of %d bytes", ErrBadEncoding, len(encoded))
	}
	if err := Check(c.Key, c.Value); err != nil {
		return Command{}, fmt.Errorf("%w: command: %w", ErrBadEncoding, err)
	}
	return c, nil
}

// EncodeEntry returns what is stored of an entry beside its key.
func EncodeEntry(e fabric.Entry) []byte {
	b := make([]byte, 0, 1+binary.MaxVarintLen64+len(e.Value))
	b = append(b, versionOf(e.Key))
	b = binary.AppendUvarint(b, e.Revision)
	return append(b, e.Value...)
}

// LoadEntry puts a stored entry into a machine that is being read from disk. The machine keeps encoded.
func (m *Machine) LoadEntry(key string, encoded []byte) error {
	d := decoder{rest: encoded}
	d.version(versionOf(key))
	e := fabric.Entry{Key: key, Revision: d.uvarint()}
	e.Value = d.rest
	if d.bad || e.Revision == 0 || Check(key, e.Value) != nil {
		return fmt.Errorf("%w: entry of key %q", ErrBadEncoding, key)
	}
	if e.Value == nil {
		e.Value = []byte{}
	}
	m.set(e)
	return nil
}

// EncodeSession returns what is stored of a client's session; nil if there is none.
func (m *Machine) EncodeSession(client uint64) []byte {
	s := m.sessions[client]
	if s == nil {
		return nil
	}
	b := []byte{sessionVersion}
	b = binary.AppendUvarint(b, s.Incarnation)
	b = binary.AppendUvarint(b, s.Floor)
	b = binary.AppendUvarint(b, uint64(len(s.Results)))
	for _, sequence := range slices.Sorted(maps.Keys(s.Results)) {
		r := s.Results[sequence]
		b = binary.AppendUvarint(b, sequence)
		b = append(b, byte(r.Outcome))
		b = binary.AppendUvarint(b, r.Revision)
	}
	return b
}

// LoadSession puts a stored session into a machine that is being read from disk.
func (m *Machine) LoadSession(client uint64, encoded []byte) error {
	d := decoder{rest: encoded}
	d.version(sessionVersion)
	s := &Session{Incarnation: d.uvarint(), Floor: d.uvarint(), Results: map[uint64]Result{}}
	for range d.uvarint() {
		sequence := d.uvarint()
		s.Results[sequence] = Result{Outcome: Outcome(d.byte()), Revision: d.uvarint()}
		if d.bad {
			break
		}
	}
	if d.bad || len(d.rest) != 0 {
		return fmt.Errorf("%w: session of client %016x", ErrBadEncoding, client)
	}
	m.sessions[client] = s
	return nil
}

// LoadRevision sets the revision of a machine that is being read from disk.
func (m *Machine) LoadRevision(revision uint64) { m.revision = revision }

// Sessions lists the clients that the machine remembers, sorted.
func (m *Machine) Sessions() []uint64 { return slices.Sorted(maps.Keys(m.sessions)) }

// Snapshot returns the whole machine as bytes; equal machines give equal bytes.
func (m *Machine) Snapshot() []byte {
	b := make([]byte, 0, m.size+32*len(m.keys)+1024)
	b = append(b, m.version())
	b = binary.AppendUvarint(b, m.revision)
	b = binary.AppendUvarint(b, uint64(len(m.keys)))
	for _, key := range m.keys {
		e := m.entries[key]
		b = appendBytes(b, key)
		b = binary.AppendUvarint(b, e.Revision)
		b = appendBytes(b, e.Value)
	}
	b = binary.AppendUvarint(b, uint64(len(m.sessions)))
	for _, client := range m.Sessions() {
		b = binary.BigEndian.AppendUint64(b, client)
		b = appendBytes(b, m.EncodeSession(client))
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// Restore returns the machine that Snapshot was called on. The machine keeps snapshot.
func Restore(snapshot []byte) (*Machine, error) {
	if len(snapshot) < 4 {
		return nil, fmt.Errorf("%w: snapshot of %d bytes", ErrBadEncoding, len(snapshot))
	}
	body := snapshot[:len(snapshot)-4]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(snapshot[len(body):]) {
		return nil, fmt.Errorf("%w: snapshot of %d bytes does not match its checksum", ErrBadEncoding, len(snapshot))
	}
	m := New()
	d := decoder{rest: body}
	version := d.byte()
	m.revision = d.uvarint()
	m.decodeEntries(&d)
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		client := d.fixed64()
		if err := m.LoadSession(client, d.bytes()); err != nil {
			return nil, err
		}
	}
	if d.bad || version != m.version() || len(d.rest) != 0 {
		return nil, fmt.Errorf("%w: snapshot of %d bytes", ErrBadEncoding, len(snapshot))
	}
	return m, nil
}

// version is the version of the machine's snapshot.
func (m *Machine) version() byte {
	if _, ok := m.entries[SealKey]; ok {
		return versionSealed
	}
	return version
}

func (m *Machine) decodeEntries(d *decoder) {
	previous := ""
	for n := d.uvarint(); n > 0 && !d.bad; n-- {
		e := fabric.Entry{Key: string(d.bytes()), Revision: d.uvarint(), Value: d.bytes()}
		// Sorted and distinct keys make the encoding of a machine the only one.
		if e.Key <= previous || e.Revision == 0 || e.Revision > m.revision || Check(e.Key, e.Value) != nil {
			d.bad = true
		}
		if d.bad {
			return
		}
		previous = e.Key
		m.set(e)
	}
}

func appendBytes[T string | []byte](b []byte, v T) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// decoder reads values one after the other; bad stays true once anything was wrong.
type decoder struct {
	rest []byte
	bad  bool
}

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.rest)) {
		d.bad = true
		return nil
	}
	taken := d.rest[:n:n]
	d.rest = d.rest[n:]
	return taken
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) version(want byte) {
	if d.byte() != want {
		d.bad = true
	}
}

func (d *decoder) fixed64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
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

func (d *decoder) bytes() []byte { return d.take(d.uvarint()) }
