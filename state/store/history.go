package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"orrery/state"
)

// history is the file of a component's generations.
type history struct {
	Version     int                `json:"version"`
	Next        uint64             `json:"next"` // the number of the next generation
	Generations []state.Generation `json:"generations"`
}

const (
	historySuffix = ".json"
	historyLock   = ".lock"
)

func checkRef(r state.Ref) error {
	if !state.ValidName(r.Container) || !state.ValidName(r.Component) {
		return fmt.Errorf("component %.200q: %w: a name has lower-case letters, digits, '-', '_' and '.'",
			r.String(), state.ErrBadProperty)
	}
	return nil
}

func (s *Store) historyFile(r state.Ref) string {
	return filepath.Join(s.components(), r.Container, r.Component+historySuffix)
}

// lockHistory keeps others from adding or dropping generations of a component.
func (s *Store) lockHistory(ctx context.Context, r state.Ref) (lock, error) {
	dir := filepath.Join(s.components(), r.Container)
	if _, err := s.files.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		if err := s.files.MkdirAll(dir); err != nil {
			return lock{}, err
		}
		if err := s.files.SyncDir(s.components()); err != nil {
			return lock{}, errors.Join(err, s.files.Remove(dir)) // so that the next one tries again
		}
	}
	return s.acquire(ctx, filepath.Join(dir, r.Component+historyLock), true)
}

func (s *Store) history(r state.Ref) (history, error) {
	h := history{Version: 1, Next: 1}
	b, err := s.files.ReadFile(s.historyFile(r))
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return h, fmt.Errorf("generations of %s: %w: %w", r, state.ErrCorrupt, err)
	}
	if h.Version != 1 {
		return h, fmt.Errorf("generations of %s: %w: version %d, this program knows 1", r, state.ErrCorrupt, h.Version)
	}
	for _, g := range h.Generations {
		if g.Number == 0 || g.Number >= h.Next {
			return h, fmt.Errorf("generations of %s: %w: number %d out of order", r, state.ErrCorrupt, g.Number)
		}
	}
	return h, nil
}

func (h history) newest() state.SnapshotID {
	if len(h.Generations) == 0 {
		return ""
	}
	return h.Generations[len(h.Generations)-1].Snapshot
}

// append adds a generation durably and returns it.
func (s *Store) append(h history, g state.Generation) (state.Generation, error) {
	g.Number, g.Time = h.Next, s.now().UTC()
	h.Next++
	h.Generations = append(slices.Clip(h.Generations), g)
	return g, s.writeHistory(state.Ref{Container: g.Container, Component: g.Component}, h)
}

// settle makes a generation durable that can be seen already: who added it may have failed at that.
func (s *Store) settle(g state.Generation) error {
	return s.files.SyncDir(filepath.Join(s.components(), g.Container))
}

func (s *Store) writeHistory(r state.Ref, h history) error {
	b, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return s.replace(s.historyFile(r), append(b, '\n'))
}

// Generations lists the generations of a component, oldest first; of all components for the zero Ref.
func (s *Store) Generations(ctx context.Context, r state.Ref) ([]state.Generation, error) {
	refs, err := s.refs(r)
	if err != nil {
		return nil, err
	}
	var all []state.Generation
	for _, r := range refs {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		h, err := s.history(r)
		if err != nil {
			return nil, err
		}
		all = append(all, h.Generations...)
	}
	return all, nil
}

// refs are the components that a Ref stands for: itself, or all for the zero one.
func (s *Store) refs(r state.Ref) ([]state.Ref, error) {
	if r != (state.Ref{}) {
		return []state.Ref{r}, checkRef(r)
	}
	var all []state.Ref
	containers, err := s.files.ReadDir(s.components())
	if err != nil {
		return nil, err
	}
	for _, container := range containers {
		files, err := s.files.ReadDir(filepath.Join(s.components(), container.Name()))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			r := state.Ref{Container: container.Name()}
			var ok bool
			if r.Component, ok = strings.CutSuffix(f.Name(), historySuffix); ok && checkRef(r) == nil {
				all = append(all, r)
			}
		}
	}
	return all, nil
}
