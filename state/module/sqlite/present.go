package sqlite

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"orrery/state"
)

// primaryKey are the columns of a table's primary key; none if it has none.
func primaryKey(ctx context.Context, pool *sql.DB, table string) (all []string, err error) {
	rows, err := pool.QueryContext(ctx, "SELECT name FROM pragma_table_info(?) WHERE pk > 0 ORDER BY pk", table)
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what went wrong
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		all = append(all, name)
	}
	return all, rows.Err()
}

// positions is where in columns the wanted ones are; nil if any is not among them.
func positions(columns, wanted []string) (all []int) {
	for _, name := range wanted {
		at := slices.Index(columns, name)
		if at < 0 {
			return nil
		}
		all = append(all, at)
	}
	return all
}

// literals appends some of the values as SQL writes them.
func literals(b []byte, values []any, which []int) []byte {
	for n, at := range which {
		if n > 0 {
			b = append(b, ", "...)
		}
		b = appendLiteral(b, values[at])
	}
	return b
}

func appendLiteral(b []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(b, "NULL"...)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case bool:
		if v {
			return append(b, '1')
		}
		return append(b, '0')
	case float64:
		return strconv.AppendFloat(b, v, 'g', -1, 64)
	case string:
		return fmt.Appendf(b, "'%s'", strings.ReplaceAll(v, "'", "''"))
	case []byte:
		return fmt.Appendf(b, "x'%x'", v)
	case time.Time:
		return fmt.Appendf(b, "'%s'", v.Format(time.RFC3339Nano))
	}
	return fmt.Append(b, value)
}

// maxTold is about how long the text of a row becomes.
const maxTold = 1 << 10

// Group implements state.Presenter.
func (*Module) Group(i state.Item) string { return i.Part }

// Name implements state.Presenter: a row is called by its primary key, or told in SQL.
func (*Module) Name(i state.Item) string {
	if i.Key != nil {
		return string(i.Key)
	}
	var b []byte
	for rest := i.Content; len(rest) > 0 && len(b) < maxTold; {
		value, after, ok := cutValue(rest)
		if !ok {
			break
		}
		if len(b) > 0 {
			b = append(b, ", "...)
		}
		b, rest = appendLiteral(b, value), after
	}
	return string(b)
}

// cutValue reads what appendValue wrote; of a long text or blob the beginning.
func cutValue(b []byte) (value any, rest []byte, ok bool) {
	kind, b := b[0], b[1:]
	switch kind {
	case 'n':
		return nil, b, true
	case 'i', 'f':
		if len(b) < 8 {
			return nil, nil, false
		}
		number := binary.BigEndian.Uint64(b)
		if kind == 'f' {
			return math.Float64frombits(number), b[8:], true
		}
		return int64(number), b[8:], true //nolint:gosec // as it was written
	}
	length, n := binary.Uvarint(b)
	if n <= 0 || uint64(len(b)-n) < length {
		return nil, nil, false
	}
	text, rest := b[n:][:length], b[n:][length:]
	text = text[:min(len(text), maxTold)]
	if kind == 'b' {
		return text, rest, true
	}
	return string(text), rest, true
}
