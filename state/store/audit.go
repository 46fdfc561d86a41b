package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"orrery/internal/progress"
	"orrery/state"
)

var _ state.Auditor = (*Store)(nil)

// Audit looks for damage in the store's files and in snapshots, and notes which of them were read whole.
func (s *Store) Audit(ctx context.Context, ids []state.SnapshotID, readData bool) (state.Audit, error) {
	a := &audit{store: s, readData: readData, by: map[state.SnapshotID]string{}, verified: map[state.SnapshotID]time.Time{}}
	a.found.Files, a.found.Lost = []state.Damage{}, []state.Loss{}
	err := a.run(ctx, ids)
	if err == nil && readData {
		err = s.verified(ctx, a.verified)
	}
	if err != nil {
		return state.Audit{}, fmt.Errorf("cannot look for damage in the snapshot store: %w", err)
	}
	return a.found, nil
}

// audit is an Audit under way.
type audit struct {
	store    *Store
	readData bool
	found    state.Audit
	by       map[state.SnapshotID]string // the pack that a lost snapshot is lost by
	verified map[state.SnapshotID]time.Time
}

func (a *audit) run(ctx context.Context, ids []state.SnapshotID) error {
	l, err := a.store.lock(ctx, false)
	if err != nil {
		return err
	}
	a.store.anew()
	c, err := a.store.locked(l)
	if err != nil {
		return err
	}
	defer c.close()
	c.blamed = map[string]error{}
	generations, err := a.files(ctx)
	if err != nil {
		return err
	}
	for _, p := range c.packs {
		if err := errors.Join(p.broken, p.damaged); err != nil {
			c.blamed[p.name] = err
		}
	}
	if ids == nil {
		ids = pointedAt(generations)
	}
	for _, id := range ids {
		if err := a.snapshot(ctx, c, id, generations); err != nil {
			return err
		}
	}
	a.blame(c)
	return nil
}

// pointedAt are the snapshots of generations, each once.
func pointedAt(generations []state.Generation) []state.SnapshotID {
	seen := map[state.SnapshotID]bool{}
	var ids []state.SnapshotID
	for _, g := range generations {
		if !seen[g.Snapshot] {
			seen[g.Snapshot] = true
			ids = append(ids, g.Snapshot)
		}
	}
	return ids
}

// files looks at the files that are not packs, and returns the generations that can be read.
func (a *audit) files(ctx context.Context) ([]state.Generation, error) {
	s := a.store
	if err := s.versionProblem(s.raw.ReadFile(s.versionFile())); err != nil {
		a.damaged(s.versionFile(), err)
	}
	if _, err := s.readDead(); errors.Is(err, state.ErrCorrupt) {
		a.damaged(s.deadFile(), err)
	} else if err != nil {
		return nil, err
	}
	refs, err := s.refs(state.Ref{})
	if err != nil {
		return nil, err
	}
	var all []state.Generation
	for _, r := range refs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := a.history(r)
		if err != nil {
			return nil, err
		}
		all = append(all, h.finished()...)
	}
	return all, nil
}

func (a *audit) history(r state.Ref) (history, error) {
	s := a.store
	for _, name := range []string{s.historyFile(r), s.historyCopy(r)} {
		h, err := s.readHistory(name, r)
		switch {
		case errors.Is(err, fs.ErrNotExist) && name == s.historyCopy(r): // of version 1, or not written: nothing is lost
		case errors.Is(err, fs.ErrNotExist):
			a.damaged(name, fmt.Errorf("it is missing: %w", state.ErrCorrupt))
		case errors.Is(err, state.ErrCorrupt):
			a.damaged(name, err)
		case err != nil:
			return h, err
		}
	}
	h, err := s.history(r)
	if errors.Is(err, state.ErrCorrupt) {
		err = nil // said already
	}
	return h, err
}

func (a *audit) damaged(name string, err error) {
	a.found.Files = append(a.found.Files, state.Damage{File: a.store.rel(name), Problem: err.Error()})
}

// rel names a file relative to the store.
func (s *Store) rel(name string) string {
	if rel, err := filepath.Rel(s.dir, name); err == nil && s.dir != "" {
		return filepath.ToSlash(rel)
	}
	return filepath.ToSlash(name)
}

// snapshot looks at one snapshot. What is wrong with it is found, not returned.
func (a *audit) snapshot(ctx context.Context, c *catalog, id state.SnapshotID, generations []state.Generation) error {
	a.found.Snapshots++
	err := a.look(ctx, c, id)
	if err == nil {
		return nil
	}
	if !damage(err) && !errors.Is(err, state.ErrNotFound) {
		return err
	}
	loss := state.Loss{Snapshot: id, Problem: err.Error(), Generations: []state.Generation{}}
	for _, g := range generations {
		if g.Snapshot == id {
			loss.Generations = append(loss.Generations, g)
		}
	}
	a.found.Lost = append(a.found.Lost, loss)
	if blamed, ok := errors.AsType[*packError](err); ok {
		a.by[id] = blamed.pack
	}
	return nil
}

// look finds out whether a snapshot is there, and with readData whether it is what it was.
func (a *audit) look(ctx context.Context, c *catalog, id state.SnapshotID) error {
	m, err := c.manifest(id)
	if err != nil {
		return err
	}
	if err := c.whole(m); err != nil {
		return err
	}
	if err := a.store.intact(c, m); err != nil || !a.readData {
		return err
	}
	began := a.store.now()
	task := progress.Start(ctx, "verify "+string(id[:12]), m.Size)
	defer task.End()
	if err := c.prove(ctx, m, task); err != nil {
		return err
	}
	a.found.Bytes += m.Size
	a.verified[id] = began
	return nil
}

// blame adds the packs in which something is wrong, with the snapshots that cannot be read because of it.
func (a *audit) blame(c *catalog) {
	for _, p := range c.packs {
		err := c.blamed[p.name]
		if err == nil {
			continue
		}
		d := state.Damage{File: "packs/" + p.name, Problem: err.Error()}
		for _, loss := range a.found.Lost {
			if a.by[loss.Snapshot] == p.name {
				d.Snapshots = append(d.Snapshots, loss.Snapshot)
			}
		}
		a.found.Files = append(a.found.Files, d)
	}
	slices.SortFunc(a.found.Files, func(x, y state.Damage) int { return strings.Compare(x.File, y.File) })
}

// packError is damage in a pack.
type packError struct {
	pack string
	err  error
}

func (e *packError) Error() string { return e.err.Error() }
func (e *packError) Unwrap() error { return e.err }

// damage says whether an error is about what is stored, and not about the operation. A disk that cannot read a pack any
// more has damaged it.
func damage(err error) bool {
	return errors.Is(err, state.ErrCorrupt) || errors.As(err, new(*packError)) && !errors.Is(err, fs.ErrNotExist)
}
