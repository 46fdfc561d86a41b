package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"orrery/fabric/chain"
)

// maxRecent is about how many bytes of entries are applied in memory alone.
const maxRecent = 1 << 20

// recent is what was applied and is in the log, but not among the keys and results of the database yet. Of a key that is written again and again only the newest value
// gets there. A crash loses it; opening the store finds it in the log.
type recent struct {
	mu      sync.RWMutex // guards the fields, and the store's sessions. Whoever changes them also holds the store's wmu
	keys    map[string]change
	entries int
	bytes   int
	soonest int64 // the first time at which one of the keys expires; 0: none does
}

// change is the newest one of a key. Its bytes are the entry's, which nobody changes.
type change struct {
	value   chain.Value
	deleted bool
}

// get returns what is known of a key here; known is false if the database has its newest value.
func (r *recent) get(key []byte) (v chain.Value, ok, known bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	c, known := r.keys[string(key)]
	return c.value, known && !c.deleted, known
}

// take takes an entry in.
func (r *recent) take(e *chain.Entry) {
	r.entries++
	r.bytes += 64
	for _, c := range e.Changes {
		r.bytes += len(c.Key) + len(c.Value)
		if c.Deleted {
			r.keys[string(c.Key)] = change{deleted: true}
			continue
		}
		r.keys[string(c.Key)] = change{value: chain.Value{Value: c.Value, Version: e.Sequence, Expires: c.Expires}}
		if c.Expires != 0 && (r.soonest == 0 || c.Expires < r.soonest) {
			r.soonest = c.Expires
		}
	}
}

// take takes applied entries into memory.
func (s *Store) take(entries []chain.Entry) {
	s.recent.mu.Lock()
	defer s.recent.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		s.applied, s.epoch = e.Sequence, e.Epoch
		s.logBytes += 64
		for _, c := range e.Changes {
			s.logBytes += len(c.Key) + len(c.Value)
		}
		s.recent.take(e)
		if e.Client != 0 {
			s.sessions.take(e)
		}
	}
}

// settle brings what is recent into the database, with wmu held.
func (s *Store) settle() error {
	if s.recent.entries == 0 {
		return nil
	}
	p := s.disk.db.NewBatch()
	if err := errors.Join(s.fillKeys(p), s.sessions.fill(p, s.part(partResult)), p.Set(s.part(partSettled), binary.AppendUvarint(nil, s.applied), nil), s.trim(p)); err != nil {
		s.disk.fuse.Blow(err)
		return s.disk.fuse.Err()
	}
	if err := s.disk.commit(p, pebble.NoSync); err != nil {
		return err
	}
	r := &s.recent
	r.mu.Lock()
	defer r.mu.Unlock()
	s.sessions.filled()
	clear(r.keys)
	r.entries, r.bytes, r.soonest = 0, 0, 0
	return nil
}

// fillKeys adds the keys, in their order, which Pebble takes in faster.
func (s *Store) fillKeys(p *pebble.Batch) error {
	var errs []error
	base := s.part(partKey)
	var key, enc []byte
	for _, k := range slices.Sorted(maps.Keys(s.recent.keys)) {
		c := s.recent.keys[k]
		key = append(append(key[:0], base...), k...)
		if c.deleted {
			errs = append(errs, p.Delete(key, nil))
			continue
		}
		enc = appendValue(enc[:0], &c.value)
		errs = append(errs, p.Set(key, enc, nil))
		if c.value.Expires != 0 {
			errs = append(errs, p.Set(s.expiry(c.value.Expires, []byte(k)), nil, nil))
		}
	}
	return errors.Join(errs...)
}

// redo applies the entries of the log that were applied before the store was closed, or lost, and are not among its keys.
func (s *Store) redo() error {
	up := s.applied
	v, err := get(s.disk.db, s.part(partSettled))
	if err != nil {
		return err
	}
	if v == nil {
		return s.disk.fuse.Guard(func() error { return s.disk.db.Set(s.part(partSettled), binary.AppendUvarint(nil, up), pebble.NoSync) })
	}
	settled, n := binary.Uvarint(v)
	if n <= 0 || settled > up {
		return s.corrupt("settled sequence")
	}
	for next := settled + 1; next <= up; {
		entries, err := s.Entries(next, 1<<20)
		if err != nil {
			return err
		}
		if len(entries) == 0 || entries[0].Sequence != next {
			return s.corrupt("an entry that was applied is missing")
		}
		entries = entries[:min(uint64(len(entries)), up-next+1)]
		s.take(entries)
		next += uint64(len(entries))
	}
	return nil
}

// settled runs something while the database has all that was applied, and nothing more is written.
func (s *Store) settled(do func() error) error {
	s.wmu.Lock()
	defer s.wmu.Unlock()
	if err := s.settle(); err != nil {
		return err
	}
	return do()
}

// snapshot is the database with all that was applied.
func (s *Store) snapshot() (snapshot *pebble.Snapshot, err error) {
	err = s.settled(func() error {
		snapshot = s.disk.db.NewSnapshot()
		return nil
	})
	return snapshot, err
}

func (s *Store) expiry(at int64, key []byte) []byte {
	return append(number(s.part(partExpiry), uint64(at)), key...) //nolint:gosec // not before 1970
}

// Get returns a key's value as of what was applied. It is not to be changed.
func (s *Store) Get(key []byte) (chain.Value, bool, error) {
	if v, ok, known := s.recent.get(key); known {
		return v, ok, nil
	}
	return value(s.disk.db, *s.base.Load(), key)
}

// Expired returns keys whose time is over.
func (s *Store) Expired(time int64, limit int) ([][]byte, error) {
	s.recent.mu.RLock()
	soonest := s.recent.soonest
	s.recent.mu.RUnlock()
	if soonest != 0 && soonest <= time {
		if err := s.settled(func() error { return nil }); err != nil {
			return nil, err
		}
	}
	start := s.part(partExpiry)
	it, err := s.disk.db.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: number(append([]byte{}, start...), uint64(time)+1)}) //nolint:gosec // not before 1970
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	var stale [][]byte
	for it.First(); it.Valid() && len(keys) < limit && len(stale) < limit; it.Next() {
		at := int64(binary.BigEndian.Uint64(it.Key()[len(start):])) //nolint:gosec // as it was written
		key := bytes.Clone(it.Key()[len(start)+8:])
		v, ok, err := s.Get(key)
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		if ok && v.Expires == at {
			keys = append(keys, key)
		} else { // it was written, or deleted, since
			stale = append(stale, bytes.Clone(it.Key()))
		}
	}
	if err := ended(it); err != nil {
		return nil, err
	}
	return keys, s.forget(stale)
}

func (s *Store) forget(keys [][]byte) error {
	if len(keys) == 0 {
		return nil
	}
	b := s.disk.db.NewBatch()
	for _, k := range keys {
		if err := b.Delete(k, nil); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	return s.disk.commit(b, pebble.NoSync)
}
