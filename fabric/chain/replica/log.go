package replica

import (
	"slices"

	"orrery/fabric/chain"
)

// push adds an entry to the end of the log.
func (r *Replica) push(now Instant, e chain.Entry) {
	r.last = e.Sequence
	r.time = max(r.time, e.Time)
	r.pending = append(r.pending, pending{entry: e, came: now})
	r.bytes += size(&e)
	for _, c := range e.Changes {
		r.dirty[string(c.Key)] = append(r.dirty[string(c.Key)], e.Sequence)
	}
	if e.Client != 0 {
		r.named[name{e.Client, e.Request}] = e.Sequence
	}
}

// size is about how many bytes an entry has.
func size(e *chain.Entry) int {
	n := 64
	for _, c := range e.Changes {
		n += len(c.Key) + len(c.Value)
	}
	return n
}

// forget undoes push, but for the list of pending entries.
func (r *Replica) forget(e *chain.Entry) {
	r.bytes -= size(e)
	for _, c := range e.Changes {
		all := slices.DeleteFunc(r.dirty[string(c.Key)], func(s uint64) bool { return s == e.Sequence })
		if len(all) == 0 {
			delete(r.dirty, string(c.Key))
		} else {
			r.dirty[string(c.Key)] = all
		}
	}
	if n := (name{e.Client, e.Request}); r.named[n] == e.Sequence {
		delete(r.named, n)
	}
}

// drop tells who waits for an entry that nobody here will know how it ends.
func (r *Replica) drop(p *pending) {
	for _, t := range p.tokens {
		r.output.Replies = append(r.output.Replies, Reply{Token: t, Err: chain.ErrUnknown})
	}
	p.tokens = nil
}

// cut removes what is above an entry from the log.
func (r *Replica) cut(keep uint64) {
	keep = max(keep, r.committed)
	if keep >= r.last {
		return
	}
	n := int(keep - r.committed) //nolint:gosec // less than pending
	for i := len(r.pending) - 1; i >= n; i-- {
		r.drop(&r.pending[i])
		r.forget(&r.pending[i].entry)
	}
	clear(r.pending[n:])
	r.pending = r.pending[:n]
	r.last, r.durable = keep, min(r.durable, keep)
	r.output.Truncate, r.output.Keep = true, keep
}

// commit applies entries that are committed.
func (r *Replica) commit(up uint64) {
	up = min(up, r.last)
	if up <= r.committed {
		return
	}
	n := int(up - r.committed) //nolint:gosec // at most pending
	for i := range r.pending[:n] {
		p := &r.pending[i]
		r.output.Apply = append(r.output.Apply, p.entry)
		for _, t := range p.tokens {
			r.output.Replies = append(r.output.Replies, Reply{Token: t, Result: p.entry.Result})
		}
		r.forget(&p.entry)
		r.epoch = p.entry.Epoch
	}
	if n >= len(r.pending)-n {
		r.pending = slices.Delete(r.pending, 0, n)
	} else { // what would be moved is more than what goes
		clear(r.pending[:n])
		r.pending = r.pending[n:]
	}
	r.committed = up
	if r.self > 0 && r.began {
		r.send(r.before(), Message{Kind: KindAck, Sequence: r.last, Committed: r.committed})
	}
	if r.next.syncing {
		r.tell()
	}
}

// at is a pending entry.
func (r *Replica) at(sequence uint64) *pending { return &r.pending[sequence-r.committed-1] }

// below finds the newest entry, up to one, of an epoch that is not later than another. Of entries below committed it knows
// only what the disk has; known is false if that does not reach back far enough.
func (r *Replica) below(up, epoch uint64) (sequence, of uint64, known bool, err error) {
	for s := min(up, r.last); s > r.committed; s-- {
		if e := r.at(s).entry.Epoch; e <= epoch {
			return s, e, true, nil
		}
	}
	if up >= r.committed && r.epoch <= epoch {
		return r.committed, r.epoch, true, nil
	}
	// Epochs grow along the log.
	low, high := r.config.Storage.First(), min(up+1, r.committed) // found below low or nowhere; not at high or above
	for low < high {
		middle := low + (high-low)/2
		entries, err := r.config.Storage.Entries(middle, 1)
		if err != nil {
			return 0, 0, false, err
		}
		if len(entries) == 0 {
			return 0, 0, false, nil
		}
		if entries[0].Epoch <= epoch {
			sequence, of, known, low = middle, entries[0].Epoch, true, middle+1
		} else {
			high = middle
		}
	}
	return sequence, of, known || r.config.Storage.First() <= 1, nil
}

// Persisted says that entries up to one are durable. What was cut off after the driver began to write does not count.
func (r *Replica) Persisted(now Instant, up uint64) (Output, error) {
	if up = min(up, r.last); up > r.durable {
		r.durable = up
	}
	return r.finish(now, nil)
}
