package sqldb

import (
	"context"
	"errors"

	"orrery/matrix/table"
)

// Size is how many bytes the database takes.
func (d *DB) Size(ctx context.Context) (n int64, err error) {
	d.closing.RLock()
	defer d.closing.RUnlock()
	if d.closed {
		return 0, table.ErrClosed
	}
	s, err := d.connectHere(ctx)
	if err != nil {
		return 0, err
	}
	defer s.close()
	text := "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
	if d.dialect.remote {
		text = "SELECT pg_database_size(current_database())"
	}
	found, err := s.query(ctx, nil, statement{text: text})
	if err != nil {
		return 0, err
	}
	if found.Next() {
		err = found.Scan(&n)
	}
	return n, errors.Join(err, found.Err(), found.Close())
}
