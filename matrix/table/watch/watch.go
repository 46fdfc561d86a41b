// Package watch tells those who keep in memory what they read of a database what is written to it: whatever writes, nobody has to think of them.
package watch

import (
	"context"
	"slices"
	"sync"

	"orrery/matrix/table"
)

// Watcher is told of what updates write. It is called by several goroutines, and must not ask the database.
type Watcher interface {
	// Written is called after a commit, and before Update returns.
	Written(all []table.Write)
	// Doubtful is called instead if it is not known whether there was a commit, nor whether there will be one still.
	Doubtful(all []table.Write)
}

// DB is a database that is watched.
type DB struct {
	table.DB

	mu       sync.Mutex
	watchers []watching
}

type watching struct {
	Watcher

	tables []*table.Schema
}

var _ table.DB = (*DB)(nil)

// New is a database that can be watched. What is written otherwise than through it is not seen.
func New(db table.DB) *DB { return &DB{DB: db} }

// Watch tells a watcher from now on of what is written to tables.
func (d *DB) Watch(w Watcher, tables ...*table.Schema) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watchers = append(slices.Clone(d.watchers), watching{w, tables})
}

// Update is that of table.DB.
func (d *DB) Update(ctx context.Context, f func(table.Tx) error) error {
	var last, all []table.Write
	may := false // be committed: the function came to its end
	err := d.DB.Update(ctx, func(tx table.Tx) error {
		before := len(tx.Written()) // by others, with whom it shares the commit
		err := f(tx)
		last, may = tx.Written()[before:], may || err == nil
		all = append(all, last...)
		return err
	})
	d.mu.Lock()
	watchers := d.watchers
	d.mu.Unlock()
	for _, w := range watchers {
		if of := w.of(last); err == nil && len(of) > 0 {
			w.Written(of)
		} else if of := w.of(all); err != nil && may && len(of) > 0 {
			w.Doubtful(of)
		}
	}
	return err
}

// of are those writes that the watcher is told of.
func (w *watching) of(all []table.Write) (of []table.Write) {
	for _, one := range all {
		if slices.Contains(w.tables, one.Table) {
			of = append(of, one)
		}
	}
	return of
}
