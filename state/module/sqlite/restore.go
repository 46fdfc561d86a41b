package sqlite

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"orrery/state"
)

// Restore writes the snapshot beside the database, checks its structure, and puts it in the database's place.
// Programs that have the database open must be stopped first: they would go on with the old file.
func (m *Module) Restore(ctx context.Context, t state.Target, r io.Reader) (err error) {
	p, err := decode(t.Component)
	if err != nil {
		return err
	}
	db := path(t)
	if err := settle(db); err != nil {
		return err
	}
	if err := m.unused(db); err != nil { // early, before the work
		return err
	}
	side := db + suffixRestore
	if err := remove(side); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("cannot restore %s: %w", db, err), remove(side))
		}
	}()
	if err := receive(ctx, side, r); err != nil {
		return err
	}
	err = m.use(ctx, side, func(c *connection) error {
		if err := c.quickCheck(ctx); err != nil {
			return err
		}
		return c.setJournal(ctx, p.Journal)
	})
	if err != nil {
		return err
	}
	if err := syncFile(side); err != nil {
		return err
	}
	return m.replace(ctx, side, db)
}

// receive writes a stream to a new file.
func receive(ctx context.Context, name string, r io.Reader) error {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.CopyBuffer(struct{ io.Writer }{f}, &contextReader{r, ctx.Err}, make([]byte, copyBuffer))
	if err == nil {
		err = checkWhole(f)
	}
	return errors.Join(err, f.Close())
}

// contextReader stops reading when the operation is called off.
type contextReader struct {
	io.Reader
	stopped func() error
}

func (r *contextReader) Read(b []byte) (int, error) {
	if err := r.stopped(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}

// checkWhole says whether a file has the header of a database, and its length.
func checkWhole(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	head := make([]byte, headerLength)
	if _, err := f.ReadAt(head, 0); err != nil {
		return fmt.Errorf("%s holds no database: %w: %w", f.Name(), state.ErrCorrupt, err)
	}
	if err := checkMagic(f); err != nil {
		return err
	}
	size := int64(binary.BigEndian.Uint16(head[16:]))
	if size == 1 {
		size = 65536
	}
	if want := size * int64(binary.BigEndian.Uint32(head[offsetPages:])); want != info.Size() {
		return fmt.Errorf("%s has %d bytes, its header says %d: %w", f.Name(), info.Size(), want, state.ErrCorrupt)
	}
	return nil
}

// stage is a database that is being written beside the one in use.
type stage struct {
	*os.File
	module *Module
	db     string
	past   *os.File // the database that Commit replaced, until Close frees it
}

var _ state.Stage = (*stage)(nil)

// NewStage opens the component's stage, or begins one.
func (m *Module) NewStage(_ context.Context, t state.Target) (state.Stage, error) {
	db := path(t)
	if err := settle(db); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(db+suffixStage, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	return &stage{File: f, module: m, db: db}, nil
}

func (s *stage) Size() (int64, error) {
	info, err := s.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// Commit puts the stage in the database's place. It does not read it whole, nor free the database before, so that
// it takes as long for any size: what was staged was verified when it was written.
func (s *stage) Commit(ctx context.Context) error {
	err := checkWhole(s.File)
	if err == nil {
		err = s.Sync()
	}
	if err = errors.Join(err, s.Close()); err != nil {
		return fmt.Errorf("cannot commit the stage of %s: %w", s.db, err)
	}
	s.past, err = s.module.exchange(ctx, s.db+suffixStage, s.db)
	return err
}

func (s *stage) Discard() error {
	if err := s.Close(); err != nil {
		return err
	}
	return removeFile(s.db + suffixStage)
}

// Close closes the stage and leaves it for later, or frees what a Commit replaced. Closing it again does nothing.
func (s *stage) Close() error {
	var err error
	if s.past != nil {
		err, s.past = s.past.Close(), nil
	}
	if closed := s.File.Close(); !errors.Is(closed, fs.ErrClosed) {
		err = errors.Join(err, closed)
	}
	return err
}
