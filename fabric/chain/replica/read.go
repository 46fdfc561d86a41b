package replica

import "orrery/fabric/chain"

// SetLease lets the replica answer reads; one that ends at 0 takes that away.
func (r *Replica) SetLease(now Instant, l Lease) (Output, error) {
	r.lease = l
	return r.finish(now, nil)
}

// CanRead says whether a read may be answered at once, and from which applied entry on. It changes nothing.
func (r *Replica) CanRead(now Instant, q Read) (applied uint64, ok bool) {
	return r.committed, r.has(&q) && r.may(now, &q) == yes
}

// Read asks for a permission, which comes in an output, now or later.
func (r *Replica) Read(now Instant, q Read) (Output, error) {
	r.waiting = append(r.waiting, q)
	return r.finish(now, nil)
}

type verdict int

const (
	yes verdict = iota
	no
	wait // for the tail, or at the tail for the floor
)

func (r *Replica) leased(now Instant) bool { return now < r.lease.Until || r.broken(RuleLease) }

// may says whether a read may be answered from what is applied.
func (r *Replica) may(now Instant, q *Read) verdict {
	if r.failed != nil {
		return no
	}
	if q.Consistency == chain.Eventual {
		if r.ever {
			return yes
		}
		return no
	}
	// A lease that was asked for within the age does as well as one that is valid: the keeper cannot have removed this replica before. It does
	// not tell how many writes there were since.
	fresh := q.Consistency == chain.Bounded && q.Bound.Age > 0 && r.lease.Until > 0 && now-r.lease.Sent <= q.Bound.Age
	state := r.member().State
	switch {
	case !r.linked || state != chain.Serving && state != chain.Joining || !r.leased(now) && (!fresh || q.Bound.Versions > 0):
		return no
	case r.isTail():
		if r.committed >= r.floor || r.broken(RuleTailFloor) {
			return yes
		}
		return wait
	case r.config.PlainReads:
		return no
	case !r.isDirty(now, q, fresh):
		return yes
	case !r.leased(now):
		return no
	}
	return wait
}

// isDirty says whether pending entries are in the way of a read.
func (r *Replica) isDirty(now Instant, q *Read, fresh bool) bool {
	if r.broken(RuleCleanReads) || len(r.pending) == 0 {
		return false
	}
	if q.Keys == nil {
		return r.blocks(now, q, fresh, r.dirty[string(q.Key)])
	}
	for key, all := range r.dirty {
		if q.Keys.Contains([]byte(key)) && r.blocks(now, q, fresh, all) {
			return true
		}
	}
	return false
}

// blocks says whether the pending entries of a key are more, or older, than a read may miss.
func (r *Replica) blocks(now Instant, q *Read, fresh bool, all []uint64) bool {
	if len(all) == 0 {
		return false
	}
	b := q.Bound
	if q.Consistency != chain.Bounded || b == (chain.Bound{}) {
		return true
	}
	return b.Versions > 0 && uint64(len(all)) > b.Versions || b.Age > 0 && (!fresh || now-r.at(all[0]).came > b.Age)
}

// look answers the reads that need not wait any more, and asks the tail for the others.
func (r *Replica) look(now Instant) {
	r.answerAsks(now)
	if len(r.waiting) == 0 {
		return
	}
	kept := r.waiting[:0]
	for i := range r.waiting {
		q := r.waiting[i]
		if !r.has(&q) {
			r.output.Reads = append(r.output.Reads, Permission{Token: q.Token, Err: chain.ErrOutOfRange})
			continue
		}
		switch r.may(now, &q) {
		case yes:
			r.output.Reads = append(r.output.Reads, Permission{Token: q.Token, Applied: r.committed})
		case no:
			r.output.Reads = append(r.output.Reads, Permission{Token: q.Token, Err: chain.ErrNotServing})
		case wait:
			kept = append(kept, q)
		}
	}
	r.waiting = kept
	if len(r.waiting) > 0 && !r.asking && !r.isTail() {
		r.queries = number(now, r.queries)
		r.asking, r.asked = true, now
		r.inFlight, r.waiting = r.waiting, nil
		r.send(r.chain.Members[r.tail()].Replica, Message{Kind: KindQuery, Query: r.queries})
	}
}

// query takes another replica's question. It waits for the link too: in a new epoch it often comes first.
func (r *Replica) query(from chain.Replica, number uint64) {
	if r.isTail() {
		r.asks[from] = max(r.asks[from], number)
	}
}

// answerAsks answers questions once what was there before this epoch is committed.
func (r *Replica) answerAsks(now Instant) {
	if len(r.asks) == 0 || !r.linked || r.committed < r.floor && !r.broken(RuleTailFloor) {
		return
	}
	if r.leased(now) {
		for _, m := range r.chain.Members {
			if number := r.asks[m.Replica]; number > 0 {
				r.send(m.Replica, Message{Kind: KindAnswer, Query: number, Committed: r.committed})
			}
		}
	}
	clear(r.asks) // without a lease they ask again
}

// answer takes the tail's answer.
func (r *Replica) answer(m *Message) {
	if !r.asking || m.Query != r.queries || !r.linked || m.From != r.chain.Members[r.tail()].Replica {
		return
	}
	r.asking = false
	r.commit(m.Committed)
	for i := range r.inFlight {
		r.output.Reads = append(r.output.Reads, Permission{Token: r.inFlight[i].Token, Applied: r.committed})
	}
	r.inFlight = nil
}
