package disk

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"orrery/fabric/chain"
	"orrery/fabric/chain/wire"
)

// copied are the parts of a store that a copy has.
var copied = []byte{partKey, partExpiry, partResult}

// AppliedEpoch is the epoch of the entry that the view is as of.
func (v *View) AppliedEpoch() uint64 { return v.epoch }

// Records hands out what a copy of the store has, in pieces of about size bytes. The slices are good until piece returns; its error ends it.
func (v *View) Records(size int, piece func(records []wire.Record) error) error {
	var records []wire.Record
	held := 0
	for _, part := range copied {
		start, end := between(append(bytes.Clone(v.base), part))
		it, err := v.snapshot.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
		if err != nil {
			return err
		}
		for it.First(); it.Valid() && err == nil; it.Next() {
			var value []byte
			if value, err = it.ValueAndErr(); err != nil {
				break
			}
			r := wire.Record{Part: part, Key: bytes.Clone(it.Key()[len(start):]), Value: bytes.Clone(value)}
			records = append(records, r)
			if held += len(r.Key) + len(r.Value) + 16; held >= size || len(records) >= 1<<12 {
				err = piece(records)
				records, held = records[:0], 0
			}
		}
		if err := errors.Join(damaged(err), ended(it)); err != nil {
			return err
		}
	}
	if len(records) > 0 {
		return piece(records)
	}
	return nil
}

// Hold keeps the log from being trimmed until release is called: who gets a copy needs what comes after it.
func (s *Store) Hold() (release func()) {
	s.holds.Add(1)
	return func() { s.holds.Add(-1) }
}

// Incoming is a copy that is put beside a chain's store, until it is complete and takes its place.
type Incoming struct {
	disk   *Disk
	id     chain.ID
	copies uint64
	writer partWriter
}

// Receive begins a copy of a chain's store. What an earlier one left is deleted.
func (d *Disk) Receive(id chain.ID) (*Incoming, error) {
	g, err := get(d.db, number([]byte{spaceChain}, uint64(id)))
	if err != nil {
		return nil, err
	}
	in := &Incoming{disk: d, id: id}
	if len(g) == 8 {
		in.copies = binary.BigEndian.Uint64(g) + 1
	}
	in.writer = partWriter{disk: d, to: baseOf(id, in.copies)}
	start, end := between(in.writer.to)
	in.writer.do(func(b *pebble.Batch) error { return b.DeleteRange(start, end, nil) }, 0)
	return in, in.writer.err
}

// Add adds records.
func (in *Incoming) Add(records []wire.Record) error {
	for _, r := range records {
		if !bytes.Contains(copied, []byte{r.Part}) {
			return fmt.Errorf("%w: a copy has a record of kind %q", chain.ErrCorrupt, r.Part)
		}
		key := append(append(bytes.Clone(in.writer.to), r.Part), r.Key...)
		in.writer.do(func(b *pebble.Batch) error { return b.Set(key, r.Value, nil) }, len(key)+len(r.Value))
	}
	return in.writer.err
}

// Complete puts the copy, as of an entry, in the place of the chain's store, which must not be open. It is durable then.
func (in *Incoming) Complete(applied, epoch uint64) error {
	in.disk.mu.Lock()
	defer in.disk.mu.Unlock()
	if in.disk.open[in.id] {
		return fmt.Errorf("chain %d is in use", in.id)
	}
	in.writer.do(func(b *pebble.Batch) error {
		v := binary.AppendUvarint(binary.AppendUvarint(nil, applied), epoch)
		errs := []error{
			b.Set(append(bytes.Clone(in.writer.to), partApplied), v, nil),
			b.Set(number([]byte{spaceChain}, uint64(in.id)), number(nil, in.copies), nil),
		}
		if in.copies > 0 {
			start, end := between(baseOf(in.id, in.copies-1))
			errs = append(errs, b.DeleteRange(start, end, nil))
		}
		return errors.Join(errs...)
	}, 0)
	in.writer.flush(pebble.Sync)
	return in.writer.err
}

// Abandon ends a copy that is not completed.
func (in *Incoming) Abandon() {
	in.writer.err = errors.Join(in.writer.err, chain.ErrNotServing)
	in.writer.flush(pebble.NoSync)
}

// Renew lets a chain's store, which must not be open, continue as of the beginning of a line: all that its log has is applied first, or all that it has
// is forgotten if the line begins empty. A crash leaves it as it was before, but for what is applied, or renewed.
func (d *Disk) Renew(id chain.ID, l chain.Line) error {
	s, err := d.Open(id)
	if err != nil {
		return err
	}
	defer func() { _ = s.Close() }()
	forget, end := between(*s.base.Load())
	if !l.Empty {
		state, err := s.State()
		if err != nil {
			return err
		}
		if err := s.Write(&Batch{Apply: state.Pending}); err != nil {
			return err
		}
		forget, end = between(s.part(partLog))
	}
	return s.settled(func() error {
		b := d.db.NewBatch()
		v := binary.AppendUvarint(binary.AppendUvarint(nil, l.Sequence), l.Epoch)
		errs := []error{b.DeleteRange(forget, end, nil), b.Set(s.part(partApplied), v, nil), b.Set(s.part(partSettled), binary.AppendUvarint(nil, l.Sequence), nil)}
		if err := errors.Join(errs...); err != nil {
			return errors.Join(err, b.Close())
		}
		return d.commit(b, pebble.Sync)
	})
}
