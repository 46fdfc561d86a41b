package client

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"orrery/fabric/chain"
)

// page is how many keys one answer to a scan has at the most.
const page = 1000

// MultiGet returns the values of many keys, in the order of the keys; Missing says that there is none. The keys of one chain are read
// as of one moment if they fit into an answer (4 MiB); those of different chains are not.
func (b *Bucket) MultiGet(ctx context.Context, keys [][]byte, options ...ReadOption) ([]chain.Item, error) {
	o := last(options)
	r := b.client.routes.Load()
	parts := map[*place][]int{}
	for i, key := range keys {
		p, err := r.find(b.name, key)
		if err != nil { // the map may be old: ask for the key by itself, which waits
			p = nil
		}
		parts[p] = append(parts[p], i)
	}
	items := make([]chain.Item, len(keys))
	if len(parts) == 1 {
		for p, part := range parts {
			return items, b.getPart(ctx, p, keys, part, items, o)
		}
	}
	var work sync.WaitGroup
	errs := make([]error, 0, len(parts))
	var mu sync.Mutex
	for p, part := range parts {
		work.Go(func() {
			err := b.getPart(ctx, p, keys, part, items, o)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	work.Wait()
	return items, errors.Join(errs...)
}

// getPart reads the keys of one chain; of no chain: each by itself.
func (b *Bucket) getPart(ctx context.Context, p *place, keys [][]byte, part []int, items []chain.Item, o ReadOption) error {
	k := newCall()
	defer k.free()
	alone := p == nil
	for len(part) > 0 {
		n := min(len(part), page)
		if alone {
			n = 1
		}
		q := chain.Request{Ask: chain.AskGet, Consistency: o.consistency, Bound: o.bound}
		for _, i := range part[:n] {
			q.Keys = append(q.Keys, keys[i])
		}
		err := b.readOnce(ctx, p, q.Keys[0], &q, k, n > 1)
		if errors.Is(err, chain.ErrOutOfRange) && n > 1 { // the chain was split
			alone, p = true, nil
			k.reset()
			continue
		}
		if err != nil {
			return b.failed("read", q.Keys[0], err)
		}
		got := k.answer.Items
		if len(got) == 0 || len(got) > n {
			return b.failed("read", q.Keys[0], chain.ErrCorrupt)
		}
		for i, item := range got {
			item.Key = keys[part[i]]
			items[part[i]] = item
		}
		part = part[len(got):]
		k.reset()
	}
	return nil
}

// readOnce is read, but with several keys it does not try ErrOutOfRange again: they may be of several chains now.
func (b *Bucket) readOnce(ctx context.Context, p *place, key []byte, q *chain.Request, k *call, several bool) error {
	if several && p != nil && len(p.readers) > 0 {
		q.Chain = p.config.ID
		err := nearest(p.readers, nil).do(ctx, q, k)
		if err == nil || errors.Is(err, chain.ErrOutOfRange) {
			return err
		}
		k.reset()
	}
	err := b.read(ctx, key, q, k)
	return err
}

// Scan yields the keys of a range and their values, in the order of the keys, across chains. Each page (of up to 1000 keys) is as of one moment, which is
// not before the scan began. An error is the last thing that it yields. The bytes are the caller's.
func (b *Bucket) Scan(ctx context.Context, keys chain.Range, options ...ReadOption) iter.Seq2[chain.Item, error] {
	return func(yield func(chain.Item, error) bool) {
		rest := keys
		for {
			items, next, _, err := b.Page(ctx, rest, page, options...)
			if err != nil {
				yield(chain.Item{}, err)
				return
			}
			for _, item := range items {
				if !yield(item, nil) {
					return
				}
			}
			if next == nil {
				return
			}
			rest.Start = next
		}
	}
}

// Page returns the first keys of a range, limit at the most, and where to go on: with next as the range's start; nil: there are no more keys. It has keys of one chain
// only, so it may have fewer keys, even none, and a next. at is the sequence, of that chain, that the page is as of.
func (b *Bucket) Page(ctx context.Context, keys chain.Range, limit int, options ...ReadOption) (items []chain.Item, next []byte, at uint64, err error) {
	items, next, moment, err := b.page(ctx, keys, limit, options...)
	return items, next, moment.sequence, err
}

// moment is what is read is as of.
type moment struct {
	chain    chain.ID
	sequence uint64
}

func (b *Bucket) page(ctx context.Context, keys chain.Range, limit int, options ...ReadOption) (items []chain.Item, next []byte, at moment, err error) {
	if len(keys.End) > 0 && string(keys.Start) >= string(keys.End) || limit <= 0 {
		return nil, nil, at, nil
	}
	o := last(options)
	k := newCall()
	defer k.free()
	var avoid *node
	for attempt := 0; ; attempt++ {
		r := b.client.routes.Load()
		p, err := r.find(b.name, keys.Start)
		if err == nil && len(p.readers) == 0 {
			err = fmt.Errorf("the chain has no replica: %w", chain.ErrNotServing)
		}
		if err == nil {
			part, _ := overlap(p.config.Range, keys)
			q := chain.Request{Ask: chain.AskScan, Chain: p.config.ID, Range: part, Limit: limit, Consistency: o.consistency, Bound: o.bound}
			avoid = nearest(p.readers, avoid)
			if err = avoid.do(ctx, &q, k); err == nil {
				items, next = pageOf(k, part, keys)
				return items, next, moment{p.config.ID, k.answer.Applied}, nil
			}
		}
		if err := b.client.again(ctx, r, err, attempt, p != nil && attempt < len(p.readers)); err != nil {
			return nil, nil, at, b.failed("scan from", keys.Start, err)
		}
		k.reset()
	}
}

// pageOf takes an answer apart.
func pageOf(k *call, part, keys chain.Range) (items []chain.Item, next []byte) {
	items = append(items, k.answer.Items...)
	if k.answer.More && len(items) > 0 {
		// The smallest key behind the last one.
		end := items[len(items)-1].Key
		return items, append(append(make([]byte, 0, len(end)+1), end...), 0)
	}
	if len(part.End) > 0 && string(part.End) != string(keys.End) {
		return items, append([]byte{}, part.End...)
	}
	return items, nil
}
