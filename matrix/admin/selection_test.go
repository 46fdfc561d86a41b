package admin

import (
	"cmp"
	"fmt"
	"slices"
	"testing"

	"orrery/matrix/table"
	"orrery/matrix/table/pebbledb"
)

type row struct {
	ID int64 `col:"id,key"`
}

var rowsOfTest = table.Define[row]("rows_of_test")

// TestBatches: all rows come once, in order, however many there are, and other things can be read between.
func TestBatches(t *testing.T) {
	for _, n := range []int{0, 1, batch - 1, batch, batch + 1, 2*batch + 7} {
		db, err := pebbledb.Open(pebbledb.Config{Memory: true})
		if err != nil {
			t.Fatal(err)
		}
		if err := db.Prepare(t.Context(), []*table.Schema{rowsOfTest.Schema()}); err != nil {
			t.Fatal(err)
		}
		if err := db.Update(t.Context(), func(tx table.Tx) error {
			for i := range n {
				if err := rowsOfTest.Put(tx, row{int64(i)}); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		for _, descending := range []bool{false, true} {
			var got []int64
			if err := db.View(t.Context(), func(tx table.Tx) error {
				for part, err := range batches(tx, rowsOfTest, descending, func(last row) any {
					if descending {
						return last.ID
					}
					return last.ID + 1
				}) {
					if err != nil {
						return err
					}
					if _, err := rowsOfTest.Has(tx, part[0].ID); err != nil {
						return err
					}
					for _, r := range part {
						got = append(got, r.ID)
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if descending {
				slices.Reverse(got)
			}
			if len(got) != n || !slices.IsSorted(got) || len(slices.Compact(got)) != n {
				t.Errorf("%d rows, descending %v: %d", n, descending, len(got))
			}
		}
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSelection: a part of a list is that of the whole list sorted, of which little is kept.
func TestSelection(t *testing.T) {
	type pair struct{ order, at int }
	var all []pair
	for i := range 5000 {
		all = append(all, pair{i * 7919 % 100, i})
	}
	byOrder := func(x, y pair) int { return cmp.Compare(x.order, y.order) }
	sorted := slices.Clone(all)
	slices.SortStableFunc(sorted, byOrder)
	for _, c := range []struct{ from, limit int }{{0, 10}, {0, 0}, {95, 10}, {4995, 10}, {6000, 10}, {0, 1 << 62}, {-5, 3}, {10, -1}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			in, out := newSelection[pair](c.from, c.limit, nil), newSelection(c.from, c.limit, byOrder)
			for _, p := range all {
				in.add(p)
				if out.add(p); len(out.kept) > 2*(c.from+c.limit)+batch && c.from+c.limit < len(all) && c.from >= 0 && c.limit >= 0 {
					t.Fatalf("%d are kept", len(out.kept))
				}
			}
			if !slices.Equal(in.part(), part(all, c.from, c.limit)) || !slices.Equal(out.part(), part(sorted, c.from, c.limit)) || in.total != len(all) || out.total != len(all) {
				t.Errorf("%v %v", in.part(), out.part())
			}
		})
	}
}
