// Package pebbledb keeps tables in a Pebble database, in a folder or in memory.
//
// Each table and each index is a space of its own, with a number. The key of a row is its space's number and the row's key columns, encoded so that
// bytes sort as values do; an index has such a key for each row, of the index's columns and the row's key, and no value.
package pebbledb

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"orrery/internal/fuse"
	"orrery/matrix/table"
)

// Config says where the database is.
type Config struct {
	Directory string
	Memory    bool   // keep it in memory only, whatever Directory says
	FS        vfs.FS // nil: the machine's
	Cache     int64  // bytes; 0: 8 MiB
	Logger    *slog.Logger
}

// DB is an open database.
type DB struct {
	db     *pebble.DB
	fuse   *fuse.Fuse
	writer *table.Writer

	places map[string]os.FileInfo // paths that stay what they are, by their names

	closing sync.RWMutex // held for reading while the database is used
	closed  bool

	mu     sync.Mutex
	seen   *seen
	spaces map[string]space // by name: a table's, or a table's and an index's
	next   uint16
}

var _ table.DB = (*DB)(nil)

// space is a number, big endian.
type space [2]byte

// Names of spaces are kept in space 0; numbers begin after those that might be used otherwise.
const (
	firstSpace = 256
	maxSpace   = 1 << 15
)

// Open opens a database, an empty one if there is none.
func Open(c Config) (*DB, error) {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Memory {
		c.FS, c.Directory = vfs.NewMem(), "memory"
	}
	if c.Cache == 0 {
		c.Cache = 8 << 20
	}
	d := &DB{fuse: fuse.New(c.Logger, "of the homeserver", "restart the homeserver"), spaces: map[string]space{}, next: firstSpace}
	if err := d.fuse.Run(func() error { return d.start(&c) }); err != nil {
		return nil, fmt.Errorf("cannot open the database in %s: %w", c.Directory, err)
	}
	d.writer = table.NewWriter(d.begin)
	return d, nil
}

func (d *DB) start(c *Config) (err error) {
	cache := pebble.NewCache(c.Cache)
	defer cache.Unref()
	fs := d.fuse.FS(c.FS)
	o := &pebble.Options{
		FS: fs, Logger: d.fuse, EventListener: d.fuse.Listener(), FormatMajorVersion: pebble.FormatNewest, Cache: cache, MemTableSize: 4 << 20, MaxOpenFiles: 256,
	}
	o.Levels[0].FilterPolicy = bloom.FilterPolicy(10)
	if d.db, err = pebble.Open(c.Directory, o); err != nil {
		return err
	}
	if err := errors.Join(d.readSpaces(), d.locate(c)); err != nil {
		return errors.Join(err, d.db.Close())
	}
	d.seen = &seen{Snapshot: d.db.NewSnapshot(), users: 1}
	fs.Arm()
	return nil
}

func (d *DB) readSpaces() error {
	all, err := d.db.NewIter(&pebble.IterOptions{LowerBound: []byte{0, 0}, UpperBound: []byte{0, 1}})
	if err != nil {
		return err
	}
	for ok := all.First(); ok; ok = all.Next() {
		if len(all.Value()) != 2 {
			return errors.Join(fmt.Errorf("the number of %q is damaged", all.Key()[2:]), all.Close())
		}
		s := space(all.Value())
		d.spaces[string(all.Key()[2:])] = s
		d.next = max(d.next, binary.BigEndian.Uint16(s[:])+1)
	}
	return all.Close()
}

// space is that of a table or, with an index, of that. It is 0 before Prepare has made it.
func (d *DB) space(s *table.Schema, index string) space {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.spaces[spaceName(s, index)]
}

func spaceName(s *table.Schema, index string) string {
	if index == "" {
		return s.Name
	}
	return s.Name + "/" + index
}

// Prepare gives numbers to tables and indexes that have none, and fills indexes.
func (d *DB) Prepare(ctx context.Context, schemas []*table.Schema) error {
	for _, s := range schemas {
		if err := d.prepare(ctx, s, ""); err != nil {
			return err
		}
		for _, x := range s.Indexes {
			if err := d.prepare(ctx, s, x.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *DB) prepare(ctx context.Context, s *table.Schema, index string) error {
	if d.space(s, index) != (space{}) {
		return nil
	}
	if d.next == maxSpace {
		return errors.New("too many tables and indexes")
	}
	var number space
	binary.BigEndian.PutUint16(number[:], d.next)
	err := d.Update(ctx, func(tx table.Tx) error {
		w, _ := tx.(*transaction)
		if index != "" {
			if err := w.fill(s, index, number); err != nil {
				return err
			}
		}
		return w.batch.Set(append([]byte{0, 0}, spaceName(s, index)...), number[:], nil)
	})
	if err != nil {
		return fmt.Errorf("cannot prepare %s: %w", spaceName(s, index), err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spaces[spaceName(s, index)] = number
	d.next++
	return nil
}

// use keeps the database open while a function runs.
func (d *DB) use(f func() error) error {
	d.closing.RLock()
	defer d.closing.RUnlock()
	if d.closed {
		return table.ErrClosed
	}
	return f()
}

// View is that of table.DB.
func (d *DB) View(ctx context.Context, f func(table.Tx) error) error {
	return d.use(func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		d.mu.Lock()
		now := d.seen
		now.users++
		d.mu.Unlock()
		defer d.leave(now)
		return f(&transaction{d: d, read: now})
	})
}

// seen is what views see: all that is durable. Pebble itself shows a batch before it is, and also one that cannot be written.
type seen struct {
	*pebble.Snapshot

	users int
}

// renew lets views see what was just committed.
func (d *DB) renew() {
	d.mu.Lock()
	old := d.seen
	d.seen = &seen{Snapshot: d.db.NewSnapshot(), users: 1}
	d.mu.Unlock()
	d.leave(old)
}

// leave closes what nobody sees any more.
func (d *DB) leave(s *seen) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.users--; s.users == 0 {
		_ = s.Close()
	}
}

// Update is that of table.DB.
func (d *DB) Update(ctx context.Context, f func(table.Tx) error) error {
	return d.writer.Update(ctx, f)
}

func (d *DB) begin(context.Context) (table.Writing, error) {
	if err := d.fuse.Err(); err != nil {
		return nil, fmt.Errorf("%w: %w", table.ErrUnavailable, err)
	}
	if err := d.Located(); err != nil {
		return nil, err
	}
	b := d.db.NewIndexedBatch()
	return &transaction{d: d, read: b, batch: b}, nil
}

// Checkpoint writes a copy of the database as it is into a folder that does not exist.
func (d *DB) Checkpoint(dir string) error {
	return d.use(func() error { return d.db.Checkpoint(dir, pebble.WithFlushedWAL()) })
}

// Close ends the database. One that has failed stays as it is until the process ends.
func (d *DB) Close() error {
	d.writer.Close()
	d.closing.Lock()
	defer d.closing.Unlock()
	if d.closed || d.fuse.Blown() {
		return nil
	}
	d.closed = true
	d.leave(d.seen)
	return d.db.Close()
}
