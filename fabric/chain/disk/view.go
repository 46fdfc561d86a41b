package disk

import (
	"bytes"
	"errors"

	"github.com/cockroachdb/pebble/v2"

	"orrery/fabric/chain"
)

// View is the applied state as of one sequence.
type View struct {
	disk     *Disk
	snapshot *pebble.Snapshot
	base     []byte
	applied  uint64
	epoch    uint64
}

// View returns the applied state as it is now. Close it soon: it keeps what is deleted meanwhile.
func (s *Store) View() (*View, error) {
	snapshot, err := s.snapshot()
	if err != nil {
		return nil, err
	}
	v := &View{disk: s.disk, snapshot: snapshot, base: *s.base.Load()}
	if v.applied, v.epoch, err = applied(v.snapshot, v.base); err != nil {
		v.Close()
		return nil, err
	}
	return v, nil
}

// Applied is the sequence that the view is as of.
func (v *View) Applied() uint64 { return v.applied }

// Get returns a key's value.
func (v *View) Get(key []byte) (chain.Value, bool, error) { return value(v.snapshot, v.base, key) }

// Scan appends keys of a range and their values in order, limit at the most and about so many bytes, at least one if there is one. more says that it stopped before the end.
func (v *View) Scan(items []chain.Item, keys chain.Range, limit, size int) (all []chain.Item, more bool, err error) {
	prefix := append(append([]byte{}, v.base...), partKey)
	start, end := between(prefix)
	start = append(append([]byte{}, start...), keys.Start...)
	if len(keys.End) > 0 {
		end = append(append([]byte{}, prefix...), keys.End...)
	}
	if bytes.Compare(start, end) >= 0 {
		return items, false, nil
	}
	it, err := v.snapshot.NewIter(&pebble.IterOptions{LowerBound: start, UpperBound: end})
	if err != nil {
		return items, false, err
	}
	count, used := 0, 0
	for it.First(); it.Valid(); it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return items, false, errors.Join(damaged(err), it.Close())
		}
		if count == limit || count > 0 && used+len(v) > size {
			more = true
			break
		}
		found, err := decodeValue(v)
		if err != nil {
			return items, false, errors.Join(err, it.Close())
		}
		used += len(it.Key()) + len(v)
		found.Value = bytes.Clone(found.Value)
		items = append(items, chain.Item{Key: bytes.Clone(it.Key()[len(prefix):]), Value: found})
		count++
	}
	return items, more, ended(it)
}

// Close gives the view up.
func (v *View) Close() { v.disk.release(v.snapshot) }

// release closes a snapshot. Pebble looks for compactions then, and waits for one that is being noted down, which a broken disk never ends.
func (d *Disk) release(s *pebble.Snapshot) { _ = d.fuse.Run(s.Close) }
