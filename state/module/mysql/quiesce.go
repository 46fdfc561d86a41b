package mysql

import (
	"context"
	"fmt"
	"strings"

	"orrery/state"
)

// Quiesce locks all tables against changes (LOCK TABLES ... READ) on a connection that stays open.
func (*Module) Quiesce(ctx context.Context, t state.Target) (resume func(context.Context) error, err error) {
	if err := refuseReplica(t, "keep still"); err != nil {
		return nil, err
	}
	d, err := open(ctx, t)
	if err == nil {
		if err = d.lockTables(ctx); err != nil {
			d.close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cannot keep %s still: %w", t.Component.Ref(), err)
	}
	return func(ctx context.Context) error {
		defer d.close() // which ends the session, and with it the locks
		_, err := d.conn.ExecContext(ctx, "unlock tables")
		return err
	}, nil
}

func (d *database) lockTables(ctx context.Context) error {
	tables, err := d.tables(ctx, d.name)
	if err != nil || len(tables) == 0 {
		return err
	}
	locks := make([]string, len(tables))
	for i, table := range tables {
		locks[i] = quote(d.name) + "." + quote(table) + " read"
	}
	_, err = d.conn.ExecContext(ctx, "lock tables "+strings.Join(locks, ", "))
	if hasNumber(err, lockTimeout) {
		return fmt.Errorf("%w: a transaction that changes it goes on for more than 10 s (end it): %w", state.ErrVeto, err)
	}
	return err
}
