package pebbledb

import (
	"encoding/binary"
	"errors"
	"fmt"

	"orrery/matrix/table"
)

// In keys an integer is 8 bytes, big endian, with the sign turned so that negative ones come first. A text or bytes are themselves with 0 as 0 255,
// and end with 0 1.

func appendValues(k []byte, values []any) []byte {
	for _, v := range values {
		k = appendValue(k, v)
	}
	return k
}

func appendValue(k []byte, v any) []byte {
	switch v := v.(type) {
	case int64:
		return binary.BigEndian.AppendUint64(k, uint64(v)^1<<63)
	case int:
		return binary.BigEndian.AppendUint64(k, uint64(v)^1<<63)
	case string:
		return appendText(k, v)
	case []byte:
		return appendText(k, v)
	}
	panic(fmt.Sprintf("a column cannot be of type %T", v))
}

func appendText[T string | []byte](k []byte, v T) []byte {
	for i := range len(v) {
		if k = append(k, v[i]); v[i] == 0 {
			k = append(k, 255)
		}
	}
	return append(k, 0, 1)
}

// after is the least key that is greater than all that begin with a prefix.
func after(prefix []byte) []byte {
	end := append([]byte{}, prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}

var errDamaged = errors.New("a row is damaged")

func decodeKey(s *table.Schema, order []int, k []byte) ([]any, error) {
	values := make([]any, len(order))
	for i, column := range order {
		if s.Columns[column].Kind == table.Int {
			if len(k) < 8 {
				return nil, errDamaged
			}
			values[i], k = int64(binary.BigEndian.Uint64(k)^1<<63), k[8:]
			continue
		}
		text, rest, ok := cutText(k)
		if !ok {
			return nil, errDamaged
		}
		if k = rest; s.Columns[column].Kind == table.Text {
			values[i] = string(text)
		} else {
			values[i] = text
		}
	}
	return values, nil
}

func cutText(k []byte) (text, rest []byte, ok bool) {
	text = []byte{}
	for i := 0; i+1 < len(k); i++ {
		switch {
		case k[i] != 0:
			text = append(text, k[i])
		case k[i+1] == 255:
			text = append(text, 0)
			i++
		default:
			return text, k[i+2:], k[i+1] == 1
		}
	}
	return nil, nil, false
}

// A row's value has the columns that are not its key: integers as varints, the others with their lengths before them. Columns that were added later
// are missing at its end.

func encodeRow(s *table.Schema, row []any) []byte {
	var out []byte
	for i := s.Key; i < len(s.Columns); i++ {
		switch v := row[i].(type) {
		case int64:
			out = binary.AppendVarint(out, v)
		case string:
			out = append(binary.AppendUvarint(out, uint64(len(v))), v...)
		case []byte:
			out = append(binary.AppendUvarint(out, uint64(len(v))), v...)
		}
	}
	return out
}

func decodeRow(s *table.Schema, key []any, b []byte) ([]any, error) {
	row := make([]any, len(s.Columns))
	for i := range key {
		switch v := key[i].(type) {
		case int:
			row[i] = int64(v)
		default:
			row[i] = v
		}
	}
	for i := s.Key; i < len(s.Columns); i++ {
		kind := s.Columns[i].Kind
		if kind == table.Int {
			v, n := binary.Varint(b)
			if len(b) > 0 && n <= 0 {
				return nil, errDamaged
			}
			row[i], b = v, b[max(n, 0):]
			continue
		}
		size, n := binary.Uvarint(b)
		if len(b) > 0 && (n <= 0 || size > uint64(len(b)-n)) {
			return nil, errDamaged
		}
		b = b[max(n, 0):]
		if kind == table.Text {
			row[i] = string(b[:size])
		} else {
			row[i] = append([]byte{}, b[:size]...)
		}
		b = b[size:]
	}
	if len(b) > 0 {
		return nil, errDamaged
	}
	return row, nil
}
