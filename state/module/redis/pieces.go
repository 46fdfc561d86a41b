package redis

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"

	"orrery/state"
	"orrery/state/module/redis/rdb"
)

// A key is sorted in pieces. A piece's place begins with what it is, so that what is said of the whole key comes first;
// an element's goes on with what orders it.
const (
	placeType    = 't' // value: the type, a byte
	placeExpiry  = 'u' // value: the time, 8 bytes
	placeEntry   = 'v' // of a stream that nothing else is said of: the place goes on with an id that was added
	placeStream  = 'w' // value: last id, greatest deleted id, number of entries ever added: 40 bytes
	placeElement = 'x'
)

// pieces feeds a sorter with keys.
type pieces struct {
	out   *sorter
	db    uint64
	skip  string // what the names of wanted keys begin with, which is left out
	now   int64  // keys that expired before are left out
	key   []byte
	kind  rdb.Type
	gone  bool   // the key has expired
	count uint64 // orders the elements of lists
	place []byte
}

var _ rdb.Sink = (*pieces)(nil)

// Wants implements rdb.Sink.
func (p *pieces) Wants(db uint64, key []byte) bool {
	return db == p.db && len(key) >= len(p.skip) && string(key[:len(p.skip)]) == p.skip
}

// Key implements rdb.Sink.
func (p *pieces) Key(key []byte, kind rdb.Type, expiry int64) error {
	p.key, p.kind = append(p.key[:0], key[len(p.skip):]...), kind
	if p.gone = expiry != 0 && expiry <= p.now; p.gone {
		return nil
	}
	if err := p.piece(placeType, []byte{byte(kind)}); err != nil || expiry == 0 {
		return err
	}
	return p.piece(placeExpiry, binary.BigEndian.AppendUint64(nil, uint64(expiry))) //nolint:gosec // and back
}

func (p *pieces) piece(place byte, value []byte) error {
	return p.out.add(record{p.key, []byte{place}, value})
}

// Element implements rdb.Sink.
func (p *pieces) Element(e rdb.Element) error {
	if p.gone {
		return nil
	}
	p.place = append(p.place[:0], placeElement)
	value := e.Value
	switch p.kind {
	case rdb.List:
		p.count++
		p.place = binary.BigEndian.AppendUint64(p.place, p.count)
	case rdb.Set, rdb.Hash:
		p.place = append(p.place, e.Name...)
	case rdb.ZSet:
		p.place = append(p.place, e.Name...)
		value = appendScore(nil, e.Score)
	case rdb.Stream:
		p.place = appendID(p.place, e.ID)
		value = packFields(e.Fields)
	case rdb.String:
	}
	return p.out.add(record{p.key, p.place, value})
}

// Stream implements rdb.Sink.
func (p *pieces) Stream(info rdb.StreamInfo) error {
	if p.gone {
		return nil
	}
	b := appendID(appendID(nil, info.Last), info.MaxDeleted)
	return p.piece(placeStream, binary.BigEndian.AppendUint64(b, info.Added))
}

func appendID(b []byte, id rdb.ID) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, id.Milliseconds), id.Sequence)
}

func cutID(b []byte) (rdb.ID, []byte) {
	return rdb.ID{Milliseconds: binary.BigEndian.Uint64(b), Sequence: binary.BigEndian.Uint64(b[8:])}, b[16:]
}

// appendScore writes a score as short as it can be read back, in a way that servers read.
func appendScore(b []byte, score float64) []byte {
	switch {
	case math.IsInf(score, 1):
		return append(b, "inf"...)
	case math.IsInf(score, -1):
		return append(b, "-inf"...)
	case score == 0: // whether a server keeps the sign of zero depends on the encoding
		return append(b, '0')
	}
	return strconv.AppendFloat(b, score, 'g', -1, 64)
}

// packFields makes one value of an entry's fields: each is its length, a space, itself and a space.
func packFields(fields [][]byte) []byte {
	var b []byte
	for _, f := range fields {
		b = strconv.AppendInt(b, int64(len(f)), 10)
		b = append(append(append(b, ' '), f...), ' ')
	}
	return b
}

func unpackFields(b []byte) ([][]byte, error) {
	bad := fmt.Errorf("%w: the fields of a stream's entry are damaged", state.ErrCorrupt)
	var fields [][]byte
	for len(b) > 0 {
		end := slices.Index(b, ' ')
		if end < 0 {
			return nil, bad
		}
		n, ok := number(b[:end])
		if !ok || n >= uint64(len(b)-end-1) || b[end+1+int(n)] != ' ' { //nolint:gosec // less than a length
			return nil, bad
		}
		fields = append(fields, b[end+1:end+1+int(n)]) //nolint:gosec // likewise
		b = b[end+2+int(n):]                           //nolint:gosec // likewise
	}
	if len(fields) == 0 || len(fields)%2 != 0 {
		return nil, bad
	}
	return fields, nil
}

// number reads a decimal number in the only way in which it is written.
func number(b []byte) (uint64, bool) {
	n, err := strconv.ParseUint(string(b), 10, 64)
	return n, err == nil && (len(b) == 1 || b[0] != '0') && b[0] != '+'
}
