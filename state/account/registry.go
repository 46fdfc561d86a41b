package account

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// registry is which accounts were made here, and who uses them: the file accounts.json, replaced atomically.
type registry struct {
	path     string
	Version  int              `json:"version"`
	Accounts map[string]entry `json:"accounts"` // by KIND/NAME
}

type entry struct {
	Made   bool     `json:"made"`
	Owners []string `json:"owners,omitempty"`
}

func entryOf(owners []string, made bool) entry { return entry{Made: made, Owners: owners} }

type key struct{ kind, name string }

func (r *registry) get(kind, name string) entry { return r.Accounts[kind+"/"+name] }

// keys lists what owner uses, users before groups.
func (r *registry) keys(owner string) []key {
	var all []key
	for text, e := range r.Accounts {
		if slices.Contains(e.Owners, owner) {
			kind, name, _ := strings.Cut(text, "/")
			all = append(all, key{kind, name})
		}
	}
	slices.SortFunc(all, func(a, b key) int { return strings.Compare(b.kind+b.name, a.kind+a.name) })
	return all
}

// set changes one entry durably; an empty one is removed.
func (r *registry) set(kind, name string, e entry) error {
	if !e.Made && len(e.Owners) == 0 {
		delete(r.Accounts, kind+"/"+name)
	} else {
		r.Accounts[kind+"/"+name] = e
	}
	content, err := json.Marshal(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(r.path), ".accounts-*")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), r.path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// with reads the registry and holds its lock while do works with it.
func (m *Manager) with(ctx context.Context, do func(*registry) error) (err error) {
	if err := os.MkdirAll(m.config.Directory, 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(filepath.Join(m.config.Directory, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }() // which unlocks
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("cannot lock the list of accounts: %w", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	r := &registry{path: filepath.Join(m.config.Directory, "accounts.json"), Version: 1, Accounts: map[string]entry{}}
	content, err := os.ReadFile(r.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		if err := json.Unmarshal(content, r); err != nil || r.Version != 1 {
			return fmt.Errorf("cannot read %s: version %d: %w", r.path, r.Version, errors.Join(err, errFormat))
		}
		if r.Accounts == nil {
			r.Accounts = map[string]entry{}
		}
	}
	return do(r)
}

var errFormat = errors.New("not a list of accounts of version 1")
