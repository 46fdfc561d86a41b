// Package windowtest has what tests of windows share: a history in memory, what a picker's window is to show, and photographs.
package windowtest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"orrery/clip"
	"orrery/clip/action"
	"orrery/clip/find"
	"orrery/clip/window"
)

// Source is a history in memory.
type Source struct {
	mu    sync.Mutex
	items []clip.Item
	given []Given
}

// Given is what was picked.
type Given struct {
	ID    clip.ID
	Plain bool
	Paste bool
}

var _ window.Source = (*Source)(nil)

// Texts makes a history of texts, the newest first.
func Texts(texts ...string) *Source {
	s := &Source{}
	for i, text := range texts {
		s.Add(clip.Content{Type: "text/plain;charset=utf-8", Data: []byte(text)}).ID = clip.ID(len(texts) - i) //nolint:gosec // a few
	}
	return s
}

// Add adds an item at the end.
func (s *Source) Add(contents ...clip.Content) *clip.Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = append(s.items, clip.Item{
		Summary:  clip.Summary{ID: clip.ID(len(s.items) + 1), Kind: clip.KindOf(contents), Count: 1, Used: time.Unix(1e9, 0), Preview: clip.Preview(contents)}, //nolint:gosec // a few
		Contents: contents,
	})
	return &s.items[len(s.items)-1]
}

// Given is what was picked so far.
func (s *Source) Given() []Given {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.given)
}

// Search is window.Source's.
func (s *Source) Search(_ context.Context, query string, mode find.Mode, limit int) (found []clip.Summary, err error) {
	q, err := find.Parse(query, mode, time.Unix(2e9, 0))
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.items {
		if _, ok := q.Match(&s.items[i].Summary, []byte(strings.ToLower(s.items[i].Preview))); ok && len(found) < limit {
			found = append(found, s.items[i].Summary)
		}
	}
	return found, nil
}

func (s *Source) at(id clip.ID) (int, error) {
	at := slices.IndexFunc(s.items, func(i clip.Item) bool { return i.ID == id })
	if at < 0 {
		return 0, fmt.Errorf("item %d: %w", id, clip.ErrNotFound)
	}
	return at, nil
}

// Show is window.Source's.
func (s *Source) Show(_ context.Context, id clip.ID) (clip.Item, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.at(id)
	if err != nil {
		return clip.Item{}, err
	}
	return s.items[at], nil
}

// Give is window.Source's.
func (s *Source) Give(_ context.Context, id clip.ID, plain, paste bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := s.at(id)
	if err == nil {
		s.given = append(s.given, Given{id, plain, paste})
	}
	return err
}

// Pin is window.Source's.
func (s *Source) Pin(_ context.Context, id clip.ID, pinned bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.at(id)
	if err == nil {
		s.items[at].Pinned = pinned
	}
	return err
}

// Delete is window.Source's.
func (s *Source) Delete(_ context.Context, id clip.ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, err := s.at(id)
	if err == nil {
		s.items = slices.Delete(s.items, at, at+1)
	}
	return err
}

// EditElsewhere is window.Source's.
func (s *Source) EditElsewhere(context.Context, clip.ID) error {
	return errors.New("there is no terminal here")
}

// Open is window.Source's.
func (s *Source) Open(context.Context, string) error { return nil }

// Run is window.Source's. What is printed is the item's text.
func (s *Source) Run(ctx context.Context, id clip.ID, _ action.Action) (string, error) {
	item, err := s.Show(ctx, id)
	return action.Text(&item), err
}
