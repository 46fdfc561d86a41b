package rdb

import (
	"encoding/binary"
	"fmt"
)

// The flags of a stream's entry.
const (
	entryDeleted    = 1
	entrySameFields = 2
)

// stream reads entries in listpacks, what the stream knows of itself, and its consumer groups.
func (d *decoder) stream(kind byte) error {
	n, err := d.length()
	if err != nil {
		return err
	}
	var told uint64
	for ; n > 0; n-- {
		if !d.wanted {
			if err := d.skipStrings(2); err != nil {
				return err
			}
			continue
		}
		if err := d.entries(&told); err != nil {
			return err
		}
	}
	length, err := d.length()
	if err != nil {
		return err
	}
	if d.wanted && length != told {
		return malformed(fmt.Sprintf("stream %q has %d entries and says %d", d.key, told, length))
	}
	info, err := d.streamInfo()
	if err != nil {
		return err
	}
	if err := d.groups(kind); err != nil || !d.wanted {
		return err
	}
	return d.sink.Stream(info)
}

func (d *decoder) streamInfo() (info StreamInfo, err error) {
	var first ID // known from the entries
	for _, to := range []*uint64{
		&info.Last.Milliseconds, &info.Last.Sequence, &first.Milliseconds, &first.Sequence,
		&info.MaxDeleted.Milliseconds, &info.MaxDeleted.Sequence, &info.Added,
	} {
		if *to, err = d.length(); err != nil {
			return info, err
		}
	}
	return info, nil
}

// entries reads a listpack of entries: first the one that the others are written relative to.
func (d *decoder) entries(told *uint64) error {
	key, err := d.string()
	if err != nil {
		return err
	}
	b, err := d.string()
	if err != nil {
		return err
	}
	if len(key) != 16 {
		return malformed("the id of a stream's entries is not 16 bytes long")
	}
	p, err := newPack(b)
	if err != nil {
		return err
	}
	e := entryReader{pack: p, master: ID{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}}
	total, err := e.begin()
	for ; err == nil && total > 0; total-- {
		var one Element
		var deleted bool
		if one, deleted, err = e.read(); err == nil && !deleted {
			*told++
			err = d.emit(one)
		}
	}
	return err
}

type entryReader struct {
	*pack
	master ID
	fields [][]byte // the names of the master entry's
}

// begin reads the master entry and returns how many entries follow.
func (e *entryReader) begin() (total int64, err error) {
	var counts [3]int64
	for i := range counts { // present, deleted, fields
		if counts[i], err = e.integer(); err != nil {
			return 0, err
		}
		if counts[i] < 0 {
			return 0, malformed("a stream has a negative number of entries or fields")
		}
	}
	for range counts[2] {
		name, err := e.must()
		if err != nil {
			return 0, err
		}
		e.fields = append(e.fields, name)
	}
	if _, err := e.integer(); err != nil { // the master entry's own end
		return 0, err
	}
	return counts[0] + counts[1], nil
}

func (e *entryReader) read() (one Element, deleted bool, err error) {
	var head [3]int64
	for i := range head { // flags, and the difference of the id
		if head[i], err = e.integer(); err != nil {
			return one, false, err
		}
	}
	one.ID = ID{e.master.Milliseconds + uint64(head[1]), e.master.Sequence + uint64(head[2])} //nolint:gosec // the server's own conversion
	if head[0]&entrySameFields != 0 {
		err = e.values(&one)
	} else {
		err = e.pairs(&one)
	}
	if err == nil {
		_, err = e.integer() // how many elements the entry has, for reading backwards
	}
	return one, head[0]&entryDeleted != 0, err
}

func (e *entryReader) values(one *Element) error {
	for _, name := range e.fields {
		value, err := e.must()
		if err != nil {
			return err
		}
		one.Fields = append(one.Fields, name, value)
	}
	return nil
}

func (e *entryReader) pairs(one *Element) error {
	n, err := e.integer()
	for ; err == nil && n > 0; n-- {
		for range 2 {
			value, err := e.must()
			if err != nil {
				return err
			}
			one.Fields = append(one.Fields, value)
		}
	}
	return err
}

// groups refuses the consumer groups of a stream that is wanted and skips those of others.
func (d *decoder) groups(kind byte) error {
	n, err := d.length()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		name, err := d.string()
		if err != nil {
			return err
		}
		if d.wanted {
			return fmt.Errorf("%w: stream %q has the consumer group %q, whose pending entries a snapshot cannot keep (XGROUP DESTROY it, or keep the stream in another database)",
				ErrUnknown, d.key, name)
		}
		if err := d.skipGroup(kind); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) skipGroup(kind byte) error {
	if err := d.lengths(3); err != nil { // the last id, and how many were read
		return err
	}
	pending, err := d.length()
	for ; err == nil && pending > 0; pending-- {
		if err = d.skip(16 + 8); err == nil { // id and time
			err = d.lengths(1)
		}
	}
	if err != nil {
		return err
	}
	consumers, err := d.length()
	for ; err == nil && consumers > 0; consumers-- {
		err = d.skipConsumer(kind)
	}
	return err
}

func (d *decoder) skipConsumer(kind byte) error {
	if err := d.skipStrings(1); err != nil {
		return err
	}
	times := uint64(8) // when it was seen
	if kind == kindStream3 {
		times = 16 // and when it last got something
	}
	if err := d.skip(times); err != nil {
		return err
	}
	pending, err := d.length()
	for ; err == nil && pending > 0; pending-- {
		err = d.skip(16)
	}
	return err
}
