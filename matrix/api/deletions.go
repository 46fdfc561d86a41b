package api

import (
	"crypto/rand"
	"sync"
)

// maxDeletions is how many deletions of rooms are remembered.
const maxDeletions = 1000

// deletions are those of rooms that administrators asked for; all of them are done.
type deletions struct {
	mu  sync.Mutex
	all map[string]map[string]any
}

func (d *deletions) add(room string, done map[string]any) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.all) >= maxDeletions || d.all == nil {
		d.all = map[string]map[string]any{}
	}
	id := rand.Text()
	d.all[id] = map[string]any{"status": "complete", "room_id": room, "shutdown_room": done}
	return id
}

func (d *deletions) get(id string) (map[string]any, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	one, ok := d.all[id]
	return one, ok
}
