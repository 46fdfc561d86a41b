package store_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

func newGuard(t *testing.T, db table.DB, found *[]error) *store.Guard {
	t.Helper()
	g, err := store.NewGuard(t.Context(), db, func(err error) { *found = append(*found, err) })
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// writersTable is that by which a guard knows its database.
func writersTable(t *testing.T) *table.Schema {
	t.Helper()
	for _, s := range store.Kept() {
		if s.Name == "writers" {
			return s
		}
	}
	t.Fatal("there is no such table")
	return nil
}

// setWriters writes the rows of that table, as a restore does, and is those of before.
func setWriters(t *testing.T, db table.DB, rows ...[]any) (before [][]any) {
	t.Helper()
	s := writersTable(t)
	if err := db.Update(t.Context(), func(tx table.Tx) error {
		before = nil
		for row, err := range tx.Scan(s, table.Range{}) {
			if err != nil {
				return err
			}
			before = append(before, row)
		}
		for _, row := range before {
			if err := tx.Delete(s, row[:1]); err != nil {
				return err
			}
		}
		for _, row := range rows {
			if err := tx.Put(s, row); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return before
}

func write(t *testing.T, db table.DB) error {
	t.Helper()
	return db.Update(t.Context(), func(tx table.Tx) error {
		_, err := store.Advance(tx, 1)
		return err
	})
}

func position(t *testing.T, db table.DB) (last int64) {
	t.Helper()
	if err := db.View(t.Context(), func(tx table.Tx) (err error) {
		last, err = store.Position(tx)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return last
}

// TestGuard: what a restore leaves is refused by who writes and by who looks, for good, and is told once.
func TestGuard(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, db table.DB){
		"an earlier state": func(t *testing.T, db table.DB) {
			t.Helper()
			own := setWriters(t, db)[0]
			setWriters(t, db, []any{own[0], int64(2)})
		},
		"a later state": func(t *testing.T, db table.DB) {
			t.Helper()
			own := setWriters(t, db)[0]
			setWriters(t, db, []any{own[0], int64(4)})
		},
		"of before it wrote":     func(t *testing.T, db table.DB) { t.Helper(); setWriters(t, db) },
		"another server's":       func(t *testing.T, db table.DB) { t.Helper(); setWriters(t, db, []any{"other", int64(3)}) },
		"a server that was here": func(t *testing.T, db table.DB) { t.Helper(); setWriters(t, db, []any{"earlier", int64(7)}) },
	} {
		for how, ask := range map[string]func(*store.Guard) error{
			"written":   func(g *store.Guard) error { return write(t, g) },
			"looked at": func(g *store.Guard) error { return g.Look(t.Context()) },
		} {
			t.Run(name+", "+how, func(t *testing.T) {
				db := newMemory(t)
				setWriters(t, db, []any{"earlier", int64(7)})
				var found []error
				g := newGuard(t, db, &found)
				if err := g.Look(t.Context()); err != nil {
					t.Fatal(err)
				}
				for range 3 {
					if err := errors.Join(write(t, g), g.Look(t.Context())); err != nil {
						t.Fatal(err)
					}
				}
				replace(t, db)
				for range 2 {
					if err := ask(g); !errors.Is(err, table.ErrReplaced) || !errors.Is(err, table.ErrUnavailable) {
						t.Fatal(err)
					}
				}
				if err := g.View(t.Context(), func(table.Tx) error { return nil }); !errors.Is(err, table.ErrReplaced) || !errors.Is(g.Err(), table.ErrReplaced) || len(found) != 1 {
					t.Error(err, found)
				}
				if n := position(t, db); n != 3 {
					t.Errorf("%d updates are there", n)
				}
			})
		}
	}
}

// full is a database of which the disk is full.
type full struct {
	table.DB

	is bool
}

func (f *full) Update(ctx context.Context, do func(table.Tx) error) error {
	if f.is {
		return fmt.Errorf("%w: the disk is full", table.ErrUnavailable)
	}
	return f.DB.Update(ctx, do)
}

// TestGuardBeforeItWrote: a database that is replaced before the program wrote is another one, too. One that is full at the beginning is read, and written when it is not any more.
func TestGuardBeforeItWrote(t *testing.T) {
	for _, rows := range [][][]any{nil, {{"earlier", int64(8)}}, {{"other", int64(7)}}} {
		db := &full{DB: newMemory(t)}
		setWriters(t, db, []any{"earlier", int64(7)})
		var found []error
		db.is = true
		looks, writes, goes := newGuard(t, db, &found), newGuard(t, db, &found), newGuard(t, db, &found)
		if err := errors.Join(looks.Look(t.Context()), goes.Look(t.Context())); err != nil {
			t.Fatal(err)
		}
		db.is = false
		if err := errors.Join(write(t, goes), write(t, goes), goes.Look(t.Context())); err != nil {
			t.Fatal(err)
		}
		setWriters(t, db, rows...)
		if err := looks.Look(t.Context()); !errors.Is(err, table.ErrReplaced) {
			t.Errorf("%v: %v", rows, err)
		}
		if err := write(t, writes); !errors.Is(err, table.ErrReplaced) || len(found) != 2 || position(t, db) != 2 {
			t.Errorf("%v: %v %v", rows, err, found)
		}
	}
}

// TestGuardInDoubt: updates of which it is not known whether they were committed are no other database, whether they were or not.
func TestGuardInDoubt(t *testing.T) {
	db := &unsure{DB: newMemory(t)}
	var found []error
	g := newGuard(t, db, &found)
	for i := range 4 {
		db.lost = true
		if err := write(t, g); !errors.Is(err, errLost) {
			t.Fatal(err)
		}
		db.lost = false
		fails := errors.New("no")
		if err := g.Update(t.Context(), func(table.Tx) error { return fails }); !errors.Is(err, fails) {
			t.Fatal(err)
		}
		if err := errors.Join(g.Look(t.Context()), write(t, g)); err != nil {
			t.Fatal(err)
		}
		if n := position(t, db); n != int64(2*i+2) {
			t.Errorf("%d updates are there", n)
		}
	}
	if len(found) > 0 {
		t.Error(found)
	}
}
