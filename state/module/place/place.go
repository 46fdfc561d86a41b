// Package place is where a repository in a folder is: in its place while it is active, beside it while it is not, so that
// nobody works in it; and the files that configure it.
package place

import (
	"context"
	"errors"
	"fmt"
	"time"

	"orrery/internal/folder"
	"orrery/state"
)

const suffixInactive = ".orrery-inactive"

// Place is one repository's.
type Place struct {
	Path         string // where it is while it is active
	Owner, Group string // whose it is to be; empty: whose it is, or else whoever runs this
}

// Aside is where it is while it is inactive.
func (p Place) Aside() string { return p.Path + suffixInactive }

// Settle finishes what a crash interrupted.
func (p Place) Settle() error {
	return errors.Join(folder.Settle(p.Path), folder.Settle(p.Aside()))
}

// Where says where there is a repository.
func (p Place) Where() (active, inactive bool, err error) {
	active, err = folder.Exists(p.Path)
	if err != nil {
		return false, false, err
	}
	inactive, err = folder.Exists(p.Aside())
	if err == nil && active && inactive {
		err = fmt.Errorf("there are both %s and %s: %w (remove one of them)", p.Path, p.Aside(), state.ErrInUse)
	}
	return active, inactive, err
}

// Current is where it is now; ErrNotFound.
func (p Place) Current() (string, error) {
	active, inactive, err := p.Where()
	switch {
	case err != nil:
		return "", err
	case active:
		return p.Path, nil
	case inactive:
		return p.Aside(), nil
	}
	return "", fmt.Errorf("there is no repository %s: %w", p.Path, state.ErrNotFound)
}

// Target is where a restored repository goes, and the repository that it replaces; empty if there is none.
func (p Place) Target() (to, before string, err error) {
	active, inactive, err := p.Where()
	switch {
	case active:
		return p.Path, p.Path, err
	case inactive:
		return p.Aside(), p.Aside(), err
	}
	return p.Aside(), "", err
}

// Active returns nil, ErrInactive or ErrNotFound.
func (p Place) Active() error {
	at, err := p.Current()
	if err == nil && at != p.Path {
		err = fmt.Errorf("%s: %w", p.Path, state.ErrInactive)
	}
	return err
}

// Free says whether there is no repository yet.
func (p Place) Free() error {
	active, inactive, err := p.Where()
	if err == nil && (active || inactive) {
		err = fmt.Errorf("repository %s exists: %w", p.Path, state.ErrInUse)
	}
	return err
}

// Belongs is whose the repository is to be. Before is the one before it, if there is one.
func (p Place) Belongs(before string) (folder.Owner, error) {
	if before != "" && p.Owner == "" && p.Group == "" {
		return folder.OwnerOf(before)
	}
	o, err := folder.LookUp(p.Owner, p.Group)
	if err != nil {
		return o, fmt.Errorf("%w: %w", state.ErrBadProperty, err)
	}
	return o, nil
}

const (
	patience = 2 * time.Second
	tick     = 20 * time.Millisecond
)

// Left waits until no other process works in a folder; ErrInUse if they do not leave.
func Left(ctx context.Context, path string) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		pid := folder.Worker(path)
		if pid == 0 {
			return ctx.Err()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-deadline.C:
			return fmt.Errorf("process %d works in %s: %w (end it first)", pid, path, state.ErrInUse)
		case <-time.After(tick):
		}
	}
}
