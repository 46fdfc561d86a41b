package store

import (
	"context"

	"orrery/matrix/table"
)

// upgrades bring a database from the version that is their key to the next one. Each may be killed at any point, and begins again then. The meaning of the
// tables is that of the older version until the newer one is noted.
var upgrades = map[int64]func(ctx context.Context, db table.DB, tell func(what string, rows int)) error{
	1: forgetWords,
	2: nothing, // a room without extremities has one, its last event; older programs would take it for one without events
}

// nothing is for versions whose rows are still right.
func nothing(context.Context, table.DB, func(string, int)) error { return nil }

// forgetWords removes what could be searched: the words of texts are others now, and SQL databases have an index of their own for them. What is removed is
// made again from the events by whoever searches.
func forgetWords(ctx context.Context, db table.DB, tell func(what string, rows int)) error {
	removed := 0
	for more := true; more; {
		if err := db.Update(ctx, func(tx table.Tx) error {
			of := table.Range{Limit: purgePiece}
			some, err := postings.All(tx, of)
			if err != nil {
				return err
			}
			more = len(some) > 0
			removed += len(some)
			return postings.DeleteAll(tx, of)
		}); err != nil {
			return err
		}
		tell("words of the old index removed", removed)
	}
	return db.Update(ctx, func(tx table.Tx) error { return metas.Delete(tx, "indexed") })
}
