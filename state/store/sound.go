package store

import (
	"fmt"
	"slices"

	"orrery/state"
)

// maxSound bounds the memory of what is known to be readable.
const maxSound = 1 << 17

// readable says whether a segment and everything that it is made from is in packs that can be used. A save relies on
// what is there already only then: packs may have been damaged or taken away. What was found is remembered as long as
// no pack goes away, for chains of deltas are long and saves follow each other.
func (s *Store) readable(c *catalog, name digest) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sound == nil || len(s.sound) > maxSound {
		s.sound = map[digest]bool{}
	}
	return s.complete(c, name, 0)
}

// complete is readable under the lock. Chains are finite, but what is read may be damaged.
func (s *Store) complete(c *catalog, name digest, level int) bool {
	if s.sound[name] {
		return true
	}
	e := c.find(name)
	if e == nil || level > hardDepth {
		return false
	}
	for _, base := range e.bases {
		if !s.complete(c, base, level+1) {
			return false
		}
	}
	s.sound[name] = true
	return true
}

// intact says why a snapshot cannot be relied upon.
func (s *Store) intact(c *catalog, m *manifest) error {
	if i := slices.IndexFunc(m.Segments, func(name digest) bool { return !s.readable(c, name) }); i >= 0 {
		return fmt.Errorf("snapshot %s: %w", m.ID, c.lost(m.Segments[i]))
	}
	return nil
}

// lost is why a segment cannot be read.
func (c *catalog) lost(name digest) error {
	if c.find(name) == nil {
		return c.absent(name)
	}
	return fmt.Errorf("%w: what object %s is made from is missing", state.ErrCorrupt, name)
}

// forget drops what is known to be readable if a pack has gone, broken or lost objects. The lock is held.
func (s *Store) forget(now map[string]*pack) {
	for name, p := range s.known {
		if q := now[name]; q == nil || q.broken != nil || len(q.dead) != len(p.dead) || string(q.dead) != string(p.dead) {
			s.sound = nil
			return
		}
	}
}
