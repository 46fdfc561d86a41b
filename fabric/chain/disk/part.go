package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"orrery/fabric/chain"
	"orrery/internal/fault"
)

// partBatch is about how many bytes of a part are written at once.
const partBatch = 4 << 20

// Boundary finds the first entry of an epoch or a later one. up is an entry that was applied; ok is false if up is of an earlier epoch.
func (s *Store) Boundary(epoch, up uint64) (sequence, of uint64, ok bool, err error) {
	least, most := s.First(), up
	if of, err = s.epochAt(up); err != nil || up == 0 || of < epoch {
		return 0, 0, false, err
	}
	if least > up {
		return 0, 0, false, s.short(epoch)
	}
	for least < most { // epochs never become less
		middle := least + (most-least)/2
		e, err := s.epochAt(middle)
		if err != nil {
			return 0, 0, false, err
		}
		if e >= epoch {
			most, of = middle, e
		} else {
			least = middle + 1
		}
	}
	if most == s.First() && most > 1 {
		return 0, 0, false, s.short(epoch)
	}
	return most, of, true, nil
}

func (s *Store) short(epoch uint64) error {
	return fmt.Errorf("the log of chain %d does not reach back to the beginning of epoch %d", s.id, epoch)
}

// epochAt is the epoch of an entry of the log; 0 if the log does not have it.
func (s *Store) epochAt(sequence uint64) (uint64, error) {
	entries, err := s.Entries(sequence, 1)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	return entries[0].Epoch, nil
}

// Part makes the store of a chain that is split off, with this store's keys in a range and its memory of clients. Its log begins after the entry sequence, of epoch; no entry
// after that changes these keys, and what is remembered of later ones is left out: all members' parts are the same, however late they are made. They are not in this store any more then. A crash leaves all as it was before, or as it is afterwards. A store that is there is left as it is.
func (s *Store) Part(child chain.ID, keys chain.Range, sequence, epoch uint64) error {
	if err := s.disk.fuse.Err(); err != nil {
		return err
	}
	db := s.disk.db
	there := number([]byte{spaceChain}, uint64(child))
	if g, err := get(db, there); err != nil || g != nil {
		return err
	}
	snapshot, err := s.snapshot()
	if err != nil {
		return err
	}
	defer s.disk.release(snapshot)
	later, err := s.after(sequence)
	if err != nil {
		return err
	}
	w := &partWriter{disk: s.disk, from: *s.base.Load(), to: baseOf(child, 0)}
	start, end := between(w.to)
	w.do(func(b *pebble.Batch) error { return b.DeleteRange(start, end, nil) }, 0) // of an attempt that was cut short
	w.copy(snapshot, partKey, func(key []byte) bool { return keys.Contains(key) })
	w.copy(snapshot, partExpiry, func(key []byte) bool { return len(key) >= 8 && keys.Contains(key[8:]) })
	w.copy(snapshot, partResult, func(key []byte) bool {
		return len(key) == 16 && !later[name{binary.BigEndian.Uint64(key), binary.BigEndian.Uint64(key[8:])}]
	})
	w.flush(pebble.NoSync)
	w.err = errors.Join(w.err, fault.Point("disk.part.copied"))
	first, last := keyBounds(append(bytes.Clone(w.from), partKey), keys)
	w.do(func(b *pebble.Batch) error {
		v := binary.AppendUvarint(binary.AppendUvarint(nil, sequence), epoch)
		return errors.Join(
			b.Set(append(bytes.Clone(w.to), partApplied), v, nil), b.Set(there, number(nil, 0), nil), b.DeleteRange(first, last, nil),
		)
	}, 0)
	w.flush(pebble.Sync)
	if w.err != nil {
		return fmt.Errorf("cannot split chain %d off from chain %d: %w", child, s.id, w.err)
	}
	return nil
}

// Keep removes keys that are not in a range.
func (s *Store) Keep(keys chain.Range) error {
	part := s.part(partKey)
	first, last := keyBounds(part, keys)
	start, end := between(part)
	return s.settled(func() error {
		b := s.disk.db.NewBatch()
		errs := []error{b.DeleteRange(start, first, nil)}
		if len(keys.End) > 0 {
			errs = append(errs, b.DeleteRange(last, end, nil))
		}
		if err := errors.Join(errs...); err != nil {
			return errors.Join(err, b.Close())
		}
		return s.disk.commit(b, pebble.NoSync)
	})
}

// after names the commands of the log behind an entry.
func (s *Store) after(sequence uint64) (map[name]bool, error) {
	all := map[name]bool{}
	for {
		entries, err := s.Entries(sequence+1, 1<<20)
		if err != nil || len(entries) == 0 {
			return all, err
		}
		for i := range entries {
			all[name{entries[i].Client, entries[i].Request}] = true
		}
		sequence = entries[len(entries)-1].Sequence
	}
}

// keyBounds are the bounds of a range's keys in a part.
func keyBounds(part []byte, keys chain.Range) (first, last []byte) {
	first = append(bytes.Clone(part), keys.Start...)
	if len(keys.End) > 0 {
		return first, append(bytes.Clone(part), keys.End...)
	}
	_, last = between(part)
	return first, last
}

// partWriter copies from one store to another, in batches. After the first error it does nothing.
type partWriter struct {
	disk     *Disk
	from, to []byte
	batch    *pebble.Batch
	size     int
	err      error
}

func (w *partWriter) do(what func(*pebble.Batch) error, size int) {
	if w.err != nil {
		return
	}
	if w.batch == nil {
		w.batch = w.disk.db.NewBatch()
	}
	if w.err = what(w.batch); w.err != nil {
		return
	}
	if w.size += size; w.size >= partBatch {
		w.flush(pebble.NoSync)
	}
}

func (w *partWriter) flush(o *pebble.WriteOptions) {
	if w.batch == nil {
		return
	}
	if w.err == nil {
		w.err = w.disk.commit(w.batch, o)
	} else {
		w.err = errors.Join(w.err, w.batch.Close())
	}
	w.batch, w.size = nil, 0
}

// copy copies what is wanted of a part.
func (w *partWriter) copy(from pebble.Reader, part byte, want func(key []byte) bool) {
	if w.err != nil {
		return
	}
	start, end := between(append(bytes.Clone(w.from), part))
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		w.err = err
		return
	}
	target := append(bytes.Clone(w.to), part)
	for it.First(); it.Valid() && w.err == nil; it.Next() {
		key := it.Key()[len(start):]
		if !want(key) {
			continue
		}
		var value []byte
		if value, w.err = it.ValueAndErr(); w.err != nil {
			break
		}
		w.do(func(b *pebble.Batch) error { return b.Set(append(bytes.Clone(target), key...), value, nil) }, len(key)+len(value))
	}
	w.err = errors.Join(damaged(w.err), ended(it))
}

// Size is about how many bytes of disk a chain's keys take.
func (s *Store) Size() (uint64, error) {
	if err := s.settled(func() error { return nil }); err != nil {
		return 0, err
	}
	start, end := between(s.part(partKey))
	return s.disk.db.EstimateDiskUsage(start, end)
}

// Middle is a key about in the middle of the bytes of a range's keys; nil if there is none between two others.
func (s *Store) Middle(keys chain.Range) ([]byte, error) {
	if err := s.settled(func() error { return nil }); err != nil {
		return nil, err
	}
	part := s.part(partKey)
	first, last := keyBounds(part, keys)
	whole, err := s.disk.db.EstimateDiskUsage(first, last)
	if err != nil {
		return nil, err
	}
	it, err := s.disk.db.NewIter(&pebble.IterOptions{LowerBound: first, UpperBound: last})
	if err != nil {
		return nil, err
	}
	defer func() { _ = it.Close() }()
	if !it.First() {
		return nil, it.Error()
	}
	low := bytes.Clone(it.Key()[len(part):])
	if !it.Last() {
		return nil, it.Error()
	}
	high := bytes.Clone(it.Key()[len(part):])
	smallest := low
	for range 64 {
		middle := between2(low, high)
		if middle == nil || !it.SeekGE(append(bytes.Clone(part), middle...)) {
			break
		}
		key := bytes.Clone(it.Key()[len(part):])
		used, err := s.disk.db.EstimateDiskUsage(first, it.Key())
		if err != nil {
			return nil, err
		}
		if used < whole/2 && bytes.Compare(key, high) < 0 {
			low = key
		} else {
			high = middle
		}
	}
	if bytes.Equal(high, smallest) || !it.SeekGE(append(bytes.Clone(part), high...)) {
		return nil, it.Error()
	}
	return bytes.Clone(it.Key()[len(part):]), it.Error()
}

// between2 is a key between two others, by the eight bytes that follow what they have in common; nil if there is none.
func between2(low, high []byte) []byte {
	common := 0
	for common < min(len(low), len(high)) && low[common] == high[common] {
		common++
	}
	eight := func(b []byte) uint64 {
		var v [8]byte
		copy(v[:], b[min(common, len(b)):])
		return binary.BigEndian.Uint64(v[:])
	}
	a, b := eight(low), eight(high)
	if b <= a+1 {
		return nil
	}
	return binary.BigEndian.AppendUint64(bytes.Clone(low[:common]), a+(b-a)/2)
}
