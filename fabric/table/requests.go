package table

import (
	"cmp"
	"encoding/binary"
	"slices"
	"sync/atomic"

	"go.etcd.io/raft/v3"

	"orrery/fabric/table/kv"
)

// maxWrites bounds how many writes of one node are under way, and so the size of its session in the state machine.
const maxWrites = 1024

// write is a command on its way through the log.
type write struct {
	command   kv.Command
	done      chan kv.Result // has room for the one answer
	abandoned atomic.Bool    // nobody waits for the answer any more

	encoded  []byte
	proposed uint64 // tick of the last proposal
	patience uint64 // ticks until it is proposed again; 0: not before the leader changes
}

// proposals are this node's writes that are under way. A proposal may get lost or, as it is repeated, be committed
// twice; its sequence makes it happen once.
type proposals struct {
	client      uint64
	incarnation uint64
	next        uint64 // the next write's sequence
	floor       uint64 // no smaller sequence is waiting
	waiting     map[uint64]*write
}

// accept gives a new write its name and proposes it.
func (l *loop) accept(w *write) {
	p := &l.proposals
	for p.floor < p.next && p.waiting[p.floor] == nil {
		p.floor++
	}
	w.command.Client, w.command.Incarnation = p.client, p.incarnation
	w.command.Sequence, w.command.Floor = p.next, p.floor
	w.encoded = w.command.Encode()
	w.command.Value = nil // the caller's; encoded has a copy
	p.waiting[p.next] = w
	p.next++
	l.propose(w)
}

// propose hands a write to the leader. One that is dropped, for want of a leader or room, comes back by repropose.
// One that is in this leader's own log does not: if disks or nodes are slow, a second copy would make them slower.
func (l *loop) propose(w *write) {
	w.proposed, w.patience = l.now, min(max(2*w.patience, retryTicks), maxRetryTicks)
	err := l.node.Propose(w.encoded)
	switch {
	case err != nil:
		w.patience = retryTicks
		l.t.config.Logger.Debug("proposal dropped", "key", w.command.Key, "err", err)
	case l.leading:
		w.patience = 0
	}
}

// repropose repeats writes that have waited for long, or all of them because the leader is another one, and forgets
// those that nobody waits for.
func (l *loop) repropose(all bool) {
	var due []*write
	for sequence, w := range l.proposals.waiting {
		switch {
		case w.abandoned.Load():
			delete(l.proposals.waiting, sequence)
		case all:
			w.patience = 0
			due = append(due, w)
		case w.patience > 0 && l.now-w.proposed >= w.patience:
			due = append(due, w)
		}
	}
	slices.SortFunc(due, func(a, b *write) int { return cmp.Compare(a.command.Sequence, b.command.Sequence) })
	for _, w := range due {
		l.propose(w)
	}
}

// applied returns what answers the writer of a command that was applied; nil if it is another node's.
func (p *proposals) applied(c kv.Command, r kv.Result) func() {
	if c.Client != p.client || c.Incarnation != p.incarnation {
		return nil
	}
	w := p.waiting[c.Sequence]
	if w == nil {
		return nil
	}
	delete(p.waiting, c.Sequence)
	return func() { w.done <- r }
}

// answerFrom answers writes whose entries this node skipped, because a snapshot contained them.
func (l *loop) answerFrom(m *kv.Machine) {
	s := m.Session(l.proposals.client)
	if s == nil || s.Incarnation != l.proposals.incarnation {
		return
	}
	for sequence, w := range l.proposals.waiting {
		if r, ok := s.Results[sequence]; ok {
			delete(l.proposals.waiting, sequence)
			w.done <- r
		}
	}
}

// read waits for this node to know what was committed when it was asked.
type read struct {
	done      chan struct{}
	abandoned atomic.Bool
}

// queries are this node's reads. One question to the leader is on its way at a time; it answers the reads
// that came before it was sent, and no later ones.
type queries struct {
	self        uint64
	incarnation uint64
	waiting     []*read // for the next question
	sent        []*read // for the answer to the question on its way
	question    uint64  // its number
	asked       uint64  // the tick at which it was sent; 0: it has to be sent (again)
	known       []known // answered, and not applied so far
}

// known are reads that are answered once index is applied.
type known struct {
	index uint64
	reads []*read
}

// ask sends the next question, or repeats the last one if its answer is overdue.
func (l *loop) ask() {
	q := &l.queries
	if len(q.sent) > 0 && q.asked != 0 && l.now-q.asked < readTicks {
		return
	}
	dead := func(r *read) bool { return r.abandoned.Load() }
	q.sent = slices.DeleteFunc(append(q.sent, q.waiting...), dead)
	q.waiting = nil
	if len(q.sent) == 0 || l.lead == raft.None {
		return
	}
	q.question++
	q.asked = max(l.now, 1)
	l.node.ReadIndex(q.name())
}

// name makes the question unlike any other that a leader may still hold: of other nodes, or of this one before a restart.
func (q *queries) name() []byte {
	b := binary.BigEndian.AppendUint64(nil, q.self)
	b = binary.BigEndian.AppendUint64(b, q.incarnation)
	return binary.BigEndian.AppendUint64(b, q.question)
}

// answered takes the leader's answers and lets those reads go on whose index is applied.
func (q *queries) answered(states []raft.ReadState, applied uint64) {
	for _, s := range states {
		if string(s.RequestCtx) == string(q.name()) && len(q.sent) > 0 {
			q.known = append(q.known, known{s.Index, q.sent})
			q.sent, q.asked = nil, 0
		}
	}
	q.known = slices.DeleteFunc(q.known, func(k known) bool {
		if k.index > applied {
			return false
		}
		for _, r := range k.reads {
			close(r.done)
		}
		return true
	})
}
