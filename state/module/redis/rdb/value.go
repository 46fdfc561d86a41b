package rdb

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// The kinds of values in an RDB: a type and an encoding.
const (
	kindString         = 0
	kindSet            = 2
	kindHash           = 4
	kindZSet           = 5
	kindModule         = 7
	kindSetIntegers    = 11
	kindHashPack       = 16
	kindZSetPack       = 17
	kindList           = 18
	kindStream2        = 19 // Redis 7.0
	kindSetPack        = 20
	kindStream3        = 21
	kindHashExpiry     = 24 // Redis 7.4: fields that expire
	kindHashPackExpiry = 25
)

// known returns the type of a kind, or refuses what the sink wants and cannot be told.
func (d *decoder) known(kind byte) (Type, error) {
	switch kind {
	case kindString:
		return String, nil
	case kindList:
		return List, nil
	case kindSet, kindSetIntegers, kindSetPack:
		return Set, nil
	case kindHash, kindHashPack:
		return Hash, nil
	case kindZSet, kindZSetPack:
		return ZSet, nil
	case kindStream2, kindStream3:
		return Stream, nil
	case kindHashExpiry, kindHashPackExpiry:
		if d.wanted {
			return 0, fmt.Errorf("%w: fields of hash %q expire, which is not supported (HPERSIST them, or delete the key)", ErrUnknown, d.key)
		}
		return Hash, nil
	case kindModule:
		return 0, d.module()
	}
	return 0, fmt.Errorf("%w: key %q has an encoding (%d) that is not known", ErrUnknown, d.key, kind)
}

// module refuses the value of a module by name. One that is not wanted is left for value to skip.
func (d *decoder) module() error {
	if !d.wanted {
		return nil
	}
	id, err := d.length()
	if err != nil {
		return err
	}
	return fmt.Errorf("%w: key %q is of type %q, which a module of the server provides (delete the key, or keep it in another database)", ErrUnknown, d.key, moduleType(id))
}

// moduleType spells a module's type: nine characters of six bits, before ten bits of a version.
func moduleType(id uint64) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	name := make([]byte, 9)
	id >>= 10
	for i := range name {
		name[len(name)-1-i] = letters[id&63]
		id >>= 6
	}
	return string(name)
}

func (d *decoder) value(kind byte) error {
	switch kind {
	case kindString:
		return d.plain(func(value []byte) error { return d.emit(Element{Value: value}) })
	case kindList:
		return d.list()
	case kindSet:
		return d.many(1, func(v [][]byte) error { return d.emit(Element{Name: v[0]}) })
	case kindHash:
		return d.many(2, func(v [][]byte) error { return d.emit(Element{Name: v[0], Value: v[1]}) })
	case kindZSet:
		return d.sorted()
	case kindSetIntegers:
		return d.plain(d.integers)
	case kindSetPack:
		return d.packed(1, func(v [][]byte) error { return d.emit(Element{Name: v[0]}) })
	case kindHashPack:
		return d.packed(2, func(v [][]byte) error { return d.emit(Element{Name: v[0], Value: v[1]}) })
	case kindZSetPack:
		return d.packed(2, d.scored)
	case kindStream2, kindStream3:
		return d.stream(kind)
	}
	return d.skipValue(kind)
}

// skipValue skips what is never told.
func (d *decoder) skipValue(kind byte) error {
	switch kind {
	case kindModule:
		if err := d.lengths(1); err != nil {
			return err
		}
		return d.skipModule()
	case kindHashPackExpiry:
		if err := d.skip(8); err != nil {
			return err
		}
		return d.skipStrings(1)
	}
	if err := d.skip(8); err != nil { // when the first field expires
		return err
	}
	n, err := d.length()
	for ; err == nil && n > 0; n-- {
		if err = d.lengths(1); err == nil { // when this one does
			err = d.skipStrings(2)
		}
	}
	return err
}

// plain reads a string if it is wanted.
func (d *decoder) plain(tell func([]byte) error) error {
	if !d.wanted {
		return d.skipStrings(1)
	}
	value, err := d.string()
	if err != nil {
		return err
	}
	return tell(value)
}

// packed reads a string that is a listpack.
func (d *decoder) packed(group int, tell func([][]byte) error) error {
	return d.plain(func(b []byte) error { return each(b, group, tell) })
}

// many reads a number of groups of strings.
func (d *decoder) many(group int, tell func([][]byte) error) error {
	n, err := d.length()
	if err != nil {
		return err
	}
	values := make([][]byte, group)
	for ; n > 0; n-- {
		if !d.wanted {
			if err := d.skipStrings(group); err != nil {
				return err
			}
			continue
		}
		for i := range values {
			if values[i], err = d.string(); err != nil {
				return err
			}
		}
		if err := tell(values); err != nil {
			return err
		}
	}
	return nil
}

// The containers of a list's nodes.
const (
	nodePlain  = 1
	nodePacked = 2
)

func (d *decoder) list() error {
	n, err := d.length()
	if err != nil {
		return err
	}
	one := func(value []byte) error { return d.emit(Element{Value: value}) }
	for ; n > 0; n-- {
		container, err := d.length()
		switch {
		case err != nil:
			return err
		case container == nodePlain:
			err = d.plain(one)
		case container == nodePacked:
			err = d.packed(1, func(v [][]byte) error { return one(v[0]) })
		default:
			err = malformed("a list has a node of an unknown form")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) sorted() error {
	n, err := d.length()
	if err != nil {
		return err
	}
	for ; n > 0; n-- {
		var member []byte
		if d.wanted {
			member, err = d.string()
		} else {
			err = d.skipStrings(1)
		}
		if err != nil {
			return err
		}
		b, err := d.bytes(8)
		if err != nil {
			return err
		}
		if err := d.score(member, math.Float64frombits(binary.LittleEndian.Uint64(b))); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) scored(v [][]byte) error {
	score, err := strconv.ParseFloat(string(v[1]), 64)
	if err != nil {
		return malformed("a score is not a number")
	}
	return d.score(v[0], score)
}

func (d *decoder) score(member []byte, score float64) error {
	if math.IsNaN(score) {
		return malformed("a score is not a number")
	}
	return d.emit(Element{Name: member, Score: score})
}

// integers reads a set of which all members are numbers: their size, how many, and they.
func (d *decoder) integers(b []byte) error {
	bad := malformed("a set of integers is damaged")
	if len(b) < 8 {
		return bad
	}
	size, count := binary.LittleEndian.Uint32(b), binary.LittleEndian.Uint32(b[4:])
	b = b[8:]
	if size != 2 && size != 4 && size != 8 || uint64(len(b)) != uint64(size)*uint64(count) {
		return bad
	}
	for ; len(b) > 0; b = b[size:] {
		if err := d.emit(Element{Name: strconv.AppendInt(nil, littleEndian(b[:size]), 10)}); err != nil {
			return err
		}
	}
	return nil
}

// The pieces of a module's value.
const (
	pieceEnd      = 0
	pieceSigned   = 1
	pieceUnsigned = 2
	pieceFloat    = 3
	pieceDouble   = 4
	pieceString   = 5
)

func (d *decoder) skipModule() error {
	for {
		piece, err := d.length()
		if err != nil || piece == pieceEnd {
			return err
		}
		switch piece {
		case pieceSigned, pieceUnsigned:
			err = d.lengths(1)
		case pieceFloat:
			err = d.skip(4)
		case pieceDouble:
			err = d.skip(8)
		case pieceString:
			err = d.skipStrings(1)
		default:
			err = malformed("a module's value has a piece of an unknown form")
		}
		if err != nil {
			return err
		}
	}
}
