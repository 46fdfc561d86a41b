package mysql

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"orrery/state"
)

// columns are those of a table that has generated ones: MariaDB's tool writes the values of MySQL's generated columns,
// which no server takes.
type columns struct {
	names     []string
	generated []bool
}

// generatedColumns finds the tables of a database that have generated columns.
func (d *database) generatedColumns(ctx context.Context, name string) (map[string]columns, error) {
	rows, err := d.conn.QueryContext(ctx, `select table_name, column_name, coalesce(generation_expression, '') <> '' from information_schema.columns where table_schema = ?
		and table_name in (select table_name from information_schema.columns where table_schema = ? and coalesce(generation_expression, '') <> '')
		order by table_name, ordinal_position`, name, name)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err says what was wrong
	all := map[string]columns{}
	for rows.Next() {
		var table, column string
		var generated bool
		if err := rows.Scan(&table, &column, &generated); err != nil {
			return nil, err
		}
		c := all[table]
		all[table] = columns{append(c.names, column), append(c.generated, generated)}
	}
	return all, rows.Err()
}

// without is an INSERT without the values of generated columns, as MySQL's own tool writes it.
func (c columns) without(text []byte) ([]byte, error) {
	head, values, err := cutInsert(text)
	if err != nil || bytes.IndexByte(head, '(') >= 0 {
		return text, err
	}
	var names []string
	for i, name := range c.names {
		if !c.generated[i] {
			names = append(names, quote(name))
		}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s(%s) VALUES", bytes.TrimSuffix(head, []byte("VALUES")), strings.Join(names, ", "))
	separator := " ("
	err = eachRow(values, func(row []byte) error {
		kept, err := c.kept(row)
		if err != nil {
			return err
		}
		b.WriteString(separator)
		b.Write(bytes.Join(kept, []byte(",")))
		separator = "),("
		return nil
	})
	b.WriteByte(')')
	return b.Bytes(), err
}

// kept are the values of a row but those of generated columns.
func (c columns) kept(row []byte) ([][]byte, error) {
	var all [][]byte
	n, from := 0, 1
	for i := 1; i < len(row); i++ {
		switch row[i] {
		case '\'', '"':
			i += quotedLength(row[i:]) - 1
		case ',', ')':
			if n < len(c.generated) && !c.generated[n] {
				all = append(all, row[from:i])
			}
			n, from = n+1, i+1
		}
	}
	if n != len(c.names) {
		return nil, fmt.Errorf("%w: a row has %d values for %d columns: %.60q", state.ErrCorrupt, n, len(c.names), row)
	}
	return all, nil
}
