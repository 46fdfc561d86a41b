// Package store keeps snapshots in a folder: a state.Store.
//
// A snapshot is cut into segments; a segment is stored once, whole or as a
// byte delta against segments of the snapshot before, compressed. Objects
// (segments and manifests) lie in packs, one file for whatever one operation
// added; a component's generations lie in a file of its own. The formats are
// in docs/formats/snapshot-store.md.
//
// What is named is what is meant: a segment's name is its hash, so every byte
// that is read has been verified. A file appears under its name when it is
// complete and durable, packs before the generations that need them, so that a
// process may be killed anywhere. Locks on files keep processes apart: who adds
// holds the store shared, Prune holds it alone, a Reader leases its snapshot.
package store

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"orrery/state"
	"orrery/state/vault"
)

// Options adjust a store. The zero value is good.
type Options struct {
	Logger *slog.Logger // nil: discard
	// Grace is how long imported objects that no generation needs are kept from Prune. Zero: an hour.
	Grace time.Duration
	// Keys open an encrypted store. Nil: there are none.
	Keys *vault.Ring
	// Existing refuses a place where there is no store yet, with ErrNotFound.
	Existing bool
	// Cache is a folder of this machine in which a store in a bucket keeps the indexes of packs, and what it is
	// about to upload. Empty: no indexes, and the system's folder for temporary files.
	Cache string
	// CopyPack is how many bytes a copy into the store adds to one pack. Zero: 32 MiB.
	CopyPack int64
	files    files
	now      func() time.Time
}

// Store is a place of snapshots. It needs no closing and runs nothing in the background.
type Store struct {
	dir      string
	name     string // for people
	log      *slog.Logger
	grace    time.Duration
	copyPack int64
	files    files // encrypted where the store is
	raw      files // what files is made of
	key      *vault.Key
	cache    *cache // nil where the files are at hand
	now      func() time.Time
	codecs   sync.Pool

	mu    sync.Mutex
	known map[string]*pack
	sound map[digest]bool // see readable
}

var _ state.Store = (*Store)(nil)

func (s *Store) packs() string      { return filepath.Join(s.dir, "packs") }
func (s *Store) temps() string      { return filepath.Join(s.dir, "tmp") }
func (s *Store) leases() string     { return filepath.Join(s.dir, "leases") }
func (s *Store) components() string { return filepath.Join(s.dir, "components") }

func (s *Store) temporary() string { return filepath.Join(s.temps(), random()) }

func (s *Store) lock(ctx context.Context, exclusive bool) (lock, error) {
	return s.acquire(ctx, filepath.Join(s.dir, "lock"), exclusive)
}

func random() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return hex.EncodeToString(b[:])
}

// Get describes a snapshot.
func (s *Store) Get(ctx context.Context, id state.SnapshotID) (state.Snapshot, error) {
	c, err := s.catalog(ctx)
	if err != nil {
		return state.Snapshot{}, err
	}
	defer c.close()
	m, err := c.manifest(id)
	if err != nil {
		return state.Snapshot{}, err
	}
	depth := 0
	for _, name := range m.Segments {
		if e := c.find(name); e != nil {
			depth = max(depth, int(e.depth))
		}
	}
	return state.Snapshot{
		ID: id, Module: m.Module, Size: m.Size, Stored: m.Stored, Created: m.Created, Parent: m.Parent, Depth: depth,
	}, nil
}

// Usage is the store's size on disk.
func (s *Store) Usage(ctx context.Context) (state.Usage, error) {
	c, err := s.catalog(ctx)
	if err != nil {
		return state.Usage{}, err
	}
	defer c.close()
	var u state.Usage
	seen := map[digest]bool{}
	for _, p := range c.packs {
		u.Stored += p.size
		for i := range p.entries {
			e := &p.entries[i]
			if e.kind != kindManifest || p.dies(i) || seen[e.name] {
				continue
			}
			seen[e.name] = true
			m, err := c.manifestNamed(e.name)
			if err != nil {
				return state.Usage{}, err
			}
			u.Snapshots++
			u.Logical += m.Size
		}
	}
	return u, nil
}
