// Package store is what the homeserver keeps, as tables: who has an account, which events a room has and in which order, its state at each of them,
// what belongs to a user. It has no rules; each file is an aspect.
//
// Everything that clients are told about has a position in one stream, given out in the transaction that writes it. A client that has heard of all up to
// a position needs what has a greater one.
package store

import (
	"context"
	"fmt"
	"slices"

	"orrery/matrix/table"
)

// version is that of the tables' meaning. A database with a greater one is refused; upgrades bring those with a smaller one here.
const version = 1

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
func Schemas() []*table.Schema {
	return slices.Concat([]*table.Schema{metas.Schema()}, accountSchemas, roomSchemas, stateSchemas, clientSchemas, keySchemas, backupSchemas, mediaSchemas, pusherSchemas, oauthSchemas, ssoSchemas, searchSchemas, moderationSchemas, contactSchemas)
}

// Open makes a database ready: its tables, and its version.
func Open(ctx context.Context, db table.DB) error {
	if err := db.Prepare(ctx, []*table.Schema{metas.Schema()}); err != nil {
		return err
	}
	if err := db.Update(ctx, func(tx table.Tx) error {
		m, ok, err := metas.Get(tx, metaVersion)
		switch {
		case err != nil:
			return err
		case !ok:
			return metas.Put(tx, meta{metaVersion, version})
		case m.Value > version:
			return fmt.Errorf("%w: %d, where this program knows %d (use a newer program)", table.ErrNewer, m.Value, version)
		}
		return nil
	}); err != nil {
		return err
	}
	return db.Prepare(ctx, Schemas())
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
