// Package store is what the homeserver keeps, as tables: who has an account, which events a room has and in which order, its state at each of them,
// what belongs to a user. It has no rules; each file is an aspect.
//
// Everything that clients are told about has a position in one stream, given out in the transaction that writes it. A client that has heard of all up to
// a position needs what has a greater one.
package store

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"orrery/matrix/table"
)

// version is that of the tables' meaning. A database with a greater one is refused; upgrades bring those with a smaller one here.
const version = 3

type meta struct {
	Name  string `col:"name,key"`
	Value int64  `col:"value"`
}

var metas = table.Define[meta]("meta")

// Names of meta.
const (
	metaVersion  = "version"
	metaPosition = "position"
	metaID       = "id" // the last number that was given to a room, a state or a key of states
)

// Schemas are all tables.
func Schemas() []*table.Schema { return slices.Concat(Kept(), searchSchemas) }

// Kept are the tables that are not made of others.
func Kept() []*table.Schema {
	return slices.Concat([]*table.Schema{metas.Schema()}, epochSchemas, writerSchemas, accountSchemas, roomSchemas, stateSchemas, clientSchemas, keySchemas, backupSchemas, mediaSchemas, pusherSchemas, oauthSchemas, ssoSchemas, moderationSchemas, contactSchemas, delayedSchemas, serviceSchemas, noticeSchemas, redactionSchemas)
}

// Open makes a database ready: its tables, and its version.
func Open(ctx context.Context, db table.DB) error { return Upgrade(ctx, db, nil) }

// Upgrade is Open, and tells of what takes long: what is done, and of how many rows.
func Upgrade(ctx context.Context, db table.DB, tell func(what string, rows int)) error {
	if tell == nil {
		tell = func(string, int) {}
	}
	if err := Own(ctx, db); err != nil {
		return err
	}
	if err := db.Prepare(ctx, []*table.Schema{metas.Schema()}); err != nil {
		return err
	}
	found, err := readVersion(ctx, db)
	if err != nil {
		return err
	}
	if err := Prepare(ctx, db); err != nil {
		return err
	}
	for v := found; v < version; v++ {
		if err := upgrades[v](ctx, db, tell); err != nil {
			return fmt.Errorf("cannot bring the database from version %d to %d: %w (begin again)", v, v+1, err)
		}
		if err := db.Update(ctx, func(tx table.Tx) error { return metas.Put(tx, meta{metaVersion, v + 1}) }); err != nil {
			return err
		}
	}
	return nil
}

// ErrForeign says that a database is another program's.
var ErrForeign = errors.New("database is another program's (name another one: a homeserver begins in an empty one, and shares none of its tables)")

// Own is nil unless a database has tables of the names that ours have without being a homeserver's: something would be added to them, and they be written over.
func Own(ctx context.Context, db table.DB) error {
	c, ok := db.(table.Catalog)
	if !ok {
		return nil
	}
	found, err := c.Tables(ctx)
	if err != nil || slices.Contains(found, metas.Schema().Name) {
		return err
	}
	for _, s := range Schemas() {
		if slices.Contains(found, s.Name) {
			return fmt.Errorf("%w: it has a table %s, and no version of a homeserver", ErrForeign, s.Name)
		}
	}
	return nil
}

// Prepare makes what is missing of the tables.
func Prepare(ctx context.Context, db table.DB) error {
	if err := db.Prepare(ctx, Schemas()); err != nil {
		return err
	}
	return prepareSearch(ctx, db)
}

// readVersion is the version that a database has; a new one gets that of this program.
func readVersion(ctx context.Context, db table.DB) (found int64, err error) {
	return found, db.Update(ctx, func(tx table.Tx) error {
		m, ok, err := metas.Get(tx, metaVersion)
		switch found = m.Value; {
		case err != nil:
			return err
		case !ok:
			found = version
			return metas.Put(tx, meta{metaVersion, version})
		case m.Value > version:
			return fmt.Errorf("%w: %d, where this program knows %d (use a newer program)", table.ErrNewer, m.Value, version)
		}
		return nil
	})
}

// next counts a meta value up by n, and is the first of the new ones.
func next(tx table.Tx, name string, n int64) (int64, error) {
	last, err := table.Count(tx, metas.Schema(), []any{name}, n)
	return last - n + 1, err
}

// Advance gives out n positions of the stream, and is the first of them.
func Advance(tx table.Tx, n int) (int64, error) { return next(tx, metaPosition, int64(n)) }

// Position is the last position that was given out.
func Position(tx table.Tx) (int64, error) {
	m, _, err := metas.Get(tx, metaPosition)
	return m.Value, err
}
