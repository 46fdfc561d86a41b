package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"sync"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/conn"
	"orrery/fabric/chain/wire"
)

// Mark is up to which sequence the changes of a range of keys were seen.
type Mark struct {
	Range    chain.Range `json:"range"`
	Sequence uint64      `json:"sequence"`
}

// Position is up to where a watch came: marks of ranges that do not overlap. It may be kept, as JSON for instance, to go on from there later.
type Position []Mark

// Change is a step of a watch.
type Change struct {
	// Items are keys and their new values, of one chain, in the order of the writes; Missing says that a key was deleted.
	Items []chain.Item
	Mark  Mark // all changes of Mark.Range up to Mark.Sequence have been yielded
}

// Advance takes a mark into the position.
func (p Position) Advance(m Mark) Position {
	next := make(Position, 0, len(p)+1)
	for _, old := range p {
		next = append(next, without(old, m.Range)...)
	}
	return append(next, m)
}

// without is what a range cut out leaves of a mark.
func without(m Mark, cut chain.Range) []Mark {
	if _, ok := overlap(m.Range, cut); !ok {
		return []Mark{m}
	}
	var left []Mark
	if bytes.Compare(m.Range.Start, cut.Start) < 0 {
		left = append(left, Mark{chain.Range{Start: m.Range.Start, End: cut.Start}, m.Sequence})
	}
	if len(cut.End) > 0 && (len(m.Range.End) == 0 || bytes.Compare(cut.End, m.Range.End) < 0) {
		left = append(left, Mark{chain.Range{Start: cut.End, End: m.Range.End}, m.Sequence})
	}
	return left
}

// Watch yields the changes of keys in a range. After a Position it begins with the change that follows it; chain.ErrCompacted says that the chain does
// not remember so far back, or does not know of that range because it was split off since. Where the position, which may be nil, says nothing of, it first yields the keys that there are. A
// change may be yielded twice, recognizable by its version, and those of one key are in order. Across chains there is no order. An error is the last thing that
// it yields; when a replica is lost the watch goes on at another one. It has connections of its own, so that a slow reader holds up nobody else.
func (b *Bucket) Watch(ctx context.Context, keys chain.Range, from Position) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		w := &watching{bucket: b, out: make(chan Change), failed: make(chan error, 1)}
		defer w.work.Wait()
		defer cancel()
		w.work.Go(func() { w.begin(ctx, keys, from) })
		for {
			select {
			case change := <-w.out:
				if !yield(change, nil) {
					return
				}
			case err := <-w.failed:
				yield(Change{}, err)
				return
			}
		}
	}
}

// watching is one watch.
type watching struct {
	bucket *Bucket
	out    chan Change
	failed chan error // the first error
	work   sync.WaitGroup
}

func (w *watching) fail(err error) {
	select {
	case w.failed <- err:
	default:
	}
}

// send hands a change to the reader.
func (w *watching) send(ctx context.Context, c Change) error {
	select {
	case w.out <- c:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// begin watches the parts of which the position says something, and those of which it does not.
func (w *watching) begin(ctx context.Context, keys chain.Range, from Position) {
	unknown := []Mark{{Range: keys}}
	for _, m := range from {
		part, ok := overlap(m.Range, keys)
		if !ok {
			continue
		}
		w.work.Go(func() { w.part(ctx, portion{keys: part, known: true, from: m.Sequence}) })
		var rest []Mark
		for _, u := range unknown {
			rest = append(rest, without(u, part)...)
		}
		unknown = rest
	}
	for _, u := range unknown {
		w.work.Go(func() { w.part(ctx, portion{keys: u.Range}) })
	}
}

// portion is a part of the keys of a watch, of which all changes up to a sequence were yielded.
type portion struct {
	keys  chain.Range
	known bool // false: nothing was yielded
	from  uint64
	// of is the chain whose sequence that is; 0: whichever has the keys. A chain that was split tells what happened to all its keys before, and it alone does.
	of chain.ID
}

// part watches a portion, from its keys if nothing else is known, and goes on elsewhere when a replica is lost. If it is of several chains each gets a part of its own.
func (w *watching) part(ctx context.Context, p portion) {
	var avoid *node
	for attempt := 0; ; attempt++ {
		r := w.bucket.client.routes.Load()
		places, err := w.places(r, p)
		switch {
		case err != nil:
		case len(places) > 1:
			for _, at := range places {
				part := p
				part.keys, _ = overlap(at.config.Range, p.keys)
				w.work.Go(func() { w.part(ctx, part) })
			}
			return
		case len(places[0].readers) == 0:
			err = fmt.Errorf("no replica serves the range: %w", chain.ErrNotServing)
		case !p.known:
			var all []portion
			if all, err = w.state(ctx, p.keys); err == nil {
				for _, rest := range all[1:] {
					w.work.Go(func() { w.part(ctx, rest) })
				}
				p, attempt = all[0], -1
				continue
			}
		default:
			avoid = nearest(places[0].readers, avoid)
			before := p.from
			p.of = places[0].config.ID
			p.from, err = w.follow(ctx, avoid, p.of, p.keys, p.from)
			if p.from != before {
				attempt = 0
			}
			if errors.Is(err, chain.ErrOutOfRange) {
				p.of = 0
			}
		}
		if err := w.bucket.client.again(ctx, r, err, attempt, false); err != nil {
			w.fail(w.bucket.failed("watch from", p.keys.Start, err))
			return
		}
	}
}

// places are the chains that know how a portion goes on.
func (w *watching) places(r *routes, p portion) ([]*place, error) {
	for _, at := range r.buckets[w.bucket.name] {
		if at.config.ID == p.of {
			return []*place{at}, nil
		}
	}
	places, err := r.overlapping(w.bucket.name, p.keys)
	if err == nil && !cover(places, p.keys) {
		err = fmt.Errorf("a chain is being split: %w", chain.ErrOutOfRange)
	}
	return places, err
}

// cover says whether chains, in the order of their ranges, have all keys of a range.
func cover(places []*place, keys chain.Range) bool {
	next := keys.Start
	for _, p := range places {
		if bytes.Compare(p.config.Range.Start, next) > 0 {
			return false
		}
		if next = p.config.Range.End; len(next) == 0 {
			return true
		}
	}
	return len(places) > 0 && len(keys.End) > 0 && bytes.Compare(next, keys.End) >= 0
}

// state yields the keys that there are, and returns from where to go on, for each chain that had some.
func (w *watching) state(ctx context.Context, keys chain.Range) (all []portion, err error) {
	for rest := keys; ; {
		items, next, at, err := w.bucket.page(ctx, rest, page)
		if err != nil {
			return nil, err
		}
		done := chain.Range{Start: rest.Start, End: keys.End}
		if next != nil {
			done.End = next
		}
		if err := w.send(ctx, Change{Items: items, Mark: Mark{done, at.sequence}}); err != nil {
			return nil, err
		}
		if n := len(all); n > 0 && all[n-1].of == at.chain {
			all[n-1].keys.End, all[n-1].from = done.End, min(all[n-1].from, at.sequence)
		} else {
			all = append(all, portion{done, true, at.sequence, at.chain})
		}
		if next == nil {
			return all, nil
		}
		rest.Start = next
	}
}

// follow yields changes from one replica until that fails, and returns how far it came.
func (w *watching) follow(ctx context.Context, n *node, id chain.ID, keys chain.Range, from uint64) (uint64, error) {
	c, err := n.dedicated(ctx)
	if err != nil {
		return from, err
	}
	defer func() { _ = c.Close() }()
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	w.work.Go(func() {
		n.client.whileServing(life, id, n)
		c.End(errLost)
	})
	q := chain.Request{ID: 1, Ask: chain.AskWatch, Chain: id, Range: keys, From: from}
	if err := c.Write(wire.AppendRequest(nil, &q)); err != nil {
		return from, fmt.Errorf("%w: %w", errLost, err)
	}
	for {
		frame, err := c.Read()
		if err != nil {
			return from, fmt.Errorf("%w: %w", errLost, err)
		}
		var a chain.Answer
		if err := wire.DecodeAnswer(frame, &a); err != nil {
			return from, err
		}
		if a.Err != nil {
			return from, a.Err
		}
		own(&a)
		if err := w.send(ctx, Change{Items: a.Items, Mark: Mark{keys, a.Applied}}); err != nil {
			return from, err
		}
		from = a.Applied
	}
}

// whileServing returns when a node does not serve a chain any more, as far as the client knows, or ctx ends. Who is cut off ends no connection, and
// may not know it.
func (c *Client) whileServing(ctx context.Context, id chain.ID, n *node) {
	for ctx.Err() == nil {
		c.mu.Lock()
		p, changed := c.places[id], c.changed
		c.mu.Unlock()
		if p == nil || !slices.Contains(p.readers, n) {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}

// dedicated makes a connection that nobody else uses. Close it.
func (n *node) dedicated(ctx context.Context) (*conn.Conn, error) {
	address := n.address.Load()
	if address == nil || !n.reachable() {
		return nil, errDown
	}
	dial, cancel := context.WithTimeout(ctx, n.client.config.DialTimeout)
	defer cancel()
	raw, err := n.client.config.Dial(dial, *address, n.id)
	if errors.Is(err, fabric.ErrOtherCluster) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errDown, err)
	}
	return conn.New(raw, conn.Config{Framing: wire.Framing}), nil
}
