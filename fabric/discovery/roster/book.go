package roster

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"sync"

	"orrery/fabric"
)

// Book remembers where nodes listen, for a start at which nobody is known yet.
type Book struct {
	path string
	mu   sync.Mutex
	book map[fabric.NodeID]fabric.Beacon
}

// Load reads the book in a file. One that is lost is only a hint that is lost.
func Load(path string) *Book {
	a := &Book{path: path, book: map[fabric.NodeID]fabric.Beacon{}}
	if content, err := os.ReadFile(path); err != nil || json.Unmarshal(content, &a.book) != nil {
		a.book = map[fabric.NodeID]fabric.Beacon{}
	}
	return a
}

// Get returns where a node listens.
func (a *Book) Get(id fabric.NodeID) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	b, ok := a.book[id]
	return b.RPC, ok
}

// Seeds are the nodes of a cluster whose gossip can be joined.
func (a *Book) Seeds(cluster string) []fabric.Beacon {
	a.mu.Lock()
	defer a.mu.Unlock()
	var all []fabric.Beacon
	for _, b := range a.book {
		if b.Cluster == cluster && b.Gossip != "" {
			all = append(all, b)
		}
	}
	return all
}

// All are the nodes that are remembered.
func (a *Book) All() []fabric.Beacon {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Collect(maps.Values(a.book))
}

// Drop forgets nodes.
func (a *Book) Drop(gone func(fabric.NodeID) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := len(a.book)
	maps.DeleteFunc(a.book, func(id fabric.NodeID, _ fabric.Beacon) bool { return gone(id) })
	if len(a.book) < before {
		_ = a.save() // a hint, as in Keep
	}
}

// Add remembers a node that is known by its beacon.
func (a *Book) Add(b fabric.Beacon) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.book[b.ID] = b
}

// Keep writes down where the nodes listen, if that changed.
func (a *Book) Keep(beacons []fabric.Beacon) {
	a.mu.Lock()
	defer a.mu.Unlock()
	changed := false
	for _, b := range beacons {
		b.Via = ""
		if a.book[b.ID] != b {
			a.book[b.ID], changed = b, true
		}
	}
	if changed {
		_ = a.save() // a hint: the next change tries again
	}
}

// Save writes the book down.
func (a *Book) Save() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.save()
}

func (a *Book) save() error {
	content, err := json.MarshalIndent(a.book, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(a.path+".new", append(content, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(a.path+".new", a.path)
}
