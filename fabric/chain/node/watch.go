package node

import (
	"context"
	"fmt"

	"orrery/fabric/chain"
	"orrery/fabric/chain/wire"
)

// watch answers with changes until it is cancelled.
func (s *session) watch(q *chain.Request) {
	id := q.ID
	r := s.node.runner(q.Chain)
	if r == nil {
		s.refuse(id, fmt.Errorf("chain %d: %w", q.Chain, chain.ErrNotServing))
		return
	}
	ctx, ok := s.begin(id)
	if !ok {
		return
	}
	keys := chain.Range{Start: append([]byte{}, q.Range.Start...), End: append([]byte{}, q.Range.End...)}
	from := q.From
	s.work.Go(func() {
		defer s.cancel(id)
		if err := r.follow(ctx, s, id, keys, from); err != nil && ctx.Err() == nil {
			_ = s.conn.Write(wire.AppendAnswer(nil, &chain.Answer{ID: id, Err: cause(err), Text: err.Error()}))
		}
	})
}

// follow sends what entries after a sequence change in a range, as they are applied. All of them were acknowledged, or will be.
func (r *runner) follow(ctx context.Context, s *session, id uint64, keys chain.Range, from uint64) error {
	for {
		heard := r.heard()
		for {
			next, err := r.changes(s, id, keys, from)
			if err != nil {
				return err
			}
			if next == from {
				break
			}
			from = next
		}
		select {
		case <-heard:
		case <-ctx.Done():
			return nil
		case <-r.ctx.Done():
			return chain.ErrNotServing
		}
	}
}

// horizon is which entries tell of the keys of a watch, see replica.Horizon, or why none do.
func (r *runner) horizon(keys chain.Range) (epoch uint64, exact bool, err error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.failed != nil || !r.member {
		return 0, false, fmt.Errorf("%s: %w", r, chain.ErrNotServing)
	}
	epoch, exact = r.core.Horizon(keys)
	return epoch, exact, nil
}

// changes sends one answer with the changes of some entries, and returns the last one's sequence.
func (r *runner) changes(s *session, id uint64, keys chain.Range, from uint64) (uint64, error) {
	applied := r.applied.Load() // before the horizon, which then is not of an older config than these entries
	end, exact, err := r.horizon(keys)
	if err != nil || from > applied {
		return from, err
	}
	if end > 0 {
		if before, err := r.store.Entries(from, 1); err != nil {
			return from, err
		} else if from > 0 && (len(before) == 0 || before[0].Sequence != from || before[0].Epoch >= end) {
			return from, fmt.Errorf("%s: %w", r, chain.ErrOutOfRange)
		}
	}
	if from == applied {
		return from, nil
	}
	entries, err := r.store.Entries(from+1, maxAnswer/4)
	if err != nil {
		return from, err
	}
	if len(entries) == 0 || entries[0].Sequence != from+1 {
		return from, fmt.Errorf("%s: %w: it begins at %d, and %d is asked for", r, chain.ErrCompacted, r.store.First(), from+1)
	}
	a := chain.Answer{ID: id, Applied: from}
	for i := range entries {
		e := &entries[i]
		gone := end > 0 && e.Epoch >= end
		if e.Sequence > applied || gone && !exact {
			break
		}
		a.Applied = e.Sequence
		for _, c := range e.Changes {
			if keys.Contains(c.Key) {
				a.Items = append(a.Items, chain.Item{Key: c.Key, Value: chain.Value{Value: c.Value, Version: e.Sequence, Expires: c.Expires}, Missing: c.Deleted})
			}
		}
		if gone {
			break
		}
	}
	if a.Applied == from {
		return from, fmt.Errorf("%s: %w", r, chain.ErrOutOfRange)
	}
	// Without items it tells how far the watch is.
	return a.Applied, s.conn.Write(wire.AppendAnswer(nil, &a))
}
