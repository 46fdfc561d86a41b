package sqlite

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"orrery/state"
)

// quickCheckFork is the size up to which a fork's whole structure is checked, in bytes. The time that it takes grows
// with the size, which a fork by reflink does not; of larger ones only the schema is read.
const quickCheckFork = 16 << 20

// Fork copies a database as of one commit, sharing storage where the file system can. The fork survives a crash of the
// program but not one of the machine, after which it may be gone or damaged: waiting for the disk would take as long
// as copying the database, and a session's fork can be made again. What it is made from is not touched.
func (m *Module) Fork(ctx context.Context, from, into state.Target) (method string, err error) {
	source, db := path(from), path(into)
	if err := errors.Join(settle(source), settle(db)); err != nil {
		return "", err
	}
	if _, err := os.Stat(db); !errors.Is(err, fs.ErrNotExist) {
		return "", errors.Join(fmt.Errorf("cannot fork %s into %s, which exists: %w", source, db, state.ErrInUse), err)
	}
	side := db + suffixRestore
	if err := remove(side); err != nil {
		return "", err
	}
	p, err := m.pin(ctx, source, nil)
	if err != nil {
		return "", err
	}
	method, err = copyInto(ctx, side, &image{p, p.Close, unknown})
	if err = errors.Join(err, p.Close()); err == nil {
		err = m.checkFork(ctx, side)
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("cannot fork %s: %w", source, err), remove(side))
	}
	return method, m.replace(ctx, side, db)
}

// copyInto makes a file of an image. A clone of the database file may hold pages that a checkpoint
// has changed meanwhile, but only such as the log holds too, and these are written over.
func copyInto(ctx context.Context, name string, i *image) (method string, err error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if cloneFile(f, i.files.db) != nil {
		return "copy", writeImage(ctx, i, f)
	}
	if err := f.Truncate(i.Size()); err != nil {
		return "", err
	}
	pages := []uint32{1} // for its canonical header
	if i.log != nil {
		pages = append(pages, i.log.Overlaid()...)
	}
	buffer := make([]byte, i.pageSize)
	for _, page := range pages {
		at := int64(page-1) * int64(i.pageSize)
		if at >= i.Size() {
			break
		}
		if _, err := i.ReadAt(buffer, at); err != nil && !errors.Is(err, io.EOF) {
			return "", err
		}
		if _, err := f.WriteAt(buffer, at); err != nil {
			return "", err
		}
	}
	return "reflink", nil
}

func (m *Module) checkFork(ctx context.Context, file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	return m.use(ctx, file, func(c *connection) error {
		if info.Size() <= quickCheckFork {
			return c.quickCheck(ctx)
		}
		return c.readable(ctx)
	})
}
