package sqldb

import (
	"context"
	"database/sql"
	"fmt"

	"orrery/matrix/table"
)

// statement is a piece of SQL with its values. What it is about is named if it fails.
type statement struct {
	text string
	args []any
	of   string // a table's name, or ""
}

// session is a connection that keeps the statements it prepared.
type session interface {
	// exec carries out statements one after another, in one round trip where the database can.
	exec(ctx context.Context, all ...statement) error
	// query is exec of the first ones, then the rows of the last one. They must be closed.
	query(ctx context.Context, before []statement, last statement) (rows, error)
	// run carries out statements that are not kept, in one round trip where the database can.
	run(ctx context.Context, all ...statement) error
	close()
}

type rows interface {
	Next() bool
	Scan(to ...any) error
	Err() error
	Close() error
}

// failed is an error of a statement.
func (s *statement) failed(err error) error {
	if err == nil || s.of == "" {
		return err
	}
	return fmt.Errorf("table %s: %w", s.of, err)
}

// sqlSession is a session of database/sql.
type sqlSession struct {
	conn       *sql.Conn
	statements map[string]*sql.Stmt
}

// sqlPool makes sessions of a database, and what ends it.
func sqlPool(driver, name string) (func(ctx context.Context) (session, error), func() error, error) {
	pool, err := sql.Open(driver, name)
	if err != nil {
		return nil, nil, err
	}
	pool.SetMaxIdleConns(0) // sessions keep theirs
	return func(ctx context.Context) (session, error) {
		conn, err := pool.Conn(ctx)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", table.ErrUnavailable, err)
		}
		return &sqlSession{conn, map[string]*sql.Stmt{}}, nil
	}, pool.Close, nil
}

// prepared is a statement, prepared the first time. Their texts are few.
func (s *sqlSession) prepared(ctx context.Context, text string) (*sql.Stmt, error) {
	if found, ok := s.statements[text]; ok {
		return found, nil
	}
	made, err := s.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	s.statements[text] = made
	return made, nil
}

func (s *sqlSession) exec(ctx context.Context, all ...statement) error {
	for _, one := range all {
		st, err := s.prepared(ctx, one.text) //nolint:sqlclosecheck // the session keeps it
		if err == nil {
			_, err = st.ExecContext(ctx, one.args...)
		}
		if err != nil {
			return one.failed(err)
		}
	}
	return nil
}

func (s *sqlSession) query(ctx context.Context, before []statement, last statement) (rows, error) {
	if err := s.exec(ctx, before...); err != nil {
		return nil, err
	}
	st, err := s.prepared(ctx, last.text) //nolint:sqlclosecheck // the session keeps it
	if err != nil {
		return nil, err
	}
	return st.QueryContext(ctx, last.args...) //nolint:rowserrcheck // the caller's
}

func (s *sqlSession) run(ctx context.Context, all ...statement) error {
	for _, one := range all {
		if _, err := s.conn.ExecContext(ctx, one.text); err != nil {
			return one.failedToMake(err)
		}
	}
	return nil
}

func (s *sqlSession) close() {
	for _, st := range s.statements {
		_ = st.Close()
	}
	_ = s.conn.Close()
}
