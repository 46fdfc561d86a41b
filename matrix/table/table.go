// Package table is the contract of the homeserver's storage: typed tables with ordered keys and indexes, in transactions, over any database.
//
// A Table is defined once, by a struct; what the homeserver keeps is written over tables, once, and every database that implements DB keeps it: sqldb
// (SQLite and PostgreSQL, where they are tables with columns) and pebbledb (Pebble, on a disk or in memory). The suite of all of them is in tabletest.
//
// Integers sort by value, texts and bytes by their bytes, in all databases. No column is ever null: a column that was not set is 0 or empty.
package table

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
)

var (
	// ErrDuplicate says that a row would have the same value of a unique index as another one.
	ErrDuplicate = errors.New("already taken")
	// ErrClosed says that the database was closed.
	ErrClosed = errors.New("database is closed")
	// ErrUnavailable says that the database cannot be reached or written just now: nothing was changed, and it may be asked again.
	ErrUnavailable = errors.New("database is unavailable")
	// ErrReplaced says that the database is not the one any more that was opened. What is known of it counts no more.
	ErrReplaced = fmt.Errorf("%w: it was replaced beneath the program (stop the program, see to it that the database is the one that is wanted, and start it again)", ErrUnavailable)
	// ErrReading says that a transaction was used while rows of a scan are being read. It is an error of the program.
	ErrReading = errors.New("transaction is being read")
	// ErrAgain says that what a transaction took for granted was not so: nothing was changed, and its functions are called again.
	ErrAgain = errors.New("another program changed the database")
	// ErrNewer says that a database was written by a newer version of the program.
	ErrNewer = errors.New("database is of a newer version")
)

// Kind is what a column holds.
type Kind byte

// The kinds, and the types of Go that their values have.
const (
	Int   Kind = iota // int64
	Text              // string, valid UTF-8
	Bytes             // []byte
)

// Column is a column of a table.
type Column struct {
	Name string
	Kind Kind
}

// Index is a further order of a table's rows: by its columns, then by the key.
type Index struct {
	Name    string
	Columns []string
	Unique  bool // no two rows have the same values
}

// Schema is a table's form. Its first Key columns identify a row.
type Schema struct {
	Name    string
	Columns []Column
	Key     int
	Indexes []Index
}

// Position is where a column is in a row; a name that the schema does not have is an error of the program.
func (s *Schema) Position(column string) int {
	i := slices.IndexFunc(s.Columns, func(c Column) bool { return c.Name == column })
	if i < 0 {
		panic(fmt.Sprintf("table %s has no column %q", s.Name, column))
	}
	return i
}

// Order is the positions of the columns by which an index sorts, the key's at its end; "" is the key itself. Its second value is how many of them
// the index names.
func (s *Schema) Order(index string) ([]int, int) {
	var order []int
	if index != "" {
		i := slices.IndexFunc(s.Indexes, func(x Index) bool { return x.Name == index })
		if i < 0 {
			panic(fmt.Sprintf("table %s has no index %q", s.Name, index))
		}
		for _, c := range s.Indexes[i].Columns {
			order = append(order, s.Position(c))
		}
	}
	named := len(order)
	for i := range s.Key {
		if !slices.Contains(order, i) {
			order = append(order, i)
		}
	}
	if index == "" {
		named = s.Key
	}
	return order, named
}

// Range is a part of a table in the order of its key or of an index.
type Range struct {
	Index      string // "": by key
	Prefix     []any  // values of the first columns of the order, which all rows of the range have
	From       any    // the least value of the column after those; nil: no bound
	Before     any    // a value that is greater than all of that column; nil: no bound
	Descending bool
	Limit      int // how many rows at most; 0: all
}

// Tx is a transaction. It sees its own writes. It must not be used by several goroutines, nor after the function that got it has returned. Values
// that it returns belong to the caller.
type Tx interface {
	// Get is the row with a key, nil if there is none.
	Get(s *Schema, key []any) ([]any, error)
	// Put writes a row, in place of the one with the same key if there is one. The error may come later, from whatever is done next.
	Put(s *Schema, row []any) error
	// Delete removes the row with a key, if there is one.
	Delete(s *Schema, key []any) error
	// Scan yields the rows of a range in order. An error ends it. While it is being read the transaction does nothing else: ErrReading.
	Scan(s *Schema, r Range) iter.Seq2[[]any, error]
	// Written is what was written so far, in order. The caller must not change it.
	Written() []Write
}

// Counter is a Tx that counts a number up without asking for it first. If another program did so meanwhile, the update's functions are called again.
type Counter interface {
	// Count is Count of this package.
	Count(s *Schema, key []any, n int64) (int64, error)
}

// Located is a DB that is in a file or folder. Once that is another one its updates fail with ErrReplaced: what was committed so far is in the one that was opened.
type Located interface {
	// Located is nil, or ErrReplaced.
	Located() error
}

// Catalog is a DB that other programs may have tables in, too.
type Catalog interface {
	// Tables are the names of the tables that are there, with those of indexes.
	Tables(ctx context.Context) ([]string, error)
}

// Count adds to the number in a row of a key and one number, and is what it is then. A row that is not there is 0.
func Count(tx Tx, s *Schema, key []any, n int64) (int64, error) {
	if c, ok := tx.(Counter); ok {
		return c.Count(s, key, n)
	}
	row, err := tx.Get(s, key)
	if err != nil {
		return 0, err
	}
	if row != nil {
		was, _ := row[s.Key].(int64)
		n += was
	}
	return n, tx.Put(s, append(slices.Clone(key), n))
}

// Write is a row that was put, or one that was deleted, of which only the key is known.
type Write struct {
	Table *Schema
	Row   []any
}

// Writes are those of a transaction, which embeds it.
type Writes struct{ all []Write }

// Note notes a write.
func (w *Writes) Note(s *Schema, row []any) { w.all = append(w.all, Write{s, row}) }

// Written is that of Tx.
func (w *Writes) Written() []Write { return w.all }

// DB is a database. All methods may be called by several goroutines.
type DB interface {
	// View calls a function with a transaction that sees one state of the database and writes nothing.
	View(ctx context.Context, f func(Tx) error) error
	// Update calls a function with a transaction. When Update returns nil all that it wrote is durable; otherwise nothing of it stays. Updates
	// come one after another, several in one commit; the function may be called more than once, and must not call Update.
	Update(ctx context.Context, f func(Tx) error) error
	// Prepare makes the tables that are missing, and columns and indexes that are.
	Prepare(ctx context.Context, schemas []*Schema) error
	// Close ends what is under way.
	Close() error
}
