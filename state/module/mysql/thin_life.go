package mysql

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"orrery/internal/cow"
	"orrery/state"
	"orrery/state/module/internal/mark"
	"orrery/state/module/mysql/thin"
)

// startLimit is how long the server of a thin fork may take until it answers.
const startLimit = 2 * time.Minute

// thinCopy is where a component's thin fork is, or would be.
func thinCopy(t state.Target, s server, k forkMark) thin.Copy {
	folder := filepath.Join(forksFolder(t, s), "fork-"+digest(t.Directory)) // nobody else's, also where several share a folder of forks
	return thin.Copy{Copy: cow.Copy{Folder: folder}, Program: k.Program}
}

func forksFolder(t state.Target, s server) string {
	if s.Forks != "" {
		return s.Forks
	}
	return filepath.Join(t.Container.Directory, "forks")
}

// thinOf returns a component's thin fork; ok is false if it is none.
func thinOf(t state.Target) (c thin.Copy, ok bool, err error) {
	k, err := mark.Read[forkMark](t)
	if err != nil || k.Method != state.ForkThin {
		return c, false, err
	}
	s, err := decodeContainer(t.Container)
	if err != nil {
		return c, true, err
	}
	c = thinCopy(t, s, k)
	c.Owner, err = thin.Owner()
	return c, true, err
}

// start starts the server of a thin fork.
func start(ctx context.Context, t state.Target, c thin.Copy) error {
	s, p, err := resolve(t)
	if err != nil {
		return err
	}
	return startAt(ctx, c, s, p)
}

func startAt(ctx context.Context, c thin.Copy, s server, p properties) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	return c.Start(ctx, func(ctx context.Context) error {
		d, err := openAt(ctx, s, p)
		if err == nil {
			d.close()
		}
		return err
	})
}

// serve has the server of a thin fork run while an operation works on it; end stops it again if it did not run.
func serve(ctx context.Context, t state.Target) (end func() error, err error) {
	nothing := func() error { return nil }
	c, ok, err := thinOf(t)
	if err != nil || !ok || c.Running() {
		return nothing, err
	}
	if err := start(ctx, t, c); err != nil {
		return nothing, errors.Join(err, c.Stop(ctx))
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
		c = thinCopy(t, s, forkMark{})
	}
	if _, err := os.Lstat(c.Folder); errors.Is(err, fs.ErrNotExist) {
		return ok, nil
	}
	if err := c.Stop(ctx); err != nil {
		return ok, err
	}
	return ok, c.Remove()
}

// startThin starts the server of a thin fork, for good.
func startThin(ctx context.Context, t state.Target) error {
	c, ok, err := thinOf(t)
	if err == nil && ok {
		err = start(ctx, t, c)
	}
	if err != nil {
		return fmt.Errorf("cannot start the server of %s: %w", t.Component.Ref(), err)
	}
	return nil
}
