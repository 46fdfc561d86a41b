package store

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"orrery/state"
)

// history is the file of a component's generations: a line of JSON and a line with its hash.
type history struct {
	Version     int                `json:"version"`
	Next        uint64             `json:"next"` // the number of the next generation
	Generations []state.Generation `json:"generations"`
}

const (
	// historyVersion is the version that is written. Version 1 had no labels and no line with the hash.
	historyVersion = 2
	historySuffix  = ".json"
	historyCopy    = ".copy" // the same again, for when the other is damaged
	historyLock    = ".lock"
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

func (s *Store) historyCopy(r state.Ref) string {
	return filepath.Join(s.components(), r.Container, r.Component+historyCopy)
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

// history reads the generations of a component. Where their file is damaged or gone, its copy serves. That it cannot be
// read just now is an error: the copy may lack the newest labels, and whoever wrote it back would lose them.
func (s *Store) history(r state.Ref) (history, error) {
	h, err := s.readHistory(s.historyFile(r), r)
	if err == nil || !noHistory(err) {
		return h, err
	}
	c, failed := s.readHistory(s.historyCopy(r), r)
	switch {
	case failed == nil:
		s.log.Warn("the copy of a component's generations is used", "component", r.String(), "error", err)
		c.Next++ // the copy may be older by one
		return c, nil
	case !errors.Is(failed, fs.ErrNotExist):
		return c, failed
	case errors.Is(err, fs.ErrNotExist):
		return history{Version: historyVersion, Next: 1}, nil
	}
	return h, err
}

// noHistory says whether an error of reading a history means that there is none which could be read.
func noHistory(err error) bool {
	return errors.Is(err, state.ErrCorrupt) || errors.Is(err, fs.ErrNotExist)
}

func (s *Store) readHistory(name string, r state.Ref) (history, error) {
	b, err := s.files.ReadFile(name)
	if err != nil {
		return history{}, err
	}
	h, err := decodeHistory(b)
	if err != nil {
		return h, fmt.Errorf("generations of %s: %w", r, err)
	}
	return h, nil
}

// decodeHistory decodes and checks a history of any version.
func decodeHistory(b []byte) (history, error) {
	var h history
	line, check, _ := bytes.Cut(b, []byte("\n"))
	if len(check) > 0 && string(check) != sum(line, free).String()+"\n" {
		return h, fmt.Errorf("%w: checksum differs", state.ErrCorrupt)
	}
	if err := json.Unmarshal(line, &h); err != nil {
		return h, fmt.Errorf("%w: %w", state.ErrCorrupt, err)
	}
	if h.Version > historyVersion {
		return h, fmt.Errorf("version %d is newer than this program, which knows %d (use a newer one)", h.Version, historyVersion)
	}
	if h.Version < 1 || (h.Version > 1) != (len(check) > 0) {
		return h, fmt.Errorf("%w: not a history", state.ErrCorrupt)
	}
	h.Version = historyVersion // version 1 is one without labels
	for i, g := range h.Generations {
		if g.Number == 0 || g.Number >= h.Next || i > 0 && g.Number <= h.Generations[i-1].Number {
			return h, fmt.Errorf("%w: number %d out of order", state.ErrCorrupt, g.Number)
		}
	}
	return h, nil
}

func (h history) encode() ([]byte, error) {
	h.Version = historyVersion
	b, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	check := sum(b, free)
	b = append(b, '\n')
	return append(append(b, check.String()...), '\n'), nil
}

func (h history) newest() state.SnapshotID {
	if len(h.Generations) == 0 {
		return ""
	}
	return h.last().Snapshot
}

// last is the newest generation, of which there is one.
func (h history) last() *state.Generation { return &h.Generations[len(h.Generations)-1] }

// append adds a generation of now durably and returns it.
func (s *Store) append(h history, g state.Generation) (state.Generation, error) {
	return s.appendAt(h, g, time.Time{})
}

// appendAt is append of a generation from another time, which it gets where that is not before the one before it.
func (s *Store) appendAt(h history, g state.Generation, when time.Time) (state.Generation, error) {
	g.Number, g.Time = h.Next, s.now().UTC()
	if !when.IsZero() && when.Before(g.Time) && (len(h.Generations) == 0 || !when.Before(h.last().Time)) {
		g.Time = when.UTC()
	}
	h.Next++
	h.Generations = append(slices.Clip(h.Generations), g)
	return g, s.writeHistory(state.Ref{Container: g.Container, Component: g.Component}, h)
}

// settle makes a generation durable that can be seen already: who added it may have failed at that.
func (s *Store) settle(g state.Generation) error {
	return s.files.SyncDir(filepath.Join(s.components(), g.Container))
}

func (s *Store) writeHistory(r state.Ref, h history) error {
	p, err := s.stageHistory(r, h)
	if err != nil {
		return err
	}
	return p.publish()
}

// pending is a file that is written and durable, and has not its name yet.
type pending struct {
	store      *Store
	temp, name string
	copyTo     string // where a copy goes afterwards; empty: none
	content    []byte
}

// stage writes a file beside its place.
func (s *Store) stage(name string, content []byte) (*pending, error) {
	p := &pending{store: s, temp: s.temporary(), name: name, content: content}
	return p, s.prepare(p.temp, content)
}

func (s *Store) stageHistory(r state.Ref, h history) (*pending, error) {
	b, err := h.encode()
	if err != nil {
		return nil, err
	}
	p, err := s.stage(s.historyFile(r), b)
	if err == nil {
		p.copyTo = s.historyCopy(r)
	}
	return p, err
}

func (p *pending) publish() error {
	if err := p.store.publish(p.temp, p.name); err != nil {
		return err
	}
	if p.copyTo == "" {
		return nil
	}
	if err := p.store.copyHistory(p.copyTo, p.content); err != nil {
		p.store.log.Warn("the copy of a component's generations is not written", "file", p.copyTo, "error", err)
	}
	return nil
}

func (p *pending) discard() error { return p.store.files.Remove(p.temp) }

// copyHistory writes the copy of a history, which is not made durable: it has a checksum, and the other file is durable.
func (s *Store) copyHistory(name string, content []byte) error {
	temp := s.temporary()
	f, err := s.files.Create(temp)
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Close()); err == nil {
		err = s.files.Rename(temp, name)
	}
	if err != nil {
		return errors.Join(err, s.files.Remove(temp))
	}
	return nil
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
		all = append(all, h.finished()...)
	}
	return all, nil
}

// refs are the components that a Ref stands for: itself, or all for the zero one.
func (s *Store) refs(r state.Ref) ([]state.Ref, error) {
	if r != (state.Ref{}) {
		return []state.Ref{r}, checkRef(r)
	}
	var all []state.Ref
	seen := map[state.Ref]bool{}
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
			if r.Component, ok = strings.CutSuffix(f.Name(), historySuffix); !ok {
				r.Component, ok = strings.CutSuffix(f.Name(), historyCopy)
			}
			if ok && checkRef(r) == nil && !seen[r] {
				seen[r] = true
				all = append(all, r)
			}
		}
	}
	return all, nil
}
