package store_test

import (
	"maps"
	"math/rand/v2"
	"testing"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// TestWords: what has a word is found, until it is removed, in whatever way the orders lie in rows.
func TestWords(t *testing.T) {
	db := open(t)
	r := rand.New(rand.NewPCG(7, 7))
	want := map[int64]bool{}
	next := int64(0)
	for range 60 {
		if err := db.Update(t.Context(), func(tx table.Tx) error {
			var orders []int64
			for range 1 + r.IntN(80) {
				next += 1 + int64(r.IntN(1<<r.IntN(20)))
				orders = append(orders, next)
				want[next] = true
			}
			if err := store.AddWord(tx, 1, "tea", orders); err != nil {
				return err
			}
			if err := store.AddWord(tx, 1, "tea", orders); err != nil { // again, as after a crash
				return err
			}
			for order := range maps.Clone(want) {
				if r.IntN(20) == 0 {
					delete(want, order)
					if err := store.RemoveWord(tx, 1, "tea", order); err != nil {
						return err
					}
				}
			}
			if err := store.RemoveWord(tx, 1, "tea", next+1); err != nil {
				return err
			}
			return store.AddWord(tx, 2, "tea", orders)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Update(t.Context(), func(tx table.Tx) error { return store.AddWord(tx, 1, "teapot", []int64{5}) }); err != nil {
		t.Fatal(err)
	}
	want[5] = true
	if err := db.View(t.Context(), func(tx table.Tx) error {
		got, err := store.FindWord(tx, 1, "tea", 10)
		if err != nil {
			return err
		}
		if !maps.Equal(got, want) {
			t.Errorf("%d found, not %d", len(got), len(want))
		}
		if got, err = store.FindWord(tx, 1, "teap", 10); len(got) != 1 || err != nil {
			t.Errorf("%v %v", got, err)
		}
		if got, err = store.FindWord(tx, 1, "coffee", 10); len(got) != 0 || err != nil {
			t.Errorf("%v %v", got, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
