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

// accessDenied is what a server says to a wrong password.
const accessDenied = 1045

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
		if hasNumber(err, accessDenied) { // it answers, and will not say otherwise
			return nil
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
		return nothing, errors.Join(err, c.Kill(ctx))
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
	if err := c.Kill(ctx); err != nil {
		return ok, err
	}
	return ok, c.Remove()
}

// startServed starts the server of a thin fork or replica, for good. replica says that it was one.
func (m *Module) startServed(ctx context.Context, t state.Target) (replica bool, err error) {
	k, err := mark.Read[forkMark](t)
	if err != nil || !k.served() {
		return false, err
	}
	c, _, err := thinOf(t)
	running := c.Running()
	if err == nil {
		err = start(ctx, t, c)
	}
	if replica = k.Method == state.ForkReplica; replica && err == nil {
		if err = m.follow(ctx, t, c, k); hasNumber(err, accessDenied) {
			err = fmt.Errorf("%w (its server has the password from before: make it anew, orrery component replica rebuild)", err)
		}
		if err != nil && !running {
			err = errors.Join(err, c.Stop(ctx))
		}
	}
	if err != nil {
		return replica, fmt.Errorf("cannot start the server of %s: %w", t.Component.Ref(), err)
	}
	return replica, nil
}
