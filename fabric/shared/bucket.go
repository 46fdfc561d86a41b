package shared

import (
	"context"
	"errors"
	"strings"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/client"
	"orrery/fabric/table/kv"
	"orrery/internal/clock"
)

// openKey is in the bucket once all keys are. From then on nothing is copied there any more.
const openKey = kv.Own + "open"

// errPages says that a list is longer than one answer.
var errPages = errors.New("more than one answer holds")

// bucket is the bucket as a table.
type bucket struct {
	keys   *client.Bucket
	offset uint64
}

// revision is the table's revision at a sequence of the chain.
func (b *bucket) revision(sequence uint64) uint64 { return sequence + b.offset }

// oneKey is the range of a key alone.
func oneKey(key string) chain.Range {
	return chain.Range{Start: []byte(key), End: append([]byte(key), 0)}
}

// withPrefix is the range of the keys with a prefix.
func withPrefix(prefix string) chain.Range {
	end := []byte(prefix)
	for len(end) > 0 && end[len(end)-1] == 0xff {
		end = end[:len(end)-1]
	}
	if len(end) > 0 {
		end[len(end)-1]++
	}
	return chain.Range{Start: []byte(prefix), End: end}
}

// list returns the entries of a range, up to limit of them unless that is 0, and the revision that they are of. errPages: there
// are more than an answer holds; then the revision is one at which all are that there were when it was called.
func (b *bucket) list(ctx context.Context, keys chain.Range, limit int) (entries []fabric.Entry, at uint64, err error) {
	more := false
	for {
		items, next, sequence, err := b.page(ctx, keys, limit)
		if err != nil {
			return nil, 0, err
		}
		at = max(at, b.revision(sequence))
		if !more {
			if entries, err = b.entries(items); err != nil {
				return nil, 0, err
			}
		}
		switch {
		case limit > 0 || next == nil && !more:
			return entries, at, nil
		case next == nil:
			return nil, at, errPages
		}
		more, keys.Start = true, next
	}
}

// page reads the first keys of a range, all that fit if limit is 0.
func (b *bucket) page(ctx context.Context, keys chain.Range, limit int) (items []chain.Item, next []byte, at uint64, err error) {
	if limit == 0 {
		limit = longPage
	}
	for {
		items, next, at, err = b.keys.Page(ctx, keys, limit)
		if !late(ctx, err) {
			return items, next, at, err
		}
	}
}

// longPage is how many keys are asked for at once.
const longPage = 1000

// late says whether something is to be tried again, after a moment, because this node has not heard of the bucket yet.
func late(ctx context.Context, err error) bool {
	return errors.Is(err, fabric.ErrNotFound) && !errors.Is(err, chain.ErrUnknown) && clock.Wait(ctx, 20*time.Millisecond)
}

// entries are items as the table has them, without the bucket's own.
func (b *bucket) entries(items []chain.Item) ([]fabric.Entry, error) {
	var all []fabric.Entry
	for _, item := range items {
		if strings.HasPrefix(string(item.Key), kv.Own) {
			continue
		}
		e, err := b.entry(item.Key, item.Value)
		if err != nil {
			return nil, err
		}
		all = append(all, e)
	}
	return all, nil
}

// put writes a key and returns its revision.
func (b *bucket) put(ctx context.Context, key string, value []byte) (uint64, error) {
	return b.commit(ctx, b.keys.Txn().Put([]byte(key), encodeValue(0, value)))
}

// swap writes a key if its revision is the given one.
func (b *bucket) swap(ctx context.Context, key string, revision uint64, value []byte) (uint64, error) {
	version, err := b.version(ctx, key, revision)
	if err != nil {
		return 0, err
	}
	return b.commit(ctx, b.keys.Txn().If([]byte(key), version).Put([]byte(key), encodeValue(0, value)))
}

// remove deletes a key, if its revision is the given one unless that is 0, and returns a revision at which it was gone.
func (b *bucket) remove(ctx context.Context, key string, revision uint64) (uint64, error) {
	txn := b.keys.Txn().Delete([]byte(key))
	if revision != 0 {
		version, err := b.version(ctx, key, revision)
		if err != nil {
			return 0, err
		}
		txn.If([]byte(key), version)
	}
	return b.commit(ctx, txn)
}

// version is the version that a key has in the chain at a revision of the table.
func (b *bucket) version(ctx context.Context, key string, revision uint64) (uint64, error) {
	if revision == 0 {
		return 0, nil
	}
	if revision > b.offset {
		return revision - b.offset, nil
	}
	// It was read on the ground. Copying did not change its revision, any later write did.
	items, _, _, err := b.page(ctx, oneKey(key), 1)
	if err != nil {
		return 0, err
	}
	entries, err := b.entries(items)
	if err != nil {
		return 0, err
	}
	if len(entries) == 0 || entries[0].Revision != revision {
		return 0, fabric.ErrConflict
	}
	return items[0].Value.Version, nil
}

// commit does a transaction. It is done once: the client repeats it as the same command.
func (b *bucket) commit(ctx context.Context, txn *client.Txn) (uint64, error) {
	for {
		r, err := txn.Commit(ctx)
		if err == nil {
			return b.revision(r.Version), nil
		}
		if !late(ctx, err) {
			return 0, err
		}
	}
}
