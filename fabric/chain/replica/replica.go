package replica

import (
	"bytes"
	"fmt"
	"slices"

	"orrery/fabric/chain"
	"orrery/fabric/chain/machine"
)

// Replica is the state of one replica. It is not safe for concurrent use, but CanRead and Status may be called by many while nothing else is.
type Replica struct {
	config Config
	output Output

	chain  chain.Config
	self   int // place in the chain; -1: none
	linked bool
	want   uint64 // linked once last is that
	floor  uint64
	lease  Lease
	ever   bool // was linked once
	began  bool // Link was received in this epoch
	behind uint64
	moved  Instant // the link to the predecessor made progress

	last, durable, committed uint64
	epoch                    uint64 // of the entry at committed
	time                     int64
	watermark                uint64
	pending                  []pending
	bytes                    int
	dirty                    map[string][]uint64 // sequences of the pending entries that change a key
	named                    map[name]uint64     // pending commands

	next follower

	queries  uint64
	asking   bool
	asked    Instant
	inFlight []waiting
	reads    []waiting
	answers  []Message // queries that wait for the floor
}

type pending struct {
	entry  chain.Entry
	came   Instant
	tokens []Token
}

type name struct{ client, request uint64 }

type waiting struct {
	read Read
}

// follower is what is known of the successor.
type follower struct {
	replica chain.Replica
	there   bool
	linked  bool   // it said hello in this epoch, and was answered
	sent    uint64 // entries up to it were sent
	acked   uint64
	told    uint64 // the watermark that it was told
	moved   Instant
	copying bool
}

// New makes a replica of what the disk holds. It does nothing before Configure.
func New(c Config) (*Replica, error) {
	r := &Replica{config: c, self: -1, dirty: map[string][]uint64{}, named: map[name]uint64{}}
	r.last, r.durable, r.committed, r.epoch = c.Applied, c.Applied, c.Applied, c.AppliedEpoch
	for _, e := range c.Pending {
		if e.Sequence != r.last+1 {
			return nil, fmt.Errorf("%w: entry %d follows %d in the log", chain.ErrCorrupt, e.Sequence, r.last)
		}
		r.push(0, e)
	}
	r.durable = r.last
	return r, nil
}

func (r *Replica) take() Output {
	out := r.output
	r.output = Output{}
	return out
}

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

func size(e *chain.Entry) int {
	n := 64
	for _, c := range e.Changes {
		n += len(c.Key) + len(c.Value)
	}
	return n
}

func (r *Replica) member() chain.Member {
	if r.self < 0 {
		return chain.Member{}
	}
	return r.chain.Members[r.self]
}

// tail is the place of the last member that serves or joins.
func (r *Replica) tail() int {
	for i, m := range slices.Backward(r.chain.Members) {
		if m.State != chain.Syncing {
			return i
		}
	}
	return -1
}

func (r *Replica) isTail() bool { return r.self >= 0 && r.self == r.tail() }

// Configure takes over a config of a later epoch.
func (r *Replica) Configure(now Instant, c chain.Config) (Output, error) {
	if c.Epoch <= r.chain.Epoch {
		return r.take(), nil
	}
	r.chain, r.self = c, -1
	for i, m := range c.Members {
		if m.Replica == r.config.Self {
			r.self = i
		}
	}
	r.next, r.began, r.linked, r.watermark, r.moved = follower{}, false, false, 0, now
	r.want, r.floor, r.answers = r.last, r.last, nil
	r.asking = false
	r.reads = append(r.inFlight, r.reads...)
	r.inFlight = nil
	if r.self >= 0 && r.self+1 < len(c.Members) {
		r.next = follower{replica: c.Members[r.self+1].Replica, there: true, moved: now}
	}
	if r.self != 0 {
		for i := range r.pending {
			if r.self < 0 {
				r.drop(&r.pending[i])
			}
		}
	}
	switch {
	case r.self == 0:
		r.linked, r.ever = true, true
	case r.self > 0:
		r.hello()
	}
	r.advance()
	r.look(now)
	return r.take(), nil
}

func (r *Replica) drop(p *pending) {
	for _, t := range p.tokens {
		r.output.Replies = append(r.output.Replies, Reply{Token: t, Err: chain.ErrUnknown})
	}
	p.tokens = nil
}

func (r *Replica) message(to chain.Replica, m Message) {
	m.Chain, m.Epoch, m.From, m.To = r.chain.ID, r.chain.Epoch, r.config.Self, to
	r.output.Messages = append(r.output.Messages, m)
}

func (r *Replica) pred() chain.Replica { return r.chain.Members[r.self-1].Replica }

func (r *Replica) hello() {
	r.message(r.pred(), Message{Kind: KindHello, Sequence: r.last, Entry: r.epochOf(r.last), Committed: r.committed})
}

// epochOf is the epoch of an entry at committed or later.
func (r *Replica) epochOf(sequence uint64) uint64 {
	if sequence > r.committed && sequence <= r.last {
		return r.pending[sequence-r.committed-1].entry.Epoch
	}
	if sequence == r.committed {
		return r.epoch
	}
	return 0
}

// Receive acts on a message.
func (r *Replica) Receive(now Instant, m *Message) (Output, error) {
	if m.To != r.config.Self || r.self < 0 {
		return r.take(), nil
	}
	if m.Epoch != r.chain.Epoch {
		if m.Epoch < r.chain.Epoch && m.Kind != KindRefused {
			r.message(m.From, Message{Kind: KindRefused})
		}
		return r.take(), nil
	}
	fromPred := r.self > 0 && m.From == r.pred()
	fromNext := r.next.there && m.From == r.next.replica
	var err error
	switch {
	case m.Kind == KindHello && fromNext:
		err = r.greet(now, m)
	case m.Kind == KindLink && fromPred:
		r.link(now, m)
	case m.Kind == KindAppend && fromPred:
		r.receive(now, m)
	case m.Kind == KindAck && fromNext:
		r.ack(now, m)
	case m.Kind == KindQuery:
		r.query(now, m)
	case m.Kind == KindAnswer:
		r.answer(m)
	}
	if err != nil {
		return Output{}, err
	}
	r.advance()
	r.look(now)
	return r.take(), nil
}

// greet answers a successor's hello.
func (r *Replica) greet(now Instant, m *Message) error {
	if !r.linked {
		return nil // it says it again
	}
	at := m.Sequence
	same := at == 0
	if !same && at <= r.last {
		e := r.epochOf(at)
		if at < r.committed {
			entries, err := r.config.Storage.Entries(at, 1)
			if err != nil {
				return err
			}
			if len(entries) > 0 && entries[0].Sequence == at {
				e = entries[0].Epoch
			} else if at+1 < r.config.Storage.First() {
				r.copyTo(m.From)
				return nil
			}
		}
		same = e == m.Entry
	}
	if !same {
		at = min(m.Committed, r.last)
	}
	if at < r.committed && at+1 < r.config.Storage.First() {
		r.copyTo(m.From)
		return nil
	}
	r.next.linked, r.next.sent, r.next.acked, r.next.moved, r.next.copying = true, at, at, now, false
	r.message(m.From, Message{Kind: KindLink, Sequence: r.last, Committed: at})
	return r.feed()
}

func (r *Replica) copyTo(to chain.Replica) {
	if r.next.copying {
		return
	}
	r.next.copying = true
	r.message(to, Message{Kind: KindSnapshot, Sequence: r.committed})
	r.output.Copies = append(r.output.Copies, Copy{To: to, Epoch: r.chain.Epoch})
}

// Copied says that a copy was sent, or could not be.
func (r *Replica) Copied(to chain.Replica) {
	if r.next.replica == to {
		r.next.copying = false
	}
}

// link takes the predecessor's answer to a hello.
func (r *Replica) link(now Instant, m *Message) {
	if r.began {
		return
	}
	if m.Committed < r.last {
		r.cut(m.Committed)
	}
	r.began, r.moved = true, now
	r.want = m.Sequence
	r.floor = max(r.floor, min(m.Sequence, m.Sequence))
	r.check()
	r.message(m.From, Message{Kind: KindAck, Sequence: r.last, Committed: r.committed})
}

func (r *Replica) cut(keep uint64) {
	if keep < r.committed {
		return
	}
	for i := len(r.pending) - 1; i >= 0 && r.pending[i].entry.Sequence > keep; i-- {
		p := &r.pending[i]
		r.drop(p)
		r.forget(&p.entry)
		r.bytes -= size(&p.entry)
	}
	r.pending = r.pending[:keep-r.committed]
	r.last, r.durable = keep, min(r.durable, keep)
	r.output.Truncate, r.output.Keep = true, keep
}

func (r *Replica) forget(e *chain.Entry) {
	for _, c := range e.Changes {
		all := r.dirty[string(c.Key)]
		for i, s := range all {
			if s == e.Sequence {
				all = append(all[:i], all[i+1:]...)
				break
			}
		}
		if len(all) == 0 {
			delete(r.dirty, string(c.Key))
		} else {
			r.dirty[string(c.Key)] = all
		}
	}
	delete(r.named, name{e.Client, e.Request})
}

func (r *Replica) check() {
	if r.began && !r.linked && r.last >= r.want {
		r.linked = true
		if r.member().State != chain.Syncing {
			r.ever = true
		}
	}
}

// receive takes entries of the predecessor.
func (r *Replica) receive(now Instant, m *Message) {
	if !r.began {
		return
	}
	if m.Sequence > r.last {
		r.began = false
		r.hello()
		return
	}
	r.moved = now
	for _, e := range m.Entries {
		if e.Sequence != r.last+1 {
			continue
		}
		r.push(now, e)
		r.output.Append = append(r.output.Append, e)
	}
	r.behind = 0
	r.watermark = max(r.watermark, m.Durable)
	r.check()
	r.commit(min(m.Committed, r.last))
	r.message(m.From, Message{Kind: KindAck, Sequence: r.last, Committed: r.committed})
}

func (r *Replica) ack(now Instant, m *Message) {
	if !r.next.linked {
		return
	}
	if m.Sequence > r.next.acked {
		r.next.acked, r.next.moved = m.Sequence, now
	}
	if r.next.acked == r.last {
		r.next.moved = now
	}
	if !r.isTail() {
		r.commit(m.Committed)
	}
}

// mark is the watermark that is passed on.
func (r *Replica) mark() uint64 {
	if r.self == 0 {
		return r.durable
	}
	return min(r.durable, r.watermark)
}

// advance commits at the tail, and feeds the successor.
func (r *Replica) advance() {
	if r.isTail() {
		r.commit(r.mark())
	}
	_ = r.feed()
	r.pass()
}

// pass tells the successor of a new watermark, unless entries did.
func (r *Replica) pass() {
	if r.next.linked && r.linked && r.mark() > r.next.told {
		r.tell()
	}
}

// feed sends the successor what it has not.
func (r *Replica) feed() error {
	n := &r.next
	if !n.linked || !r.linked {
		return nil
	}
	for n.sent < r.last {
		m := Message{Kind: KindAppend, Sequence: n.sent, Durable: r.mark(), Committed: r.committed, Time: r.time}
		if n.sent < r.committed {
			entries, err := r.config.Storage.Entries(n.sent+1, r.config.Batch)
			if err != nil {
				return err
			}
			if len(entries) == 0 || entries[0].Sequence != n.sent+1 {
				// Not applied on the disk yet: with the next step.
				return nil
			}
			m.Entries = entries
		} else {
			bytes := 0
			for _, p := range r.pending[n.sent-r.committed:] {
				if bytes > r.config.Batch {
					break
				}
				bytes += size(&p.entry)
				m.Entries = append(m.Entries, p.entry)
			}
		}
		n.sent = m.Entries[len(m.Entries)-1].Sequence
		n.told = m.Durable
		r.message(n.replica, m)
	}
	return nil
}

// tell passes a new watermark, or what is committed, on.
func (r *Replica) tell() {
	n := &r.next
	if n.linked && r.linked && n.sent == r.last {
		n.told = r.mark()
		r.message(n.replica, Message{Kind: KindAppend, Sequence: n.sent, Durable: r.mark(), Committed: r.committed, Time: r.time})
	}
}

// commit applies what is committed.
func (r *Replica) commit(up uint64) {
	up = min(up, r.last)
	if up <= r.committed {
		return
	}
	n := int(up - r.committed) //nolint:gosec // less than pending
	for i := range r.pending[:n] {
		p := &r.pending[i]
		r.output.Apply = append(r.output.Apply, p.entry)
		for _, t := range p.tokens {
			r.output.Replies = append(r.output.Replies, Reply{Token: t, Result: p.entry.Result})
		}
		r.forget(&p.entry)
		r.bytes -= size(&p.entry)
		r.epoch = p.entry.Epoch
	}
	rest := copy(r.pending, r.pending[n:])
	clear(r.pending[rest:])
	r.pending = r.pending[:rest]
	r.committed = up
	if r.self > 0 {
		r.message(r.pred(), Message{Kind: KindAck, Sequence: r.last, Committed: r.committed})
	}
	if r.isTail() && r.next.there {
		r.tell()
	}
}

// Persisted says that entries up to a sequence are durable.
func (r *Replica) Persisted(now Instant, up uint64) (Output, error) {
	if up = min(up, r.last); up > r.durable {
		r.durable = up
		r.advance()
		r.look(now)
	}
	return r.take(), nil
}

// Propose decides a command.
func (r *Replica) Propose(now Instant, clock int64, t Token, c *chain.Command) (Output, error) {
	fail := func(err error) (Output, error) {
		r.output.Replies = append(r.output.Replies, Reply{Token: t, Err: err})
		return r.take(), nil
	}
	if r.self != 0 || !r.linked {
		return fail(chain.ErrNotServing)
	}
	if err := machine.Check(c); err != nil {
		return fail(err)
	}
	if s, ok := r.named[name{c.Client, c.Request}]; ok {
		p := &r.pending[s-r.committed-1]
		p.tokens = append(p.tokens, t)
		return r.take(), nil
	}
	result, known, over, err := r.config.Storage.Recall(c.Client, c.Request)
	if err != nil {
		return Output{}, err
	}
	if known || over {
		if over {
			result = chain.Result{Outcome: chain.Superseded}
		}
		r.output.Replies = append(r.output.Replies, Reply{Token: t, Result: result})
		return r.take(), nil
	}
	if r.bytes > r.config.MaxPending {
		return fail(chain.ErrBusy)
	}
	r.time = max(r.time, clock)
	e, err := machine.Decide(newest{r}, r.chain.Range, c, machine.Stamp{Epoch: r.chain.Epoch, Sequence: r.last + 1, Time: r.time})
	if err != nil {
		return Output{}, err
	}
	r.push(now, e)
	r.pending[len(r.pending)-1].tokens = []Token{t}
	r.output.Append = append(r.output.Append, e)
	r.advance()
	return r.take(), nil
}

// newest is the state with pending entries.
type newest struct{ r *Replica }

func (n newest) Get(key []byte) (chain.Value, bool, error) {
	all := n.r.dirty[string(key)]
	if len(all) == 0 {
		return n.r.config.Storage.Get(key)
	}
	e := &n.r.pending[all[len(all)-1]-n.r.committed-1].entry
	for _, c := range e.Changes {
		if bytes.Equal(c.Key, key) {
			if c.Deleted {
				return chain.Value{}, false, nil
			}
			return chain.Value{Value: c.Value, Version: e.Sequence, Expires: c.Expires}, true, nil
		}
	}
	return chain.Value{}, false, chain.ErrCorrupt
}

func (n newest) Recall(client, request uint64) (chain.Result, bool, bool, error) {
	return n.r.config.Storage.Recall(client, request)
}

func (n newest) Expired(time int64, limit int) ([][]byte, error) {
	return n.r.config.Storage.Expired(time, limit)
}

// SetLease lets the replica answer reads.
func (r *Replica) SetLease(now Instant, l Lease) (Output, error) {
	r.lease = l
	r.look(now)
	return r.take(), nil
}

// CanRead says whether a read may be answered at once, and as of which entry at least.
func (r *Replica) CanRead(now Instant, q Read) (uint64, bool) {
	if r.may(now, q) == yes {
		return r.committed, true
	}
	return 0, false
}

type verdict int

const (
	yes verdict = iota
	no
	ask
)

func (r *Replica) may(now Instant, q Read) verdict {
	if q.Consistency == chain.Eventual {
		if r.ever {
			return yes
		}
		return no
	}
	m := r.member()
	if !r.linked || m.State != chain.Serving && m.State != chain.Joining {
		return no
	}
	if q.Consistency == chain.Bounded && q.Bound.Age > 0 {
		if now-r.lease.Sent > q.Bound.Age || r.lease.Until == 0 {
			return no
		}
	} else if now >= r.lease.Until {
		return no
	}
	if r.isTail() {
		if r.committed >= r.floor {
			return yes
		}
		return ask
	}
	if r.config.PlainReads {
		return no
	}
	if len(r.pending) == 0 || !r.isDirty(now, q) {
		return yes
	}
	return ask
}

func (r *Replica) isDirty(now Instant, q Read) bool {
	if q.Keys == nil {
		all := r.dirty[string(q.Key)]
		return len(all) > 0 && !r.bounded(now, q, all)
	}
	for key, all := range r.dirty {
		if q.Keys.Contains([]byte(key)) && !r.bounded(now, q, all) {
			return true
		}
	}
	return false
}

func (r *Replica) bounded(now Instant, q Read, all []uint64) bool {
	if q.Consistency != chain.Bounded {
		return false
	}
	if q.Bound.Versions > 0 && uint64(len(all)) >= q.Bound.Versions {
		return false
	}
	if q.Bound.Age > 0 && now-r.pending[all[0]-r.committed-1].came > q.Bound.Age {
		return false
	}
	return q.Bound.Versions > 0 || q.Bound.Age > 0
}

// Read asks for a permission, which comes in an output, now or later.
func (r *Replica) Read(now Instant, q Read) (Output, error) {
	r.reads = append(r.reads, waiting{read: q})
	r.look(now)
	return r.take(), nil
}

// look goes through the reads that wait.
func (r *Replica) look(now Instant) {
	if len(r.answers) > 0 && r.committed >= r.floor {
		for _, m := range r.answers {
			r.query(now, &m)
		}
		r.answers = nil
	}
	if len(r.reads) == 0 {
		return
	}
	kept := r.reads[:0]
	for _, w := range r.reads {
		switch r.may(now, w.read) {
		case yes:
			r.output.Reads = append(r.output.Reads, Permission{Token: w.read.Token, Applied: r.committed})
		case no:
			r.output.Reads = append(r.output.Reads, Permission{Token: w.read.Token, Err: chain.ErrNotServing})
		default:
			kept = append(kept, w)
		}
	}
	r.reads = kept
	if len(r.reads) > 0 && !r.asking && !r.isTail() {
		r.queries++
		r.asking, r.asked = true, now
		r.inFlight, r.reads = append(r.inFlight[:0], r.reads...), nil
		r.message(r.chain.Members[r.tail()].Replica, Message{Kind: KindQuery, Query: r.queries})
	}
}

// query answers another replica's question.
func (r *Replica) query(now Instant, m *Message) {
	if !r.isTail() || !r.linked || now >= r.lease.Until {
		return
	}
	if r.committed < r.floor {
		r.answers = append(r.answers, *m)
		return
	}
	r.message(m.From, Message{Kind: KindAnswer, Query: m.Query, Committed: r.committed})
}

// answer takes the tail's answer.
func (r *Replica) answer(m *Message) {
	if !r.asking || m.Query != r.queries || m.From != r.chain.Members[r.tail()].Replica {
		return
	}
	r.asking = false
	r.commit(min(m.Committed, r.last))
	for _, w := range r.inFlight {
		r.output.Reads = append(r.output.Reads, Permission{Token: w.read.Token, Applied: r.committed})
	}
	r.inFlight = nil
}

// Tick tells the time.
func (r *Replica) Tick(now Instant, clock int64) (Output, error) {
	late := func(since Instant) bool { return now-since > r.config.ResendAfter }
	if r.self > 0 && !r.began && late(r.moved) {
		r.moved = now
		r.hello()
	}
	if n := &r.next; n.linked && n.acked < r.last && late(n.moved) {
		n.sent, n.moved = n.acked, now
	}
	if r.asking && late(r.asked) {
		r.asking = false
		r.reads = append(r.inFlight, r.reads...)
		r.inFlight = nil
	}
	r.look(now)
	r.advance()
	r.tell()
	if r.self == 0 && r.linked {
		if err := r.expire(now, clock); err != nil {
			return Output{}, err
		}
	}
	return r.take(), nil
}

// expire deletes keys whose time is over.
func (r *Replica) expire(now Instant, clock int64) error {
	keys, err := r.config.Storage.Expired(clock, 256)
	if err != nil {
		return err
	}
	r.time = max(r.time, clock)
	e := chain.Entry{Epoch: r.chain.Epoch, Sequence: r.last + 1, Time: r.time, Result: chain.Result{Version: r.last + 1}}
	for _, k := range keys {
		if len(r.dirty[string(k)]) == 0 && r.chain.Range.Contains(k) {
			e.Changes = append(e.Changes, chain.Change{Key: k, Deleted: true})
		}
	}
	if len(e.Changes) > 0 {
		r.push(now, e)
		r.output.Append = append(r.output.Append, e)
		r.advance()
	}
	return nil
}

// Status says how the replica is.
func (r *Replica) Status() Status {
	return Status{
		Chain: r.chain.ID, Epoch: r.chain.Epoch, Self: r.config.Self, State: r.member().State, Linked: r.linked,
		Last: r.last, Durable: r.durable, Committed: r.committed, Behind: r.behind, Pending: r.bytes,
	}
}
