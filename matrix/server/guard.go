package server

import (
	"context"
	"errors"
	"log/slog"
	gosync "sync"
	"time"

	"orrery/matrix/store"
	"orrery/matrix/table"
)

// lookInterval is how often it is looked whether the database was replaced, for the sake of those who only read.
const lookInterval = 2 * time.Second

// guarded is a database that is watched over until it is closed.
type guarded struct {
	*store.Guard

	end func()
}

// openGuarded opens the database, brings it to the form that this program has, and watches over it.
func (c *Config) openGuarded(ctx context.Context, logger *slog.Logger) (opened, guarded table.DB, usable func() error, err error) {
	if opened, err = OpenDatabase(ctx, c, logger); err != nil {
		return nil, nil, nil, err
	}
	err = store.Upgrade(ctx, opened, func(what string, rows int) {
		logger.InfoContext(ctx, "the database is upgraded", "step", what, "rows", rows)
	})
	if err == nil {
		guarded, usable, err = c.guard(ctx, opened, logger)
	}
	if err != nil {
		return nil, nil, nil, errors.Join(err, opened.Close())
	}
	return opened, guarded, usable, nil
}

// guard watches over the database of a server that serves, which would mix what it has in memory with what is in another database. The function says whether something can be
// served.
func (c *Config) guard(ctx context.Context, db table.DB, logger *slog.Logger) (table.DB, func() error, error) {
	if c.Command {
		return db, nil, nil
	}
	g, err := store.NewGuard(ctx, db, func(err error) {
		logger.ErrorContext(ctx, "nothing is served any more: the database was replaced while the server ran, or another server serves from it", "error", err,
			"what_helps", "stop the server, see to it that the database is the one that is wanted, and start it again")
	})
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var done gosync.WaitGroup
	done.Go(func() { look(ctx, g) })
	return &guarded{g, func() {
		cancel()
		done.Wait()
	}}, g.Err, nil
}

// look looks until the database is another one, or the context ends. One that cannot be asked is asked again.
func look(ctx context.Context, g *store.Guard) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if errors.Is(g.Look(ctx), table.ErrReplaced) {
			return
		}
	}
}

// Close is that of table.DB.
func (g *guarded) Close() error {
	g.end()
	return g.Guard.Close()
}
