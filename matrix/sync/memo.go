package sync

import "sync"

// maxMemo is how many values are kept of one kind; all are given up when there are more.
const maxMemo = 50_000

// memo is values that were read of the store, each until what it was read of is written.
type memo[K comparable, V any] struct {
	mu      sync.Mutex
	known   map[K]V
	reading map[K]int64 // the last who began to read it, since it was written
	readers int64
	off     bool // nothing is kept
}

// get is a value, read if it is not known. What is written meanwhile may be in it or not: it is not kept then.
func (m *memo[K, V]) get(key K, read func() (V, error)) (V, error) {
	m.mu.Lock()
	if v, ok := m.known[key]; ok {
		m.mu.Unlock()
		return v, nil
	}
	m.readers++
	reader := m.readers
	if m.reading == nil {
		m.known, m.reading = map[K]V{}, map[K]int64{}
	}
	if !m.off {
		m.reading[key] = reader
	}
	m.mu.Unlock()
	v, err := read()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reading[key] != reader {
		return v, err
	}
	delete(m.reading, key)
	if err != nil {
		return v, err
	}
	if len(m.known) >= maxMemo {
		clear(m.known)
	}
	m.known[key] = v
	return v, nil
}

// forget gives up a value, which was written.
func (m *memo[K, V]) forget(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.known, key)
	delete(m.reading, key)
}

// keep says whether values are kept from now on; those that were are given up.
func (m *memo[K, V]) keep(keep bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.known)
	clear(m.reading)
	m.off = !keep
}
