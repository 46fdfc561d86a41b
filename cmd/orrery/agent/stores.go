package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"orrery/state"
	"orrery/state/bucket"
	"orrery/state/store"
	"orrery/state/vault"
)

// Stores opens snapshot stores: a machine's own, and those elsewhere.
type Stores struct {
	Dir          string   // of this machine's state
	Identities   []string // files
	PassphraseOf string   // file; empty: none
}

// Ring is what there is to open encrypted stores with: what the flags name, and what the environment does.
func (s Stores) Ring() (*vault.Ring, error) {
	r := &vault.Ring{}
	for _, file := range s.Identities {
		if err := r.AddIdentityFile(file); err != nil {
			return nil, err
		}
	}
	if s.PassphraseOf != "" {
		if err := r.AddPassphraseFile(s.PassphraseOf); err != nil {
			return nil, err
		}
	}
	if err := r.AddEnvironment(os.Getenv); err != nil {
		return r, err
	}
	return r, nil
}

// openStore opens a machine's own store, with what the environment has to open it with if it is encrypted.
func openStore(ctx context.Context, dir string, log *slog.Logger) (*store.Store, error) {
	ring, failed := Stores{}.Ring()
	s, err := store.Open(ctx, filepath.Join(dir, "store"), store.Options{Keys: ring, Logger: log})
	if errors.Is(err, state.ErrKey) { // otherwise nobody needs a key
		err = errors.Join(failed, err)
	}
	return s, err
}

// Open opens the store at an address: a folder, a URL, or the machine's own if it is empty. The store is there.
func (s Stores) Open(ctx context.Context, address string) (*store.Store, func() error, error) {
	ring, err := s.Ring()
	if err != nil {
		return nil, nil, err
	}
	o := store.Options{Keys: ring, Existing: true, Cache: s.cache()}
	if folder, ok, err := s.folder(address); err != nil || ok {
		if err != nil {
			return nil, nil, err
		}
		opened, err := store.Open(ctx, folder, o)
		return opened, func() error { return nil }, err
	}
	b, err := bucket.Open(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	opened, err := store.OpenBucket(ctx, b, o)
	if err != nil {
		return nil, nil, errors.Join(err, b.Close())
	}
	return opened, b.Close, nil
}

// Init makes a store at an address. Without wrap it is plain.
func (s Stores) Init(ctx context.Context, address string, wrap func(vault.Key) ([]vault.Slot, error)) (*store.Store, func() error, error) {
	o := store.Options{Cache: s.cache()}
	if folder, ok, err := s.folder(address); err != nil || ok {
		if err != nil {
			return nil, nil, err
		}
		made, err := store.Init(ctx, folder, o, wrap)
		return made, func() error { return nil }, err
	}
	b, err := bucket.Open(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	made, err := store.InitBucket(ctx, b, o, wrap)
	if err != nil {
		return nil, nil, errors.Join(err, b.Close())
	}
	return made, b.Close, nil
}

func (s Stores) cache() string { return filepath.Join(s.Dir, "cache", "stores") }

// folder says whether an address is a folder, and which. A folder has locks and durable writes of its own, so
// that file:// needs no object storage.
func (s Stores) folder(address string) (path string, ok bool, err error) {
	if address == "" {
		return filepath.Join(s.Dir, "store"), true, nil
	}
	scheme, rest, url := strings.Cut(address, "://")
	switch {
	case !url:
		path, err = filepath.Abs(address)
		return path, true, err
	case scheme == "file" && filepath.IsAbs(rest):
		return rest, true, nil
	case slices.Contains(bucket.Schemes, scheme):
		return "", false, nil
	}
	return "", false, fmt.Errorf("store %q: %w: it is no folder, file:///PATH, s3://, gs:// or azblob:// address", address, state.ErrBadProperty)
}
