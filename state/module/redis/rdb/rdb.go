// Package rdb reads the format in which Redis 7 and newer save their data and send it to replicas.
//
// Read visits the keys of one database and what they hold, decoded: whatever the encoding in which a server kept a
// list, its elements are the same. The order is the server's. One element at a time is in memory, or one of the
// small packed values (listpack, intset), of which servers bound the size.
//
// What it does not know, it refuses; of keys that the sink does not want it refuses only what cannot be skipped.
package rdb

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// ErrFormat says that something is not of the format, is damaged, or ends in the middle.
var ErrFormat = errors.New("malformed RDB")

// ErrUnknown says that something is not a value that this package knows, such as one of a module.
var ErrUnknown = errors.New("unsupported value")

// Type is what a key holds.
type Type byte

// The types of values.
const (
	String Type = iota + 1
	List
	Set
	Hash
	ZSet
	Stream
)

// Element is a part of a value. Its slices are valid during the call only.
type Element struct {
	Name  []byte  // a member of a set or sorted set, a field of a hash
	Value []byte  // a string, an element of a list, a field's value
	Score float64 // in a sorted set; never NaN
	// In a stream.
	ID     ID
	Fields [][]byte // names and values in turns
}

// ID identifies an entry of a stream.
type ID struct{ Milliseconds, Sequence uint64 }

// StreamInfo is what a stream has besides its entries.
type StreamInfo struct {
	Last, MaxDeleted ID
	Added            uint64 // how many entries were ever added
}

// Sink is told what is read.
type Sink interface {
	// Wants says whether a key is to be told. The others are skipped.
	Wants(db uint64, key []byte) bool
	// Key begins a key. Expiry is in milliseconds since 1970, 0 for none.
	Key(key []byte, t Type, expiry int64) error
	// Element is a part of that key's value; of a list in its order.
	Element(e Element) error
	// Stream ends a stream.
	Stream(info StreamInfo) error
}

// The operations between keys.
const (
	opSlotInfo  = 244
	opFunction  = 245
	opModuleAux = 247
	opIdle      = 248
	opFreq      = 249
	opAux       = 250
	opResize    = 251
	opExpireMS  = 252
	opExpireS   = 253
	opDatabase  = 254
	opEOF       = 255
)

const (
	magic      = "REDIS"
	minVersion = 9
)

// decoder is a position in an RDB.
type decoder struct {
	input
	sink   Sink
	db     uint64
	expiry int64
	key    []byte
	wanted bool // whether the sink is told what is read now
}

// Read reads one RDB and nothing after it. An error of the sink ends it.
func Read(r *bufio.Reader, sink Sink) error {
	d := &decoder{input: input{r: r}, sink: sink}
	if err := d.header(); err != nil {
		return err
	}
	for {
		op, err := d.byte()
		if err != nil {
			return err
		}
		if op == opEOF {
			return d.footer()
		}
		if err := d.operation(op); err != nil {
			return err
		}
	}
}

func (d *decoder) header() error {
	head, err := d.bytes(len(magic) + 4)
	if err != nil {
		return err
	}
	version, err := strconv.Atoi(string(head[len(magic):]))
	if string(head[:len(magic)]) != magic || err != nil || version < minVersion {
		return fmt.Errorf("%w: it begins with %q, which no RDB of Redis 7 or newer does", ErrFormat, head)
	}
	return nil
}

// footer compares the checksum; a server that computes none says zero.
func (d *decoder) footer() error {
	sum := d.crc
	b, err := d.bytes(8)
	if err != nil {
		return err
	}
	if said := binary.LittleEndian.Uint64(b); said != 0 && said != sum {
		return fmt.Errorf("%w: its checksum is %016x and should be %016x", ErrFormat, sum, said)
	}
	return nil
}

func (d *decoder) operation(op byte) error {
	switch op {
	case opDatabase:
		n, err := d.length()
		d.db = n
		return err
	case opExpireMS:
		b, err := d.bytes(8)
		if err == nil {
			d.expiry = int64(binary.LittleEndian.Uint64(b)) //nolint:gosec // the server's own conversion
		}
		return err
	case opExpireS:
		b, err := d.bytes(4)
		if err == nil {
			d.expiry = int64(binary.LittleEndian.Uint32(b)) * 1000
		}
		return err
	case opFreq:
		return d.skip(1)
	case opIdle:
		return d.lengths(1)
	case opResize:
		return d.lengths(2)
	case opSlotInfo:
		return d.lengths(3)
	case opAux:
		return d.skipStrings(2)
	case opFunction: // of the whole server
		return d.skipStrings(1)
	case opModuleAux:
		if err := d.lengths(3); err != nil { // module, and when
			return err
		}
		return d.skipModule()
	}
	return d.pair(op)
}

// pair reads a key and its value.
func (d *decoder) pair(kind byte) error {
	key, err := d.string()
	if err != nil {
		return err
	}
	d.key = append(d.key[:0], key...)
	d.wanted = d.sink.Wants(d.db, d.key)
	expiry := d.expiry
	d.expiry = 0
	t, err := d.known(kind)
	if err != nil {
		return err
	}
	if d.wanted {
		if err := d.sink.Key(d.key, t, expiry); err != nil {
			return err
		}
	}
	return d.value(kind)
}

// emit tells the sink an element.
func (d *decoder) emit(e Element) error {
	if !d.wanted {
		return nil
	}
	return d.sink.Element(e)
}

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrFormat, what) }

// ended says what an end in the middle means.
func ended(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return malformed("it ends in the middle")
	}
	return err
}
