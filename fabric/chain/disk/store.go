package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
	"orrery/fabric/chain/wire"
)

// State is what a store holds when it is opened.
type State struct {
	Applied      uint64
	AppliedEpoch uint64
	Pending      []chain.Entry // above Applied, in order; durable
}

// Batch is what is written at once, in this order.
type Batch struct {
	Truncate bool   // remove the entries above Keep
	Keep     uint64 // with Truncate
	Append   []chain.Entry
	Apply    []chain.Entry
}

// Store is one replica's part of the database. One goroutine writes; reading and Sync are for many.
type Store struct {
	disk *Disk
	id   chain.ID

	// base is the beginning of the store's keys; Install changes it.
	base     atomic.Pointer[[]byte]
	first    atomic.Uint64 // sequence of the oldest entry of the log; last+1 if there is none
	last     uint64
	applied  uint64
	epoch    uint64 // of the applied entry
	logBytes int    // of entries up to applied, about
	sessions *sessions
	holds    atomic.Int32 // how many need the log as it is

	enc []byte
	key []byte
}

var _ replica.Storage = (*Store)(nil)

// Open opens a chain's store, an empty one if there is none. A chain has one open store at a time.
func (d *Disk) Open(id chain.ID) (*Store, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open[id] {
		return nil, fmt.Errorf("chain %d is open already", id)
	}
	s := &Store{disk: d, id: id}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("store of chain %d: %w", id, err)
	}
	d.open[id] = true
	return s, nil
}

// Close ends the use of the store.
func (s *Store) Close() error {
	s.disk.mu.Lock()
	defer s.disk.mu.Unlock()
	delete(s.disk.open, s.id)
	return nil
}

func (s *Store) load() error {
	name := number([]byte{spaceChain}, uint64(s.id))
	g, err := get(s.disk.db, name)
	if err != nil {
		return err
	}
	if g == nil {
		g = number(nil, 0)
		if err := s.disk.fuse.Guard(func() error { return s.disk.db.Set(name, g, pebble.Sync) }); err != nil {
			return err
		}
	}
	if len(g) != 8 {
		return fmt.Errorf("%w: number of copies", chain.ErrCorrupt)
	}
	base := baseOf(s.id, binary.BigEndian.Uint64(g))
	s.base.Store(&base)
	return s.reload()
}

func baseOf(id chain.ID, copies uint64) []byte {
	return number(number([]byte{spaceData}, uint64(id)), copies)
}

// reload reads what is kept in memory.
func (s *Store) reload() (err error) {
	if s.applied, s.epoch, err = applied(s.disk.db, *s.base.Load()); err != nil {
		return err
	}
	if s.sessions, err = loadSessions(s.disk.db, s.part(partResult)); err != nil {
		return err
	}
	start, end := between(s.part(partLog))
	it, err := s.disk.db.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return err
	}
	s.first.Store(s.applied + 1)
	s.last = s.applied
	if it.First() {
		s.first.Store(binary.BigEndian.Uint64(it.Key()[len(start):]))
	}
	if it.Last() {
		s.last = binary.BigEndian.Uint64(it.Key()[len(start):])
	}
	if err := ended(it); err != nil {
		return err
	}
	used, err := s.disk.db.EstimateDiskUsage(start, number(append([]byte{}, start...), s.applied+1))
	s.logBytes = int(min(used, 1<<40)) //nolint:gosec // bounded
	return err
}

func applied(from pebble.Reader, base []byte) (sequence, epoch uint64, err error) {
	v, err := get(from, append(append([]byte{}, base...), partApplied))
	if err != nil || v == nil {
		return 0, 0, err
	}
	sequence, n := binary.Uvarint(v)
	epoch, m := binary.Uvarint(v[max(n, 0):])
	if n <= 0 || m <= 0 {
		return 0, 0, fmt.Errorf("%w: applied sequence", chain.ErrCorrupt)
	}
	return sequence, epoch, nil
}

// part is the beginning of the keys of a part.
func (s *Store) part(p byte) []byte { return append(append(make([]byte, 0, 64), *s.base.Load()...), p) }

// State is what the store holds.
func (s *Store) State() (State, error) {
	st := State{Applied: s.applied, AppliedEpoch: s.epoch}
	for next := s.applied + 1; next <= s.last; {
		entries, err := s.Entries(next, 1<<20)
		if err != nil {
			return st, err
		}
		if len(entries) == 0 || entries[0].Sequence != next {
			return st, fmt.Errorf("%w: chain %d has no entry %d", chain.ErrCorrupt, s.id, next)
		}
		st.Pending = append(st.Pending, entries...)
		next += uint64(len(entries))
	}
	return st, nil
}

// Write writes a batch, whole or not at all. It is not durable yet.
func (s *Store) Write(b *Batch) error {
	if err := s.disk.fuse.Err(); err != nil {
		return err
	}
	p := s.disk.db.NewBatch()
	if err := s.fill(p, b); err != nil {
		s.disk.fuse.Blow(err) // the store has gone on in memory
		return s.disk.fuse.Err()
	}
	return s.disk.commit(p, pebble.NoSync)
}

// commit writes a batch, which nobody else uses any more.
func (d *Disk) commit(p *pebble.Batch, o *pebble.WriteOptions) error {
	return d.fuse.Guard(func() error { return errors.Join(p.Commit(o), p.Close()) })
}

// fill puts into a Pebble batch what a batch says.
func (s *Store) fill(p *pebble.Batch, b *Batch) error {
	var errs []error
	if b.Truncate && b.Keep < s.last {
		log := s.part(partLog)
		errs = append(errs, p.DeleteRange(number(log, b.Keep+1), number(append([]byte{}, log...), s.last+1), nil))
		s.last = b.Keep
	}
	for i := range b.Append {
		e := &b.Append[i]
		s.key = number(append(append(s.key[:0], *s.base.Load()...), partLog), e.Sequence)
		s.enc = wire.AppendEntry(s.enc[:0], e)
		errs = append(errs, p.Set(s.key, s.enc, nil))
		s.last = e.Sequence
	}
	for i := range b.Apply {
		errs = append(errs, s.apply(p, &b.Apply[i]))
	}
	if n := len(b.Apply); n > 0 {
		e := &b.Apply[n-1]
		s.applied, s.epoch = e.Sequence, e.Epoch
		v := binary.AppendUvarint(binary.AppendUvarint(nil, s.applied), s.epoch)
		errs = append(errs, p.Set(s.part(partApplied), v, nil), s.trim(p))
	}
	return errors.Join(errs...)
}

// apply adds what an entry does to the keys and to the memory of clients.
func (s *Store) apply(p *pebble.Batch, e *chain.Entry) error {
	var errs []error
	for _, c := range e.Changes {
		s.logBytes += len(c.Key) + len(c.Value)
		s.key = append(append(append(s.key[:0], *s.base.Load()...), partKey), c.Key...)
		if c.Expires != 0 {
			errs = append(errs, p.Set(s.expiry(c.Expires, c.Key), nil, nil))
		}
		if c.Deleted {
			errs = append(errs, p.Delete(s.key, nil))
			continue
		}
		s.enc = binary.AppendUvarint(s.enc[:0], e.Sequence)
		s.enc = append(binary.AppendVarint(s.enc, c.Expires), c.Value...)
		errs = append(errs, p.Set(s.key, s.enc, nil))
	}
	s.logBytes += 64
	if e.Client != 0 {
		errs = append(errs, s.sessions.apply(p, s.part(partResult), e))
	}
	return errors.Join(errs...)
}

func (s *Store) expiry(at int64, key []byte) []byte {
	return append(number(s.part(partExpiry), uint64(at)), key...) //nolint:gosec // not before 1970
}

// trim removes what the log has too much of behind what was applied.
func (s *Store) trim(p *pebble.Batch) error {
	first := s.first.Load()
	if s.holds.Load() > 0 || s.applied < first+2*s.disk.keepEntries && s.logBytes < 2*s.disk.keepBytes {
		return nil
	}
	from := s.applied - min(s.applied, s.disk.keepEntries)
	if s.logBytes >= 2*s.disk.keepBytes {
		// About half of the bytes are in the newer half of the entries.
		from = max(from, first+(s.applied-first)/2)
	}
	if from <= first {
		return nil
	}
	s.logBytes /= 2
	log := s.part(partLog)
	s.first.Store(from)
	return p.DeleteRange(number(log, first), number(append([]byte{}, log...), from), nil)
}

// Sync makes durable what was written before it began.
func (s *Store) Sync() error {
	return s.disk.fuse.Guard(func() error { return s.disk.db.LogData(nil, pebble.Sync) })
}

// Get returns a key's value as of what was applied.
func (s *Store) Get(key []byte) (chain.Value, bool, error) {
	return value(s.disk.db, *s.base.Load(), key)
}

var keyBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 256); return &b }}

func value(from pebble.Reader, base, key []byte) (chain.Value, bool, error) {
	k := keyBuffers.Get().(*[]byte) //nolint:forcetypeassert // the pool holds nothing else
	*k = append(append(append((*k)[:0], base...), partKey), key...)
	v, closer, err := from.Get(*k)
	keyBuffers.Put(k)
	if errors.Is(err, pebble.ErrNotFound) {
		return chain.Value{}, false, nil
	}
	if err != nil {
		return chain.Value{}, false, damaged(err)
	}
	found, err := decodeValue(v)
	found.Value = bytes.Clone(found.Value)
	return found, err == nil, errors.Join(err, closer.Close())
}

// decodeValue reads a value, which shares the bytes.
func decodeValue(v []byte) (chain.Value, error) {
	version, n := binary.Uvarint(v)
	if n <= 0 {
		return chain.Value{}, fmt.Errorf("%w: value", chain.ErrCorrupt)
	}
	expires, m := binary.Varint(v[n:])
	if m <= 0 {
		return chain.Value{}, fmt.Errorf("%w: value", chain.ErrCorrupt)
	}
	return chain.Value{Value: v[n+m:], Version: version, Expires: expires}, nil
}

// First is the sequence of the oldest entry of the log.
func (s *Store) First() uint64 { return s.first.Load() }

// Entries returns entries of the log from a sequence on, at least one if there is one, of about limit bytes at the most.
func (s *Store) Entries(from uint64, limit int) ([]chain.Entry, error) {
	start, end := between(s.part(partLog))
	it, err := s.disk.db.NewIter(&pebble.IterOptions{LowerBound: number(append([]byte{}, start...), from), UpperBound: end})
	if err != nil {
		return nil, err
	}
	var entries []chain.Entry
	size := 0
	for it.First(); it.Valid() && size < limit; it.Next() {
		e, held, err := entryOf(it)
		if err == nil && e.Sequence != from+uint64(len(entries)) {
			if len(entries) == 0 {
				break // the log begins later
			}
			err = fmt.Errorf("%w: entry %d where %d should be", chain.ErrCorrupt, e.Sequence, from+uint64(len(entries)))
		}
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		size += held
		entries = append(entries, e)
	}
	return entries, ended(it)
}

// entryOf is the entry where an iterator is, and how many bytes it has.
func entryOf(it *pebble.Iterator) (chain.Entry, int, error) {
	v, err := it.ValueAndErr()
	if err != nil {
		return chain.Entry{}, 0, damaged(err)
	}
	e, err := wire.DecodeEntry(bytes.Clone(v))
	return e, len(v), err
}

// ended closes an iterator, and says whether it met an error.
func ended(it *pebble.Iterator) error { return damaged(errors.Join(it.Error(), it.Close())) }

// Recall returns the result of a client's request.
func (s *Store) Recall(client, request uint64) (r chain.Result, known, over bool, err error) {
	r, known, over = s.sessions.recall(client, request)
	return r, known, over, nil
}

// Expired returns keys whose time is over.
func (s *Store) Expired(time int64, limit int) ([][]byte, error) {
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
