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
	Clean        uint64        // what Leave wrote last
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
	base  atomic.Pointer[[]byte]
	first atomic.Uint64 // sequence of the oldest entry of the log; last+1 if there is none
	holds atomic.Int32  // how many need the log as it is

	wmu      sync.Mutex // held by whoever writes, and guards what follows
	last     uint64
	applied  uint64
	epoch    uint64 // of the applied entry
	logBytes int    // of entries up to applied, about
	sessions *sessions
	recent   recent
	enc      []byte
	key      []byte
}

var _ replica.Storage = (*Store)(nil)

// Open opens a chain's store, an empty one if there is none. A chain has one open store at a time.
func (d *Disk) Open(id chain.ID) (*Store, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open[id] {
		return nil, fmt.Errorf("chain %d is open already", id)
	}
	s := &Store{disk: d, id: id, recent: recent{keys: map[string]change{}}}
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
		return s.corrupt("number of copies")
	}
	base := baseOf(s.id, binary.BigEndian.Uint64(g))
	s.base.Store(&base)
	if err := s.reload(); err != nil {
		return err
	}
	return s.redo()
}

// corrupt says that something in the store is not what was written.
func (s *Store) corrupt(what string) error {
	return fmt.Errorf("%w: %s", chain.ErrCorrupt, what)
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
	clean, err := get(s.disk.db, s.part(partMember))
	if err != nil {
		return st, err
	}
	if clean != nil {
		incarnation, n := binary.Uvarint(clean)
		if st.Clean = incarnation; n <= 0 {
			return st, fmt.Errorf("%w: incarnation of the last member", chain.ErrCorrupt)
		}
	}
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
	s.wmu.Lock()
	defer s.wmu.Unlock()
	p := s.disk.db.NewBatch()
	if err := s.fill(p, b); err != nil {
		s.disk.fuse.Blow(err) // the store has gone on in memory
		return s.disk.fuse.Err()
	}
	if err := s.disk.commit(p, pebble.NoSync); err != nil {
		return err
	}
	s.take(b.Apply)
	if s.recent.entries >= s.disk.recent || s.recent.bytes >= maxRecent {
		return s.settle()
	}
	return nil
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
	if n := len(b.Apply); n > 0 {
		e := &b.Apply[n-1]
		s.enc = binary.AppendUvarint(binary.AppendUvarint(s.enc[:0], e.Sequence), e.Epoch)
		errs = append(errs, p.Set(s.part(partApplied), s.enc, nil))
	}
	return errors.Join(errs...)
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

// Leave notes that the process of an incarnation ended with all that it had in the store, and makes both durable.
func (s *Store) Leave(incarnation uint64) error {
	return s.disk.fuse.Guard(func() error {
		return s.disk.db.Set(s.part(partMember), binary.AppendUvarint(nil, incarnation), pebble.Sync)
	})
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
func appendValue(b []byte, v *chain.Value) []byte {
	return append(binary.AppendVarint(binary.AppendUvarint(b, v.Version), v.Expires), v.Value...)
}

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
	s.recent.mu.RLock()
	defer s.recent.mu.RUnlock()
	r, known, over = s.sessions.recall(client, request)
	return r, known, over, nil
}
