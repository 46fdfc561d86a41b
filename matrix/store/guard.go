package store

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"orrery/matrix/table"
)

// writer is the program that serves from the database, and how many updates it made. There is one row: who begins takes out that of the one before, which is refused then.
// A program that finds there what it wrote last has the database of which it knows; after a restore the number is smaller, and in a copy from which another
// program served the row is that one's.
type writer struct {
	ID      string `col:"id,key"`
	Updates int64  `col:"updates"`
}

var (
	writers = table.Define[writer]("writers")

	writerSchemas = []*table.Schema{writers.Schema()}
)

// Guard is a database that a program keeps parts of in memory. It is used only as long as it is the one that was opened, with all that was written
// through the guard, and nothing is served from it by another program; afterwards everything is refused with table.ErrReplaced. What others write into the same database
// (commands beside a server that runs) is not its concern.
type Guard struct {
	db    table.DB
	own   string
	found func(error)

	mu    sync.Mutex
	was   []writer // at the beginning
	taken bool     // it is known that the row is the own one
	low   int64    // the last number that was acknowledged
	high  int64    // the last number that may have been committed
	err   error    // what was found, for good
}

var _ table.DB = (*Guard)(nil)

// NewGuard is a guard of a database that was opened just now, with its tables; who is to keep parts of it in memory reads them afterwards. When the database turns out to be another one,
// found is called once, with an error that says why.
func NewGuard(ctx context.Context, db table.DB, found func(error)) (*Guard, error) {
	g := &Guard{db: db, own: newEpoch(), found: found}
	if err := db.Update(ctx, g.begin); err == nil {
		g.taken = true
		return g, nil
	}
	return g, db.View(ctx, func(tx table.Tx) (err error) { // it cannot be written just now, but may be read
		g.was, err = writers.All(tx, table.Range{})
		return err
	})
}

// Err is nil, or table.ErrReplaced with what was found.
func (g *Guard) Err() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// replaced notes that the database is another one.
func (g *Guard) replaced(err error) error {
	g.mu.Lock()
	first := g.err == nil
	if first {
		g.err = err
	}
	err = g.err
	g.mu.Unlock()
	if first {
		g.found(err)
	}
	return err
}

// judge notes it if an error says that the database is another one.
func (g *Guard) judge(err error) error {
	if errors.Is(err, table.ErrReplaced) {
		return g.replaced(err)
	}
	return err
}

// View is that of table.DB.
func (g *Guard) View(ctx context.Context, f func(table.Tx) error) error {
	if err := g.Err(); err != nil {
		return err
	}
	return g.judge(g.db.View(ctx, f))
}

// Update is that of table.DB. What it wrote is in the database of which the program knows.
func (g *Guard) Update(ctx context.Context, f func(table.Tx) error) error {
	if err := g.Err(); err != nil {
		return err
	}
	var number int64
	err := g.db.Update(ctx, func(tx table.Tx) (err error) {
		if number, err = g.count(tx); err != nil {
			return err
		}
		return f(tx)
	})
	if err != nil {
		return g.judge(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.taken, g.low = true, max(g.low, number)
	return nil
}

// count counts an update, if the database is that which the others were made in.
func (g *Guard) count(tx table.Tx) (int64, error) {
	g.mu.Lock()
	taken, low, high := g.taken, g.low, g.high
	g.mu.Unlock()
	if !taken {
		if err := g.take(tx, high); err != nil {
			return 0, err
		}
	}
	number, err := table.Count(tx, writers.Schema(), []any{g.own}, 1)
	if err != nil {
		return 0, err
	}
	if number <= low || number > high+1 { // some were made of which it is not known whether they were committed
		return 0, differs(number-1, low)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.high = max(g.high, number)
	return number, nil
}

// take makes the row the own one, if it is still that of the beginning.
func (g *Guard) take(tx table.Tx, high int64) error {
	rows, err := writers.All(tx, table.Range{})
	if err != nil {
		return err
	}
	if err := g.check(rows, 0, high); err != nil || g.owns(rows) {
		return err
	}
	return g.begin(tx)
}

// begin puts the own row in place of what is there.
func (g *Guard) begin(tx table.Tx) error {
	return errors.Join(writers.DeleteAll(tx, table.Range{}), writers.Put(tx, writer{ID: g.own}))
}

func (g *Guard) owns(rows []writer) bool { return len(rows) == 1 && rows[0].ID == g.own }

// check is nil if the rows are those of the database of which the program knows: its own with a number from low to high, or, before it wrote, those
// of the beginning.
func (g *Guard) check(rows []writer, low, high int64) error {
	if g.owns(rows) {
		if n := rows[0].Updates; n < low || n > high {
			return differs(n, low)
		}
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.taken || len(rows) != len(g.was) || len(rows) > 0 && rows[0] != g.was[0] {
		return differs(0, 1)
	}
	return nil
}

// differs is the error about a database with other updates of this program than it made.
func differs(has, made int64) error {
	if has == 0 {
		return fmt.Errorf("%w: another server serves from it, or it is from before this one wrote", table.ErrReplaced)
	}
	return fmt.Errorf("%w: it has %d updates of this server, which made %d", table.ErrReplaced, has, made)
}

// Look sees whether the database is still the one of which the program knows, for those who only read.
func (g *Guard) Look(ctx context.Context) error {
	if err := g.Err(); err != nil {
		return err
	}
	if l, ok := g.db.(table.Located); ok && l.Located() != nil {
		return g.Update(ctx, func(table.Tx) error { return nil }) // which fails, and lets the database leave its place in order
	}
	g.mu.Lock()
	low := g.low
	g.mu.Unlock()
	var rows []writer
	if err := g.View(ctx, func(tx table.Tx) (err error) {
		rows, err = writers.All(tx, table.Range{})
		return err
	}); err != nil {
		return err
	}
	g.mu.Lock()
	high := g.high
	g.mu.Unlock()
	return g.judge(g.check(rows, low, high))
}

// Prepare is that of table.DB.
func (g *Guard) Prepare(ctx context.Context, schemas []*table.Schema) error {
	return g.db.Prepare(ctx, schemas)
}

// Close is that of table.DB.
func (g *Guard) Close() error { return g.db.Close() }
