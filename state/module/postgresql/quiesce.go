package postgresql

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"orrery/state"
)

// lockNotAvailable is the SQLSTATE of a lock that was waited for in vain.
const lockNotAvailable = "55P03"

// Quiesce locks all tables against changes (LOCK TABLE ... IN SHARE MODE) in a transaction that stays open. Sequences and
// large objects cannot be locked.
func (m *Module) Quiesce(ctx context.Context, t state.Target) (resume func(context.Context) error, err error) {
	if err := refuse(t, "keep still"); err != nil {
		return nil, err
	}
	end, err := serve(ctx, t)
	if err != nil {
		return nil, err
	}
	var conn *pgx.Conn
	err = m.do(ctx, t, func(d *database) (err error) {
		if conn, err = d.connect(ctx, d.name); err == nil {
			err = lockTables(ctx, conn)
		}
		return err
	})
	resume = func(ctx context.Context) error {
		if conn != nil {
			closeConn(ctx, conn)
		}
		return end()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot keep %s still: %w", t.Component.Ref(), err), resume(ctx))
	}
	return resume, nil
}

func lockTables(ctx context.Context, conn *pgx.Conn) error {
	if _, err := conn.Exec(ctx, "begin; set local lock_timeout = '10s'; set local idle_in_transaction_session_timeout = 0"); err != nil {
		return err
	}
	var tables []string
	err := conn.QueryRow(ctx, `
		select coalesce(array_agg(format('%I.%I', nspname, relname) order by c.oid), '{}')
		from pg_class c join pg_namespace n on n.oid = relnamespace
		where relkind in ('r', 'p') and relpersistence <> 't' and nspname <> 'information_schema' and nspname !~ '^pg_'`).Scan(&tables)
	if err != nil || len(tables) == 0 {
		return err
	}
	_, err = conn.Exec(ctx, "lock table "+strings.Join(tables, ", ")+" in share mode")
	if hasCode(err, lockNotAvailable) {
		return fmt.Errorf("%w: a transaction that changes it goes on for more than 10 s (end it): %w", state.ErrVeto, err)
	}
	return err
}
