package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"orrery/state"
)

// settle finishes what a crash may have interrupted: a complete next state takes its place.
// The log of the state before goes first, for SQLite would apply it to the new one.
func settle(db string) error {
	next := db + suffixNext
	if _, err := os.Stat(next); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	for _, side := range sidecars {
		if err := removeFile(db + side); err != nil {
			return err
		}
	}
	if err := syncFolder(db); err != nil {
		return err
	}
	if err := os.Rename(next, db); err != nil {
		return fmt.Errorf("cannot put the new state of %s in place: %w", db, err)
	}
	return syncFolder(db)
}

// replace makes the complete, synced file side the database.
func (m *Module) replace(ctx context.Context, side, db string) error {
	past, err := m.exchange(ctx, side, db)
	if past != nil {
		err = errors.Join(err, past.Close())
	}
	return err
}

// exchange does so and returns the database before, nil if there was none. It has no name any more: closing it
// frees its storage, which takes the longer the larger it is.
func (m *Module) exchange(ctx context.Context, side, db string) (past *os.File, err error) {
	if err := m.unused(db); err != nil {
		return nil, err
	}
	if err := m.setAside(ctx, db); err != nil {
		return nil, err
	}
	// Nobody here has it open, so that no lock is lost when this is closed.
	past, err = os.Open(db)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := os.Rename(side, db+suffixNext); err != nil {
		return past, err
	}
	if err := syncFolder(db); err != nil {
		return past, err
	}
	return past, settle(db)
}

// setAside copies a database that cannot be read, with its log, to where people can look at it.
func (m *Module) setAside(ctx context.Context, db string) error {
	if _, err := os.Stat(db); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	p, err := m.pin(ctx, db, nil)
	if err == nil {
		return p.Close()
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if noRoom(err) {
		return fmt.Errorf("%w (free some room on the disk)", err)
	}
	m.log.WarnContext(ctx, "replacing a database that cannot be read; its files are kept", "path", db, "kept", db+suffixAside, "error", err)
	if err := remove(db + suffixAside); err != nil {
		return err
	}
	for _, side := range append([]string{""}, sidecars...) {
		// Hard links: the files stay in place until the new state is.
		if err := os.Link(db+side, db+suffixAside+side); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot keep the unreadable %s: %w", db+side, err)
		}
	}
	return nil
}

// noRoom says whether a database cannot be read only because SQLite's shared memory file finds no room on the disk.
func noRoom(err error) bool {
	var failed *sqlite.Error
	return errors.As(err, &failed) && (failed.Code() == sqlite3.SQLITE_IOERR_SHMSIZE || failed.Code() == sqlite3.SQLITE_FULL)
}

// unused says whether somebody has the database open, who would go on with a file that is no longer there.
func (m *Module) unused(db string) error {
	m.mu.Lock()
	uses := 0
	if f := m.files[db]; f != nil {
		uses = f.uses
	}
	m.mu.Unlock()
	if uses > 0 {
		return fmt.Errorf("database %s is being read or tracked here: %w", db, state.ErrInUse)
	}
	f, err := m.hold(db)
	if errors.Is(err, state.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	pid, err := lockHolder(f.db)
	if err = errors.Join(err, m.release(f)); err != nil {
		return err
	}
	if pid != 0 {
		return fmt.Errorf("process %d has database %s open: %w (stop it first)", pid, db, state.ErrInUse)
	}
	return nil
}

// remove removes a database and SQLite's files beside it, if they are there.
func remove(db string) error {
	for _, side := range sidecars {
		if err := removeFile(db + side); err != nil {
			return err
		}
	}
	return removeFile(db)
}

func removeFile(name string) error {
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// syncFile makes the content of a file durable. It must not be a database that is open here.
func syncFile(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncFolder makes the names beside a file durable.
func syncFolder(name string) error {
	f, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
