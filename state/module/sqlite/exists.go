package sqlite

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"orrery/state"
)

var _ state.Finder = (*Module)(nil)

// Exists implements state.Finder.
func (*Module) Exists(_ context.Context, t state.Target) (bool, error) {
	db := path(t)
	if err := settle(db); err != nil {
		return false, err
	}
	_, err := os.Lstat(db)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
