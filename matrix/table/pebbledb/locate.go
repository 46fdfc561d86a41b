package pebbledb

import (
	"fmt"
	"os"
	"path/filepath"

	"orrery/matrix/table"
)

// lockFile is a file of Pebble's that is there, and held, as long as a database is open.
const lockFile = "LOCK"

// locate notes in which folder the database is.
func (d *DB) locate(c *Config) error {
	if c.FS != nil { // it is in no folder of this machine
		return nil
	}
	d.places = map[string]os.FileInfo{c.Directory: nil, filepath.Join(c.Directory, lockFile): nil}
	for path := range d.places {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		d.places[path] = info
	}
	return nil
}

var _ table.Located = (*DB)(nil)

// Located is nil as long as the folder of the database is the one that was opened.
func (d *DB) Located() error {
	for path, was := range d.places {
		if now, err := os.Stat(path); err != nil || !os.SameFile(now, was) {
			return fmt.Errorf("%w: %s is not the one that was opened", table.ErrReplaced, path)
		}
	}
	return nil
}
