package postgresql

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"orrery/state"
	"orrery/state/module/internal/mark"
	"orrery/state/module/postgresql/thin"
)

// thinOf returns the copy of a component that has a server of its own, a thin fork or a replica; ok is false if it is none.
func thinOf(t state.Target) (c thin.Copy, ok bool, err error) {
	k, err := mark.Read[forkMark](t)
	if err != nil || !k.served() {
		return c, false, err
	}
	s, err := decodeContainer(t.Container)
	if err != nil {
		return c, true, err
	}
	c, err = thinCopy(t, s)
	c.Bin = k.Bin
	return c, true, err
}

// stillOptions start a replica that does not follow: what is inactive does not change.
const stillOptions = "-c primary_conninfo="

// serve has the server of a thin fork or replica run while an operation works on it; end stops it again if it did not run.
func serve(ctx context.Context, t state.Target) (end func() error, err error) {
	nothing := func() error { return nil }
	c, ok, err := thinOf(t)
	if err != nil || !ok {
		return nothing, err
	}
	if c.Running() {
		return nothing, nil
	}
	if err := c.Start(ctx, stillOptions); err != nil {
		return nothing, err
	}
	return func() error { return c.Stop(ctx) }, nil
}

// removeThin removes the server of a thin fork, also of one that did not come into being.
func removeThin(ctx context.Context, t state.Target) (was bool, err error) {
	c, ok, err := thinOf(t)
	if err != nil {
		return ok, err
	}
	if !ok { // perhaps one that was killed before it was marked
		s, err := decodeContainer(t.Container)
		if err != nil {
			return false, err
		}
		c.Folder, c.Bin = forkFolder(t, s), anyControl()
	}
	if _, err := os.Lstat(c.Folder); errors.Is(err, fs.ErrNotExist) {
		return ok, nil
	}
	if c.Owner, err = thin.Owner(); err != nil {
		return ok, err
	}
	if err := c.Stop(ctx); err != nil {
		return ok, err
	}
	return ok, c.Remove()
}

func anyControl() string {
	for _, folder := range (&database{}).toolFolders() {
		if executable(filepath.Join(folder, "pg_ctl")) {
			return folder
		}
	}
	return ""
}

// startServed starts the server of a thin fork or replica, for good. replica says that it was one.
func (m *Module) startServed(ctx context.Context, t state.Target) (replica bool, err error) {
	k, err := mark.Read[forkMark](t)
	if err != nil || !k.served() {
		return false, err
	}
	c, _, err := thinOf(t)
	if err == nil {
		if replica = k.Method == state.ForkReplica; replica {
			err = m.follow(ctx, t, c, k)
		} else {
			err = c.Start(ctx)
		}
	}
	if err != nil {
		return replica, fmt.Errorf("cannot start the server of %s: %w", t.Component.Ref(), err)
	}
	return replica, nil
}
