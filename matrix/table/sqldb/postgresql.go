package sqldb

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"orrery/matrix/table"
)

// closeTimeout is how long a connection has to say goodbye.
const closeTimeout = 2 * time.Second

// pgSession is a session of pgx. What does not depend on an answer goes in one round trip: most of the time of a small transaction is round trips.
type pgSession struct{ conn *pgx.Conn }

func pgPool(_, name string) (func(ctx context.Context) (session, error), func() error, error) {
	config, err := pgx.ParseConfig(name)
	if err != nil {
		return nil, nil, err
	}
	return func(ctx context.Context) (session, error) {
		conn, err := pgx.ConnectConfig(ctx, config)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", table.ErrUnavailable, err)
		}
		s := &pgSession{conn}
		if err := s.check(ctx); err != nil {
			s.close()
			return nil, err
		}
		return s, nil
	}, func() error { return nil }, nil
}

func (s *pgSession) check(ctx context.Context) error {
	if encoding := s.conn.PgConn().ParameterStatus("server_encoding"); encoding != "UTF8" {
		return fmt.Errorf("its encoding is %s, not UTF8 (make one by CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0)", encoding)
	}
	return ctx.Err()
}

func (s *pgSession) send(ctx context.Context, all []statement) pgx.BatchResults {
	b := &pgx.Batch{}
	for _, one := range all {
		b.Queue(one.text, one.args...)
	}
	return s.conn.SendBatch(ctx, b)
}

func (s *pgSession) exec(ctx context.Context, all ...statement) error {
	results := s.send(ctx, all)
	for _, one := range all {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			return one.failed(err)
		}
	}
	return results.Close()
}

func (s *pgSession) query(ctx context.Context, before []statement, last statement) (rows, error) {
	if len(before) == 0 {
		r, err := s.conn.Query(ctx, last.text, last.args...)
		return pgRows{r, nil}, err
	}
	results := s.send(ctx, append(before, last))
	for _, one := range before {
		if _, err := results.Exec(); err != nil {
			_ = results.Close()
			return nil, one.failed(err)
		}
	}
	r, err := results.Query()
	if err != nil {
		_ = results.Close()
		return nil, err
	}
	return pgRows{r, results}, nil
}

func (s *pgSession) run(ctx context.Context, all ...statement) error {
	b := &pgconn.Batch{}
	for _, one := range all {
		b.ExecParams(one.text, nil, nil, nil, nil)
	}
	results := s.conn.PgConn().ExecBatch(ctx, b)
	done := 0
	for ; results.NextResult(); done++ {
		if _, err := results.ResultReader().Close(); err != nil {
			break
		}
	}
	err := results.Close()
	if err != nil && done < len(all) { // those before it were carried out, those after it were not
		return all[done].failedToMake(err)
	}
	return err
}

func (s *pgSession) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout) //nolint:forbidigo // whoever used it may be gone
	defer cancel()
	_ = s.conn.Close(ctx)
}

// pgRows are rows, and the batch that they are the last of.
type pgRows struct {
	pgx.Rows

	batch pgx.BatchResults
}

// Close is that of rows.
func (r pgRows) Close() error {
	r.Rows.Close()
	if r.batch != nil {
		return r.batch.Close()
	}
	return nil
}
