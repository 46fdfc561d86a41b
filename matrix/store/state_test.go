package store_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"orrery/matrix"
	"orrery/matrix/store"
	"orrery/matrix/table"
	"orrery/matrix/table/pebbledb"
	"orrery/matrix/table/sqldb"
)

func open(t *testing.T) table.DB {
	t.Helper()
	db, err := pebbledb.Open(pebbledb.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	if err := store.Open(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

// TestStates: every state of a line, and of others that fork off it, is read as it was written.
func TestStates(t *testing.T) {
	db := open(t)
	r := rand.New(rand.NewPCG(1, 1))
	type one struct {
		id    int64
		state store.State
	}
	all := []one{{0, store.State{}}}
	key := func() matrix.Key { return matrix.Key{Type: "t", StateKey: fmt.Sprint(r.IntN(40))} }
	for i := range 600 {
		parent := all[len(all)-1]
		if r.IntN(20) == 0 {
			parent = all[r.IntN(len(all))]
		}
		changes := store.State{}
		for range 1 + r.IntN(3) {
			changes[key()] = int64(i + 1)
		}
		if r.IntN(10) == 0 {
			changes[key()] = 0
		}
		next := one{state: maps.Clone(parent.state)}
		for k, order := range changes {
			if next.state[k] = order; order == 0 {
				delete(next.state, k)
			}
		}
		if err := db.Update(t.Context(), func(tx table.Tx) (err error) {
			next.id, err = store.WriteState(tx, parent.id, changes)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		all = append(all, next)
	}
	if err := db.View(t.Context(), func(tx table.Tx) error {
		for i, want := range all {
			got, err := store.ReadState(tx, want.id)
			if err != nil {
				return err
			}
			if d := cmp.Diff(want.state, got); d != "" {
				t.Fatalf("state %d: %s", i, d)
			}
			k := key()
			order, err := store.ReadStateKey(tx, want.id, k)
			if err != nil || order != want.state[k] {
				t.Fatalf("state %d, %v: %d, %v", i, k, order, err)
			}
			other := all[r.IntN(len(all))]
			changed, err := store.Changed(tx, other.id, want.id)
			if err != nil {
				return err
			}
			if d := cmp.Diff(changes(other.state, want.state), changed); d != "" {
				t.Fatalf("from another state to state %d: %s", i, d)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func changes(from, to store.State) store.State {
	all := store.State{}
	for key, order := range to {
		if from[key] != order {
			all[key] = order
		}
	}
	for key := range from {
		if to[key] == 0 {
			all[key] = 0
		}
	}
	return all
}

// TestStatesStaySmall: what is kept grows a little more than the number of changes, not with the size of the state.
func TestStatesStaySmall(t *testing.T) {
	db := open(t)
	const members = 3000
	id := int64(0)
	if err := db.Update(t.Context(), func(tx table.Tx) (err error) {
		for i := range int64(members) {
			if id, err = store.WriteState(tx, id, store.State{{Type: matrix.TypeMember, StateKey: fmt.Sprintf("@u%d:a", i)}: i + 1}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	size := 0
	if err := db.View(t.Context(), func(tx table.Tx) error {
		for _, s := range store.Schemas() {
			if s.Name != "states" {
				continue
			}
			for row, err := range tx.Scan(s, table.Range{}) {
				if err != nil {
					return err
				}
				b, _ := row[s.Position("delta")].([]byte)
				size += len(b)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if each := size / members; each > 12*5 { // log2(3000) changes of up to five bytes
		t.Errorf("%d bytes for each change", each)
	}
}

func TestNewerVersion(t *testing.T) {
	name := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	db, err := sqldb.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for range 2 {
		if err := store.Open(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	type meta struct {
		Name  string `col:"name,key"`
		Value int64  `col:"value"`
	}
	if err := db.Update(t.Context(), func(tx table.Tx) error { return table.Define[meta]("meta").Put(tx, meta{"version", 1000}) }); err != nil {
		t.Fatal(err)
	}
	if err := store.Open(t.Context(), db); !errors.Is(err, table.ErrNewer) {
		t.Error(err)
	}
}

func TestPositions(t *testing.T) {
	db := open(t)
	for _, want := range []int64{1, 4, 7} {
		if err := db.Update(t.Context(), func(tx table.Tx) error {
			first, err := store.Advance(tx, 3)
			if first != want {
				t.Errorf("%d, not %d", first, want)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.View(t.Context(), func(tx table.Tx) error {
		last, err := store.Position(tx)
		if last != 9 {
			t.Error(last)
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
}
