package sqldb

import (
	"context"
	"errors"
	"fmt"
	"os"

	"orrery/matrix/table"
)

// locate notes which file the database is in.
func (d *DB) locate() (err error) {
	if d.path != "" {
		d.file, err = os.Stat(d.path)
	}
	return err
}

var _ table.Located = (*DB)(nil)

// Located is nil as long as the file of the database is the one that was opened: SQLite writes on into one that was moved away or removed, which nobody reads any more. A database
// of PostgreSQL has no file here.
func (d *DB) Located() error {
	if d.path == "" {
		return nil
	}
	if now, err := os.Stat(d.path); err != nil || !os.SameFile(now, d.file) {
		return fmt.Errorf("%w: %s is not the file that was opened", table.ErrReplaced, d.path)
	}
	return nil
}

// here is nil if the database is where it was opened; otherwise it is settled. It is for the writer.
func (d *DB) here(ctx context.Context) error {
	if err := d.Located(); err != nil {
		return errors.Join(err, d.settle(ctx))
	}
	return nil
}

// settle writes what is in the log of a database whose file was moved away into that file, and empties the log: SQLite finds it by the file's name, and
// would take it for that of whatever is there now.
func (d *DB) settle(ctx context.Context) error {
	if d.write == nil {
		return nil
	}
	if err := d.write.run(context.WithoutCancel(ctx), statement{text: "PRAGMA wal_checkpoint(TRUNCATE)"}); err != nil {
		return fmt.Errorf("the log of the database that was at %s is still there (remove %s-wal and %s-shm before another one is opened there): %w", d.path, d.path, d.path, err)
	}
	return nil
}

// connectHere is a new session, of the file that was opened.
func (d *DB) connectHere(ctx context.Context) (session, error) {
	if err := d.Located(); err != nil {
		return nil, err
	}
	return d.connect(ctx)
}
