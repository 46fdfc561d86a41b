package dysnomia

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"
)

// service is a component whose files are linked to where a process manager reads them.
type service struct {
	files  string // the folder of the component's files
	target string // the manager's folder
	// start makes the manager take up what was linked, by name.
	start func(ctx context.Context, names []string) error
	// stop ends what is about to be unlinked.
	stop func(ctx context.Context, names []string) error
	// settle makes the manager forget what was unlinked.
	settle func(ctx context.Context) error
}

func nothing(context.Context, []string) error { return nil }

// operateService carries out an operation on a service without state. What fails half-way is undone.
func (c Call) operateService(ctx context.Context, s service) error {
	switch c.Operation {
	case "activate":
		if err := c.startService(ctx, s); err != nil {
			return errors.Join(err, c.endService(context.WithoutCancel(ctx), s))
		}
		return c.Directory.MarkActive(c.Ref)
	case "deactivate":
		if err := c.endService(ctx, s); err != nil {
			return err
		}
		return c.Directory.Unmark(c.Ref)
	}
	return nil
}

func (c Call) startService(ctx context.Context, s service) error {
	all, err := names(s.files)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("there is nothing in %s", s.files)
	}
	if err != nil {
		return err
	}
	if err := c.addAccounts(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(s.target, 0o755); err != nil {
		return err
	}
	for _, name := range all {
		if err := link(filepath.Join(s.files, name), filepath.Join(s.target, name), true); err != nil {
			return err
		}
	}
	return s.start(ctx, all)
}

func (c Call) endService(ctx context.Context, s service) error {
	all, err := names(s.files)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(name string) bool {
		found, err := os.Readlink(filepath.Join(s.target, name))
		return err != nil || found != filepath.Join(s.files, name)
	})
	if len(all) > 0 {
		if err := s.stop(ctx, all); err != nil {
			return err
		}
		for _, name := range all {
			if err := link(filepath.Join(s.files, name), filepath.Join(s.target, name), false); err != nil {
				return err
			}
		}
		if err := s.settle(ctx); err != nil {
			return err
		}
	}
	return c.deleteAccounts(ctx)
}

func (c Call) addAccounts(ctx context.Context) error {
	a := NewAccounts(c.Err)
	if err := a.AddGroups(ctx, c.Path); err != nil {
		return err
	}
	return a.AddUsers(ctx, c.Path)
}

// deleteAccounts deletes the component's users and groups. A process of theirs may still be about to end, so that it
// is tried for a while.
func (c Call) deleteAccounts(ctx context.Context) error {
	a := NewAccounts(c.Err)
	return c.tryFor(ctx, 10*time.Second, func() error {
		return errors.Join(a.DeleteUsers(ctx, c.Path), a.DeleteGroups(ctx, c.Path))
	})
}

// tryFor repeats do until it succeeds, for a while.
func (c Call) tryFor(ctx context.Context, limit time.Duration, do func() error) error {
	end := time.NewTimer(limit)
	defer end.Stop()
	for wait := 10 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := do()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case <-end.C:
			return err
		case <-time.After(wait):
		}
	}
}

// call carries out a program, whose output is the module's.
func (c Call) call(ctx context.Context, program string, args ...string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return fmt.Errorf("%s is not installed: %w", program, err)
	}
	err = Execute(ctx, Program{Path: path, Args: args, Env: c.Environment, Out: c.Out, Err: c.Err})
	if failed, ok := errors.AsType[*Status](err); ok {
		return fmt.Errorf("%s %v ended with status %d", program, args, failed.Code)
	}
	return err
}
