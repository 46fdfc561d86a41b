package sqlite

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"orrery/state"
)

var _ state.Portable = (*Module)(nil)

// Extension implements state.Portable.
func (*Module) Extension() string { return ".db" }

// Export implements state.Portable: a snapshot is a database file as it is.
func (*Module) Export(ctx context.Context, snapshot io.Reader, w io.Writer) error {
	_, err := io.Copy(w, &contextReader{snapshot, ctx.Err})
	return err
}

// Import implements state.Portable: any database file that is whole without its journal or write-ahead log, which
// are not in it.
func (m *Module) Import(ctx context.Context, plain io.Reader, w io.Writer) (err error) {
	folder, err := os.MkdirTemp("", "orrery-sqlite-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(folder)) }()
	file := filepath.Join(folder, "import.db")
	if err := receive(ctx, file, plain); err != nil {
		return err
	}
	if err := m.use(ctx, file, func(c *connection) error { return c.quickCheck(ctx) }); err != nil {
		return err
	}
	p, err := m.pin(ctx, file, nil)
	if err != nil {
		return err
	}
	return errors.Join(writeImage(ctx, &image{p, p.Close, unknown}, w), p.Close())
}
