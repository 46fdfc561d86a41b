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
	return s.complete(c, name, map[digest]bool{}, 0)
}

// based says whether everything that a copy of an object is made from can be used.
func (s *Store) based(c *catalog, e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.completes(c, e, map[digest]bool{}, 0)
}

// complete is readable under the lock. Chains are finite, but what is read may be damaged: without is what has been
// looked at on the way, and a circle is no support.
func (s *Store) complete(c *catalog, name digest, without map[digest]bool, level int) bool {
	if s.sound == nil || len(s.sound) > maxSound {
		s.sound = map[digest]bool{}
	}
	if s.sound[name] {
		return true
	}
	if without[name] || level > hardDepth {
		return false
	}
	without[name] = true
	for _, p := range c.packs {
		if e := p.find(name); e != nil && s.completes(c, e, without, level) {
			s.sound[name] = true
			return true
		}
	}
	return false
}

func (s *Store) completes(c *catalog, e *entry, without map[digest]bool, level int) bool {
	return !slices.ContainsFunc(e.bases, func(base digest) bool { return !s.complete(c, base, without, level+1) })
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

// anew forgets what was read before, so that what was damaged since then is found.
func (s *Store) anew() {
	s.mu.Lock()
	s.known, s.sound = nil, nil
	s.mu.Unlock()
	s.cache.keep(nil)
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
