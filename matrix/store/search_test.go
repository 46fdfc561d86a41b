package store_test

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"orrery/internal/testenv"
	"orrery/matrix/store"
	"orrery/matrix/table"
	"orrery/matrix/table/pebbledb"
	"orrery/matrix/table/sqldb"
)

// everywhere runs a test on every kind of database.
func everywhere(t *testing.T, f func(t *testing.T, db table.DB)) {
	t.Helper()
	for name, open := range map[string]func(t *testing.T) (table.DB, error){
		"SQLite": func(t *testing.T) (table.DB, error) {
			t.Helper()
			return sqldb.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
		},
		"PostgreSQL": func(t *testing.T) (table.DB, error) {
			t.Helper()
			return sqldb.Open(t.Context(), testenv.PostgreSQL(t).NewDatabase(t, ""))
		},
		"memory": func(*testing.T) (table.DB, error) { return pebbledb.Open(pebbledb.Config{Memory: true}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := open(t)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			if err := store.Open(t.Context(), db); err != nil {
				t.Fatal(err)
			}
			f(t, db)
		})
	}
}

// TestWords: events are found by beginnings of their words, the newest first, until they are removed; those of a room that is purged are gone. They may be
// added in any order, and again.
func TestWords(t *testing.T) {
	everywhere(t, func(t *testing.T, db table.DB) {
		t.Helper()
		r := rand.New(rand.NewPCG(7, 7))
		model := map[int64]store.Words{}
		for range 60 {
			if err := db.Update(t.Context(), func(tx table.Tx) error { return changeWords(tx, r, model) }); err != nil {
				t.Fatal(err)
			}
		}
		compareWords(t, db, model)
		if err := db.Update(t.Context(), func(tx table.Tx) error { return store.DropRoom(tx, store.Room{ID: 2, RoomID: "!2"}) }); err != nil {
			t.Fatal(err)
		}
		if err := store.Purge(t.Context(), db, func(int) {}); err != nil {
			t.Fatal(err)
		}
		for order, w := range model {
			if w.Room == 2 {
				delete(model, order)
			}
		}
		compareWords(t, db, model)
	})
}

func changeWords(tx table.Tx, r *rand.Rand, model map[int64]store.Words) error {
	var added []store.Words
	for range 1 + r.IntN(80) {
		order := int64(r.IntN(1<<12) - 99)
		if _, has := model[order]; has || order == 0 {
			continue
		}
		w := store.Words{Room: 1 + r.Int64N(3), Order: order, Words: []string{"tea"}}
		if r.IntN(9) == 0 {
			w.Words = []string{"京", fmt.Sprint("w", r.IntN(400))}
		}
		model[order] = w
		added = append(added, w)
	}
	if err := store.AddWords(tx, added); err != nil {
		return err
	}
	if err := store.AddWords(tx, added[:len(added)/2]); err != nil { // again, as after a crash
		return err
	}
	for order, w := range model {
		if r.IntN(20) != 0 {
			continue
		}
		delete(model, order)
		if err := store.RemoveWords(tx, w); err != nil {
			return err
		}
	}
	return store.RemoveWords(tx, store.Words{Room: 1, Order: 1 << 20, Words: []string{"tea"}})
}

func compareWords(t *testing.T, db table.DB, model map[int64]store.Words) {
	t.Helper()
	for _, q := range []store.WordQuery{
		{Rooms: []int64{1}, Begins: []string{"tea"}, Limit: 5000},
		{Rooms: []int64{1, 2, 3}, Begins: []string{"te"}, Limit: 5000},
		{Rooms: []int64{2, 3}, Begins: []string{"t", "tea"}, Limit: 20},
		{Rooms: []int64{2, 3}, Begins: []string{"京", "w1"}, Limit: 20},
		{Rooms: []int64{1, 3}, Begins: []string{"tea"}, Before: 700, Limit: 20},
		{Rooms: []int64{1, 3}, Begins: []string{"coffee"}, Limit: 20},
		{Begins: []string{"tea"}, Rooms: []int64{4}, Limit: 20},
	} {
		var want, got []int64
		for order, w := range model {
			if slices.Contains(q.Rooms, w.Room) && (q.Before == 0 || order < q.Before) && fits(w.Words, q.Begins) {
				want = append(want, order)
			}
		}
		slices.SortFunc(want, func(a, b int64) int { return cmp.Compare(place(model, b), place(model, a)) })
		if err := db.View(t.Context(), func(tx table.Tx) error {
			found, err := store.FindWords(tx, q)
			for _, w := range found {
				if got = append(got, w.Order); model[w.Order].Room != w.Room {
					t.Errorf("%d is in room %d", w.Order, w.Room)
				}
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, want[:min(len(want), q.Limit)]) {
			t.Errorf("%+v: %d events, not %d", q, len(got), len(want))
		}
	}
}

// place is where an event comes: orders before 0, which several rooms may have, come after all others, by their rooms.
func place(model map[int64]store.Words, order int64) int64 {
	if order >= 0 {
		return order
	}
	return -(model[order].Room<<32 | -order)
}

func fits(words, begins []string) bool {
	for _, b := range begins {
		if !slices.ContainsFunc(words, func(w string) bool { return len(w) >= len(b) && w[:len(b)] == b }) {
			return false
		}
	}
	return true
}
