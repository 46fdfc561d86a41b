package account

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"orrery/state"
)

// Config is what a Manager needs.
type Config struct {
	// Directory keeps which accounts were made here and who uses them; shared by all processes of a machine's state.
	Directory string
	// Root is a folder that has the system's files (etc/passwd) below it; empty: the machine's own.
	Root     string
	Platform *Platform // nil: of this machine
	Logger   *slog.Logger
}

// Manager makes and removes accounts. It is safe for concurrent use, also by several processes.
type Manager struct {
	config Config
	system System
}

// New returns a manager; nothing is looked at yet.
func New(c Config) *Manager {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Manager{config: c, system: NewSystem(c.Root, c.Platform)}
}

// Ensure makes what is missing for owner, groups first, and notes that owner uses all of it. After an error,
// nothing that it made is left. A nil Manager can make none. Owner is a component's name on its machine.
func (m *Manager) Ensure(ctx context.Context, owner string, p Properties) error {
	if p.Empty() {
		return nil
	}
	if m == nil {
		return fmt.Errorf("%w make users and groups here", state.ErrNotAble)
	}
	if err := cmp.Or(ctx.Err(), p.Check()); err != nil {
		return err
	}
	return m.with(ctx, func(r *registry) (err error) {
		var undo []func(context.Context) error
		defer func() {
			if err != nil {
				for _, f := range slices.Backward(undo) {
					err = errors.Join(err, f(context.WithoutCancel(ctx)))
				}
			}
		}()
		for _, g := range p.Groups {
			if err := m.ensure(ctx, r, KindGroup, g.Name, owner, &undo, func() (bool, error) { return m.ensureGroup(ctx, g) }); err != nil {
				return fmt.Errorf("cannot make group %s: %w", g.Name, err)
			}
		}
		for _, u := range p.Users {
			if u.CreateHomeOnly {
				if err := os.MkdirAll(filepath.Join(m.config.Root, u.Home), 0o755); err != nil {
					return fmt.Errorf("cannot make the home of user %s: %w", u.Name, err)
				}
				continue
			}
			if err := m.ensure(ctx, r, KindUser, u.Name, owner, &undo, func() (bool, error) { return m.ensureUser(ctx, u) }); err != nil {
				return fmt.Errorf("cannot make user %s: %w", u.Name, err)
			}
		}
		return nil
	})
}

// ensure makes one account by create, which says whether it was missing. That it will have been made here is written before.
func (m *Manager) ensure(ctx context.Context, r *registry, kind, name, owner string, undo *[]func(context.Context) error, create func() (bool, error)) error {
	_, exists, err := m.system.find(ctx, kind, name)
	if err != nil {
		return err
	}
	before := r.get(kind, name)
	entry := before
	if !exists {
		entry.Made = true
	}
	if !slices.Contains(entry.Owners, owner) {
		entry.Owners = append(slices.Clone(entry.Owners), owner)
	}
	if err := r.set(kind, name, entry); err != nil {
		return err
	}
	*undo = append(*undo, func(ctx context.Context) error {
		if exists {
			return r.set(kind, name, before)
		}
		return errors.Join(m.system.Remove(ctx, kind, name), r.set(kind, name, before))
	})
	made, err := create()
	if made && err == nil {
		m.config.Logger.InfoContext(ctx, "account made", "kind", kind, "name", name, "component", owner)
	}
	return err
}

func (m *Manager) ensureGroup(ctx context.Context, g Group) (made bool, err error) {
	has, exists, err := m.system.find(ctx, KindGroup, g.Name)
	if err != nil || exists {
		return false, errors.Join(err, m.fits(ctx, "gid", has.number, g.GID, g.Adopt))
	}
	return true, m.system.AddGroup(ctx, g)
}

func (m *Manager) ensureUser(ctx context.Context, u User) (made bool, err error) {
	has, exists, err := m.system.find(ctx, KindUser, u.Name)
	if err != nil || exists {
		return false, errors.Join(err, m.fits(ctx, "uid", has.number, u.UID, u.Adopt))
	}
	return true, m.system.AddUser(ctx, u)
}

func (u User) hash() (string, error) {
	if u.PasswordFile == "" {
		return u.Hash, nil
	}
	text, err := os.ReadFile(u.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("cannot read the password's hash: %w", err)
	}
	hash := strings.TrimRight(string(text), "\r\n")
	if hash == "" || strings.ContainsAny(hash, ":\n\x00") {
		return "", bad("%s does not hold the hash of a password", u.PasswordFile)
	}
	return hash, nil
}

// fits compares the number of an account that exists with the one that it should have.
func (m *Manager) fits(ctx context.Context, what string, has int, want *int, adopt bool) error {
	if want == nil || *want == has {
		return nil
	}
	if adopt {
		m.config.Logger.WarnContext(ctx, "account exists with another number", "kind", what, "has", has, "wanted", *want)
		return nil
	}
	return fmt.Errorf("it %w: %s %d, not %d (correct it, or set adopt: true to use it as it is)", ErrMismatch, what, has, *want)
}

// Release notes that owner no longer uses any account. With remove, those that were made here and that nobody else
// uses are removed, users first; one whose removal the system refuses (a process runs as it) stays noted.
func (m *Manager) Release(ctx context.Context, owner string, remove bool) error {
	if m == nil {
		return nil
	}
	if _, err := os.Stat(m.config.Directory); errors.Is(err, fs.ErrNotExist) {
		return nil // nothing was ever made
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return m.with(ctx, func(r *registry) error {
		var failed []error
		for _, key := range r.keys(owner) {
			failed = append(failed, m.release(ctx, r, key, owner, remove))
		}
		return errors.Join(failed...)
	})
}

func (m *Manager) release(ctx context.Context, r *registry, key key, owner string, remove bool) error {
	entry := r.get(key.kind, key.name)
	others := slices.DeleteFunc(slices.Clone(entry.Owners), func(o string) bool { return o == owner })
	if remove && entry.Made && len(others) == 0 {
		if err := m.system.Remove(ctx, key.kind, key.name); err != nil {
			return fmt.Errorf("cannot remove %s %s: %w", key.kind, key.name, err)
		}
		return r.set(key.kind, key.name, entryOf(nil, false))
	}
	return r.set(key.kind, key.name, entryOf(others, entry.Made))
}
