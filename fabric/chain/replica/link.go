package replica

import "orrery/fabric/chain"

// number is that of a next hello or query. It is also greater than those of a Replica that was in this one's place before (a copy was
// installed), whose answers may still be on their way.
func number(now Instant, last uint64) uint64 {
	return max(last+1, uint64(max(now, 0))) //nolint:gosec // not negative
}

// hello tells the predecessor of an entry of the log, above which the log may have others than the predecessor's.
func (r *Replica) hello(now Instant, probe uint64) {
	r.greeting = number(now, r.greeting)
	r.began, r.probe, r.heard = false, probe, now
	epoch := r.epoch
	if probe > r.committed {
		epoch = r.at(probe).entry.Epoch
	}
	r.send(r.before(), Message{Kind: KindHello, Sequence: probe, Entry: epoch, Committed: r.committed, Query: r.greeting})
}

// greet answers a successor's hello: with a link if this log has that entry, or else with where to look further.
func (r *Replica) greet(now Instant, m *Message) error {
	if !r.linked {
		r.early = *m
		return nil
	}
	if m.Query <= r.next.greeted {
		return nil // late or a second time: the log may not reach back to it any more
	}
	r.next.greeted = m.Query
	if m.Entry < r.chain.Line.Epoch { // its log is one that was given up
		r.copy(m)
		return nil
	}
	at := m.Sequence
	if at != m.Committed { // the successor's committed entries are this one's as well
		sequence, epoch, known, err := r.below(at, m.Entry)
		switch {
		case err != nil:
			return err
		case !known:
			r.copy(m)
			return nil
		case sequence != at || epoch != m.Entry:
			r.send(m.From, Message{Kind: KindProbe, Sequence: sequence, Entry: epoch, Query: m.Query})
			return nil
		}
	}
	switch {
	case at > r.last:
		return nil
	case at < r.committed && at+1 < r.config.Storage.First():
		r.copy(m)
		return nil
	}
	n := &r.next
	n.linked, n.copying, n.sent, n.acked, n.committed, n.batches, n.moved = true, false, at, at, m.Committed, nil, now
	n.told = r.mark()
	r.send(m.From, Message{Kind: KindLink, Sequence: r.last, Committed: at, Query: m.Query, Time: r.time, Durable: n.told})
	return nil
}

// copy asks the driver to send a copy of the state.
func (r *Replica) copy(m *Message) {
	r.next.linked = false
	r.send(r.next.replica, Message{Kind: KindSnapshot, Sequence: r.committed, Query: m.Query})
	if !r.next.copying {
		r.next.copying = true
		r.output.Copies = append(r.output.Copies, Copy{To: r.next.replica, Epoch: r.chain.Epoch})
	}
}

// Copied says that a copy was sent, or could not be.
func (r *Replica) Copied(to chain.Replica) {
	if r.next.replica == to {
		r.next.copying = false
	}
}

// search looks for an entry that both logs have, with what the predecessor said of its own.
func (r *Replica) search(now Instant, m *Message) {
	if r.began || m.Query != r.greeting {
		return
	}
	at := r.committed
	for s := min(m.Sequence, r.probe); s > r.committed; s-- {
		if r.at(s).entry.Epoch <= m.Entry {
			at = s
			break
		}
	}
	r.hello(now, at)
}

// link takes the predecessor's answer: the logs are the same up to the probe, and differ in what comes after it here.
func (r *Replica) link(now Instant, m *Message) {
	if r.began || m.Query != r.greeting {
		return
	}
	if !r.broken(RuleDivergence) {
		r.cut(m.Committed)
	}
	r.began, r.heard, r.want = true, now, m.Sequence
	r.floor = max(min(r.floor, r.last), m.Sequence)
	r.time = max(r.time, m.Time)
	if !r.broken(RuleTailFloor) { // what the tail before committed was durable on the predecessor: with this the floor is reached soon
		r.watermark = max(r.watermark, m.Durable)
	}
	r.check()
	r.send(m.From, Message{Kind: KindAck, Sequence: r.last, Committed: r.committed})
}

// check notes that the replica has what it has to have.
func (r *Replica) check() {
	if !r.began || r.linked || r.last < r.want {
		return
	}
	r.linked = true
	if r.member().State != chain.Syncing {
		r.ever = true
	}
}

// receive takes entries of the predecessor.
func (r *Replica) receive(now Instant, m *Message) {
	switch {
	case !r.began:
		return
	case m.Sequence > r.last && !r.broken(RuleOrder):
		r.hello(now, r.last) // something is missing
		return
	}
	r.heard = now
	for _, e := range m.Entries {
		if r.broken(RuleOrder) {
			e.Sequence = r.last + 1
		}
		if e.Sequence != r.last+1 {
			continue
		}
		r.push(now, e)
		r.output.Append = append(r.output.Append, e)
	}
	news := len(m.Entries) == 0 && m.Durable > r.watermark // what it leads to is answered; if that gets lost it comes again, and is none
	r.watermark = max(r.watermark, m.Durable)
	r.time = max(r.time, m.Time)
	r.check()
	if !news {
		r.send(m.From, Message{Kind: KindAck, Sequence: r.last, Committed: r.committed})
	}
	r.commit(m.Committed)
}

// acknowledged takes what the successor says that it has.
func (r *Replica) acknowledged(now Instant, m *Message) {
	n := &r.next
	if !n.linked {
		return
	}
	if m.Sequence > n.acked || m.Committed > n.committed {
		n.moved = now
	}
	n.acked, n.committed = max(n.acked, m.Sequence), max(n.committed, m.Committed)
	for len(n.batches) > 0 && n.batches[0] <= n.acked {
		n.batches = n.batches[1:]
	}
	if !n.syncing {
		r.commit(m.Committed)
	}
}
