package pebbledb

import (
	"context"

	"orrery/matrix/table"
)

// Size is how many bytes the database takes.
func (d *DB) Size(context.Context) (int64, error) {
	d.closing.RLock()
	defer d.closing.RUnlock()
	if d.closed {
		return 0, table.ErrClosed
	}
	return int64(min(d.db.Metrics().DiskSpaceUsage(), 1<<62)), nil
}
