package replica

import "orrery/fabric/chain"

// window is how many messages with entries from the disk are under way at the most.
const window = 4

// mark is the watermark that is passed on: what is durable from the head up to here, or in an unsynced chain what is there.
func (r *Replica) mark() uint64 {
	durable := r.durable
	if r.chain.Unsynced || r.broken(RuleDurable) {
		durable = r.last
	}
	if r.self == 0 {
		return durable
	}
	return min(durable, r.watermark)
}

// advance commits at the tail, and sends the successor what it has not.
func (r *Replica) advance(now Instant) error {
	if m := r.early; r.linked && m.Epoch == r.chain.Epoch && r.next.there && m.From == r.next.replica {
		r.early = Message{}
		if err := r.greet(now, &m); err != nil {
			return err
		}
	}
	if r.isTail() {
		r.commit(r.mark())
	}
	if err := r.feed(now); err != nil {
		return err
	}
	if r.next.linked && r.mark() > r.next.told {
		r.tell()
	}
	return nil
}

func (r *Replica) feed(now Instant) error {
	n := &r.next
	for n.linked && n.sent < r.last {
		if n.acked == n.sent {
			n.moved = now
		}
		m := Message{Kind: KindAppend, Sequence: n.sent, Durable: r.mark(), Committed: r.committed, Time: r.time}
		if n.sent >= r.committed {
			m.Entries = r.batch(n.sent)
		} else {
			if len(n.batches) >= window {
				return nil
			}
			entries, err := r.config.Storage.Entries(n.sent+1, r.config.Batch)
			if err != nil {
				return err
			}
			if len(entries) == 0 || entries[0].Sequence != n.sent+1 {
				if r.config.Storage.First() > n.sent+1 {
					r.copy(&Message{})
				}
				return nil // or it is not on the disk yet
			}
			m.Entries = entries
			n.batches = append(n.batches, entries[len(entries)-1].Sequence)
		}
		n.sent, n.told = m.Entries[len(m.Entries)-1].Sequence, m.Durable
		r.send(n.replica, m)
	}
	return nil
}

// batch is the pending entries after one, as many as a message carries.
func (r *Replica) batch(after uint64) []chain.Entry {
	var all []chain.Entry
	bytes := 0
	for i := range r.pending[after-r.committed:] {
		e := &r.pending[after-r.committed+uint64(i)].entry //nolint:gosec // small
		if bytes += size(e); bytes > r.config.Batch && len(all) > 0 {
			break
		}
		all = append(all, *e)
	}
	return all
}

// tell passes on the watermark, and what is committed, without entries.
func (r *Replica) tell() {
	n := &r.next
	if n.linked && n.sent == r.last {
		n.told = r.mark()
		r.send(n.replica, Message{Kind: KindAppend, Sequence: n.sent, Durable: n.told, Committed: r.committed, Time: r.time})
	}
}

// resend repeats what got lost, as far as can be told: entries, the watermark, or what the successor said of either.
func (r *Replica) resend(now Instant) {
	n := &r.next
	if n.there && !n.linked && r.linked && r.late(now, n.moved) {
		n.moved = now
		r.send(n.replica, Message{Kind: KindSnapshot, Sequence: r.committed}) // it may believe that there is a link
	}
	open := n.acked < r.last || r.committed < r.last || n.committed < r.committed
	if !n.linked || !open || !r.late(now, n.moved) {
		return
	}
	n.moved, n.batches = now, nil
	if n.sent = n.acked; n.sent == r.last {
		r.tell()
	}
}
