package store_test

import (
	"context"
	"errors"
	"testing"

	"orrery/matrix/store"
	"orrery/matrix/table"
	"orrery/matrix/table/pebbledb"
)

// unsure is a database of which it is not known whether it committed.
type unsure struct {
	table.DB

	lost bool
}

var errLost = errors.New("the connection is lost")

func (u *unsure) Update(ctx context.Context, f func(table.Tx) error) error {
	err := u.DB.Update(ctx, f)
	if u.lost {
		return errors.Join(err, errLost)
	}
	return err
}

func newMemory(t *testing.T) table.DB {
	t.Helper()
	db, err := pebbledb.Open(pebbledb.Config{Memory: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := store.Open(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	return db
}

func newStream(t *testing.T, db table.DB) *store.Stream {
	t.Helper()
	s, err := store.NewStream(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// take gives out positions.
func take(t *testing.T, s *store.Stream, n int) error {
	t.Helper()
	return s.Update(t.Context(), func(_ table.Tx, advance func(int) (int64, error)) error {
		_, err := advance(n)
		return err
	}, nil)
}

func mustTake(t *testing.T, s *store.Stream, n int) {
	t.Helper()
	if err := take(t, s, n); err != nil {
		t.Fatal(err)
	}
}

// TestEpochs: a position is of the program that gave it out; of two programs on one database each takes the other's for its own at most where nothing differs.
func TestEpochs(t *testing.T) {
	db := newMemory(t)
	one := newStream(t, db)
	if one.Epoch(0) != "" || !one.Holds(0, "") || one.Holds(1, "") {
		t.Error("an empty database")
	}
	mustTake(t, one, 2)
	first := one.Epoch(1)
	if first == "" || one.Epoch(2) != first || one.Epoch(0) != "" || !one.Holds(2, first) || one.Holds(3, first) || one.Holds(2, "") || one.Holds(1, "x") {
		t.Errorf("%q", first)
	}
	two := newStream(t, db) // writes nothing yet
	if two.Epoch(2) != first || !two.Holds(1, first) {
		t.Error("a restart")
	}
	mustTake(t, one, 1) // 3
	mustTake(t, two, 1) // 4
	second := two.Epoch(4)
	if second == first || !two.Holds(4, second) || two.Epoch(3) != first || !two.Holds(3, first) || two.Holds(4, first) {
		t.Errorf("%q %q", first, second)
	}
	mustTake(t, one, 1) // 5, which is none of its own for a later start
	if !one.Holds(5, one.Epoch(5)) || two.Holds(5, one.Epoch(5)) {
		t.Error("two programs")
	}
	three := newStream(t, db)
	for position, holds := range map[int64]bool{1: true, 2: true, 3: true, 4: false, 5: false} {
		if three.Holds(position, first) != holds || position > 3 && !three.Holds(position, second) {
			t.Errorf("%d", position)
		}
	}
}

// TestEpochInDoubt: what was committed, though it was not known, keeps its epoch.
func TestEpochInDoubt(t *testing.T) {
	for name, ask := range map[string]func(*store.Stream) error{
		"by the next update": func(s *store.Stream) error { return take(t, s, 1) },
		"asked":              func(s *store.Stream) error { return s.Refresh(t.Context()) },
	} {
		t.Run(name, func(t *testing.T) {
			db := &unsure{DB: newMemory(t)}
			s := newStream(t, db)
			db.lost = true
			if err := take(t, s, 2); !errors.Is(err, errLost) {
				t.Fatal(err)
			}
			db.lost = false
			if err := ask(s); err != nil {
				t.Fatal(err)
			}
			epoch := s.Epoch(1)
			if epoch == "" || s.Epoch(2) != epoch || !s.Holds(2, epoch) {
				t.Errorf("%q", epoch)
			}
			mustTake(t, s, 1)
			if last := s.Current(); s.Epoch(last) != epoch || !newStream(t, db).Holds(last, epoch) {
				t.Errorf("%d is of %q", last, s.Epoch(last))
			}
		})
	}
}

// TestManyEpochs: of many starts the older are not told apart any more; who knows a position of one begins anew, once.
func TestManyEpochs(t *testing.T) {
	const starts = 450
	db := newMemory(t)
	names := make([]string, starts+1)
	for position := int64(1); position <= starts; position++ {
		s := newStream(t, db)
		mustTake(t, s, 1)
		names[position] = s.Epoch(position)
	}
	s := newStream(t, db)
	distinct := map[string]bool{}
	for position := int64(1); position <= starts; position++ {
		now := s.Epoch(position)
		distinct[now] = true
		if now == "" || !s.Holds(position, now) || s.Holds(position, names[position]) != (now == names[position]) || position > starts-128 && now != names[position] {
			t.Fatalf("position %d is of %q, it was of %q", position, now, names[position])
		}
	}
	if n := len(distinct); n < 128 || n > 257 || s.Epoch(1) == names[1] || s.Epoch(1) != s.Epoch(2) {
		t.Errorf("%d epochs", n)
	}
}
