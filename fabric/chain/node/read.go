package node

import (
	"bytes"
	"fmt"

	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
	"orrery/fabric/chain/wire"
)

// reading is a read of keys, or of a range, that a replica answers.
type reading struct {
	session *session
	id      uint64
	ask     chain.Ask
	keys    [][]byte
	limit   int
	need    replica.Read
	scope   chain.Range
	lease   replica.Lease // as of the permission
	shrunk  uint64        // the runner's, before the permission
	begun   replica.Instant
}

// set makes a reading of a request; it shares the request's bytes.
func (q *reading) set(s *session, r *chain.Request) error {
	*q = reading{session: s, id: r.ID, ask: r.Ask, keys: r.Keys, limit: r.Limit, scope: r.Range}
	q.need = replica.Read{Consistency: r.Consistency, Bound: r.Bound}
	switch {
	case r.Ask == chain.AskScan:
		if q.limit <= 0 || q.limit > maxPage {
			q.limit = maxPage
		}
		q.need.Keys = &q.scope
	case len(r.Keys) == 0 || len(r.Keys) > maxPage:
		return fmt.Errorf("%w: %d keys are asked for, it can be 1 to %d", chain.ErrTooLarge, len(r.Keys), maxPage)
	case len(r.Keys) == 1:
		q.need.Key = r.Keys[0]
	default:
		q.scope = span(r.Keys)
		q.need.Keys = &q.scope
	}
	return nil
}

// keep makes the reading independent of the request's bytes.
func (q *reading) keep() *reading {
	k := *q
	k.keys = make([][]byte, len(q.keys))
	for i := range q.keys {
		k.keys[i] = bytes.Clone(q.keys[i])
	}
	k.scope = chain.Range{Start: bytes.Clone(q.scope.Start), End: bytes.Clone(q.scope.End)}
	if q.need.Keys != nil {
		k.need.Keys = &k.scope
	} else {
		k.need.Key = k.keys[0]
	}
	return &k
}

// span is the smallest range that has all keys.
func span(keys [][]byte) chain.Range {
	first, last := keys[0], keys[0]
	for _, k := range keys[1:] {
		if bytes.Compare(k, first) < 0 {
			first = k
		}
		if bytes.Compare(k, last) > 0 {
			last = k
		}
	}
	return chain.Range{Start: first, End: append(append(make([]byte, 0, len(last)+1), last...), 0)}
}

// read answers AskGet and AskScan: at once if the replica may, otherwise when it may.
func (s *session) read(q *chain.Request) {
	r := s.node.runner(q.Chain)
	if r == nil {
		s.refuse(q.ID, fmt.Errorf("chain %d: %w", q.Chain, chain.ErrNotServing))
		return
	}
	r.readCount.Add(1)
	begun := s.begun()
	if err := s.reading.set(s, q); err != nil {
		s.refuse(q.ID, err)
		return
	}
	s.reading.begun = begun
	if r.permitted(&s.reading) {
		s.node.metrics.readNow.Inc()
		r.fill(&s.answer, &s.reading)
		s.reply(&s.answer)
		s.readSince(begun)
		return
	}
	if !s.wait() {
		return
	}
	if err := r.inbox.put(input{read: s.reading.keep()}, 128+len(q.Keys)*64, false); err != nil {
		<-s.under
		s.refuse(q.ID, err)
	}
}

// permitted says whether the replica may answer at once. It takes no turn of the replica's goroutine.
func (r *runner) permitted(q *reading) bool {
	lease := r.lease.Load()
	if lease == nil {
		return false
	}
	q.lease, q.shrunk = *lease, r.shrunk.Load()
	r.mu.RLock()
	p, ok := r.core.CanRead(r.node.Now(), q.need)
	r.mu.RUnlock()
	return ok && p <= r.applied.Load()
}

// inTime says whether a permission that was computed with the reading's lease still holds. It reads the clock after the values were read and before they are
// sent: a process that was stopped in between may have been taken for dead.
func (r *runner) inTime(q *reading) bool {
	switch {
	case q.need.Consistency == chain.Eventual:
		return true
	case q.need.Consistency == chain.Bounded && q.need.Bound.Age > 0 && q.need.Bound.Versions == 0:
		now := r.node.Now()
		return now-q.lease.Sent <= q.need.Bound.Age || now < q.lease.Until
	}
	return r.node.Now() < q.lease.Until
}

// fill reads what was permitted, into an answer.
func (r *runner) fill(a *chain.Answer, q *reading) {
	clear(a.Items)
	*a = chain.Answer{ID: q.id, Items: a.Items[:0]}
	err := r.values(a, q)
	switch {
	case err != nil:
		r.broken(err)
	case r.shrunk.Load() != q.shrunk: // the values may be gone to another chain, or with the replica
		err = fmt.Errorf("the chain was split meanwhile: %w", chain.ErrNotServing)
	case !r.inTime(q):
		err = fmt.Errorf("the lease ended meanwhile: %w", chain.ErrNotServing)
	}
	if err != nil {
		*a = chain.Answer{ID: q.id, Err: cause(err), Text: err.Error(), Items: a.Items[:0]}
	}
}

func (r *runner) values(a *chain.Answer, q *reading) error {
	a.Applied = r.applied.Load()
	if q.need.Keys == nil {
		v, ok, err := r.store.Get(q.need.Key)
		a.Items = append(a.Items, chain.Item{Value: v, Missing: !ok})
		return err
	}
	view, err := r.store.View()
	if err != nil {
		return err
	}
	defer view.Close()
	a.Applied = view.Applied()
	if q.ask == chain.AskScan {
		a.Items, a.More, err = view.Scan(a.Items, q.scope, q.limit, maxAnswer)
		return err
	}
	size := 0
	for _, key := range q.keys {
		v, ok, err := view.Get(key)
		if err != nil {
			return err
		}
		if size += len(v.Value); size > maxAnswer && len(a.Items) > 0 {
			a.More = true
			return nil
		}
		a.Items = append(a.Items, chain.Item{Value: v, Missing: !ok})
	}
	return nil
}

// answerLater answers the reads that had to wait, when they need not wait any more.
func (s *session) answerLater() {
	var a chain.Answer
	var out []byte
	held := false
	for {
		var l later
		select {
		case l = <-s.later:
		case <-s.conn.Done():
			return
		}
		if l.err != nil {
			a = chain.Answer{ID: l.read.id, Err: cause(l.err), Text: l.err.Error()}
		} else {
			s.node.metrics.readLater.Inc()
			l.runner.fill(&a, l.read)
		}
		out = wire.AppendAnswer(out[:0], &a)
		if !held {
			s.conn.Hold()
			held = true
		}
		_ = s.conn.Write(out) // the error is the connection's, which ends with it
		s.readSince(l.read.begun)
		<-s.under
		if len(s.later) == 0 {
			s.conn.Release()
			held = false
		}
		if cap(out) > 1<<20 {
			out = nil
		}
	}
}
