package table

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/maphash"
)

// batch is how many rows Copy writes in one update.
const batch = 1000

// Copy copies tables from one database into another, in which they must be empty, and reads both again to compare. progress is called with the
// number of rows that were copied of a table; nil is allowed.
func Copy(ctx context.Context, from, to DB, schemas []*Schema, progress func(name string, rows int)) error {
	if progress == nil {
		progress = func(string, int) {}
	}
	for _, s := range schemas {
		if err := empty(ctx, to, s); err != nil {
			return err
		}
	}
	return from.View(ctx, func(source Tx) error {
		for _, s := range schemas {
			if err := copyTable(ctx, source, to, s, progress); err != nil {
				return fmt.Errorf("cannot copy table %s: %w", s.Name, err)
			}
		}
		return nil
	})
}

func empty(ctx context.Context, to DB, s *Schema) error {
	return to.View(ctx, func(tx Tx) error {
		for _, err := range tx.Scan(s, Range{Limit: 1}) {
			if err != nil {
				return err
			}
			return fmt.Errorf("cannot copy into a database that has something in table %s (use an empty one)", s.Name)
		}
		return nil
	})
}

func copyTable(ctx context.Context, source Tx, to DB, s *Schema, progress func(string, int)) error {
	var rows [][]any
	copied := 0
	flush := func() error {
		err := to.Update(ctx, func(tx Tx) error {
			for _, row := range rows {
				if err := tx.Put(s, row); err != nil {
					return err
				}
			}
			return nil
		})
		copied += len(rows)
		rows = rows[:0]
		progress(s.Name, copied)
		return err
	}
	want := digest{}
	for row, err := range source.Scan(s, Range{}) {
		if err != nil {
			return err
		}
		want.add(row)
		if rows = append(rows, row); len(rows) == batch {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	return to.View(ctx, func(tx Tx) error {
		var got digest
		for row, err := range tx.Scan(s, Range{}) {
			if err != nil {
				return err
			}
			got.add(row)
		}
		if got != want {
			return fmt.Errorf("what was written is not what is read: %d rows, not %d", got.rows, want.rows)
		}
		return nil
	})
}

var seed = maphash.MakeSeed()

// digest is over rows in order.
type digest struct {
	rows int
	sum  uint64
}

func (d *digest) add(row []any) {
	var h maphash.Hash
	h.SetSeed(seed)
	var n [8]byte
	write := func(v uint64) {
		binary.BigEndian.PutUint64(n[:], v)
		_, _ = h.Write(n[:])
	}
	write(d.sum)
	for _, v := range row {
		switch v := v.(type) {
		case int64:
			write(uint64(v))
		case string:
			write(uint64(len(v)))
			_, _ = h.WriteString(v)
		case []byte:
			write(uint64(len(v)))
			_, _ = h.Write(v)
		}
	}
	d.rows++
	d.sum = h.Sum64()
}
