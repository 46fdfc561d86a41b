package pair_test

import (
	"context"
	"sync"

	"orrery/clip/pair"
)

// air is a network on which everybody hears everybody, again and again when somebody new comes.
type air struct {
	mu    sync.Mutex
	there []pair.Sighting
	ears  map[string]func(pair.Sighting)
}

func (a *air) announce(s pair.Sighting) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.there = append(a.there, s)
	for _, hear := range a.ears {
		for _, s := range a.there {
			hear(s)
		}
	}
}

// find is a pair.Finder.
func (a *air) find(ctx context.Context, _ string, own pair.Sighting, found func(pair.Sighting)) error {
	a.mu.Lock()
	if a.ears == nil {
		a.ears = map[string]func(pair.Sighting){}
	}
	a.ears[own.ID] = found
	a.mu.Unlock()
	a.announce(own)
	<-ctx.Done()
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.ears, own.ID)
	return nil
}
