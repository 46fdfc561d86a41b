package api

import "sync"

// locks are mutexes by name; those that nobody holds or waits for take no place.
type locks struct {
	mu  sync.Mutex
	all map[string]*heldLock
}

type heldLock struct {
	sync.Mutex

	users int
}

// lock locks one, and returns what unlocks it.
func (l *locks) lock(name string) func() {
	l.mu.Lock()
	if l.all == nil {
		l.all = map[string]*heldLock{}
	}
	h := l.all[name]
	if h == nil {
		h = &heldLock{}
		l.all[name] = h
	}
	h.users++
	l.mu.Unlock()
	h.Lock()
	return func() {
		h.Unlock()
		l.mu.Lock()
		defer l.mu.Unlock()
		if h.users--; h.users == 0 {
			delete(l.all, name)
		}
	}
}
