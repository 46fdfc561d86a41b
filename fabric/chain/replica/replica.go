package replica

import (
	"fmt"
	"slices"

	"orrery/fabric/chain"
)

// Replica is the state of one replica. It is not safe for concurrent use, but CanRead and Status may be called by many while nothing else is.
type Replica struct {
	config Config
	output Output
	failed error // of the storage: it does nothing any more

	chain     chain.Config
	cuts      []cut  // how its range became smaller, as far as it is known
	self      int    // place in the chain; -1: none
	linked    bool   // has all that the predecessor had when they met in this epoch
	want      uint64 // linked once last is that
	floor     uint64 // see DESIGN.md
	ever      bool   // was linked once
	lease     Lease
	began     bool    // the link to the predecessor is there
	greeting  uint64  // number of the newest hello
	probe     uint64  // the entry that it asked about
	heard     Instant // when the link to the predecessor made progress
	watermark uint64  // the predecessor's

	last, durable, committed uint64
	epoch                    uint64 // of the entry at committed
	time                     int64  // of the newest entry that is known
	pending                  []pending
	bytes                    int
	dirty                    map[string][]uint64 // sequences of the pending entries that change a key
	named                    map[name]uint64     // sequences of the pending entries of commands

	next  follower
	early Message // the successor's hello that came before it could be answered

	queries  uint64 // number of the newest query
	asking   bool
	asked    Instant
	inFlight []Read // what the query's answer serves
	waiting  []Read
	asks     map[chain.Replica]uint64 // queries that wait for the floor
}

// pending is an entry that is not known to be committed.
type pending struct {
	entry  chain.Entry
	came   Instant
	tokens []Token
}

type name struct{ client, request uint64 }

// follower is what is known of the successor.
type follower struct {
	replica   chain.Replica
	there     bool
	syncing   bool
	linked    bool     // it said hello in this epoch, and its log continues this one's
	greeted   uint64   // number of the newest hello that was answered
	sent      uint64   // entries up to it were sent
	acked     uint64   // entries up to it came
	committed uint64   // of the successor
	told      uint64   // the watermark that it was told
	batches   []uint64 // where messages with entries from the disk end that are not acknowledged
	moved     Instant  // when the link made progress
	copying   bool
}

// New makes a replica of what the disk holds. It does nothing before Configure.
func New(c Config) (*Replica, error) {
	r := &Replica{config: c, self: -1, dirty: map[string][]uint64{}, named: map[name]uint64{}, asks: map[chain.Replica]uint64{}}
	r.last, r.committed, r.epoch = c.Applied, c.Applied, c.AppliedEpoch
	newest, err := c.Storage.Entries(c.Applied, 1)
	if err != nil {
		return nil, err
	}
	if len(newest) > 0 {
		r.time = newest[0].Time
	}
	for _, e := range c.Pending {
		if e.Sequence != r.last+1 {
			return nil, fmt.Errorf("%w: entry %d follows %d in the log", chain.ErrCorrupt, e.Sequence, r.last)
		}
		r.push(0, e)
	}
	r.durable = r.last
	return r, nil
}

// Configure takes over a config of a later epoch. Links begin anew.
func (r *Replica) Configure(now Instant, c chain.Config) (Output, error) {
	if c.Epoch <= r.chain.Epoch {
		return r.take(), r.failed
	}
	r.shrink(&c)
	r.chain, r.self = c, -1
	for i, m := range c.Members {
		if m.Replica == r.config.Self {
			r.self = i
		}
	}
	r.linked, r.began, r.watermark, r.next = false, false, 0, follower{}
	r.floor, r.want = r.last, r.last
	r.asking, r.waiting, r.inFlight = false, append(r.inFlight, r.waiting...), nil
	clear(r.asks)
	if r.self >= 0 && r.self+1 < len(c.Members) {
		m := c.Members[r.self+1]
		r.next = follower{replica: m.Replica, there: true, syncing: m.State == chain.Syncing, moved: now}
	}
	switch {
	case r.self < 0:
		for i := range r.pending {
			r.drop(&r.pending[i])
		}
	case r.self == 0:
		r.linked, r.ever = true, true
	default:
		r.linked = r.broken(RuleJoin) && r.member().State != chain.Syncing
		r.hello(now, r.last)
	}
	return r.finish(now, nil)
}

// Receive acts on a message.
func (r *Replica) Receive(now Instant, m *Message) (Output, error) {
	if r.failed != nil {
		return Output{}, r.failed
	}
	if m.To != r.config.Self || r.chain.Epoch == 0 || m.Chain != r.chain.ID {
		return r.take(), nil
	}
	if m.Epoch != r.chain.Epoch && !r.broken(RuleEpochs) {
		switch {
		case m.Epoch > r.chain.Epoch && m.Kind == KindHello:
			r.early = *m
		case m.Epoch < r.chain.Epoch && m.Kind != KindRefused:
			r.send(m.From, Message{Kind: KindRefused})
		}
		return r.take(), nil
	}
	if r.self < 0 {
		return r.take(), nil
	}
	var err error
	switch {
	case m.Kind == KindQuery:
		r.query(m.From, m.Query)
	case m.Kind == KindAnswer:
		r.answer(m)
	case r.self > 0 && m.From == r.before():
		r.fromBefore(now, m)
	case r.next.there && m.From == r.next.replica:
		err = r.fromNext(now, m)
	}
	return r.finish(now, err)
}

func (r *Replica) fromBefore(now Instant, m *Message) {
	switch m.Kind { //nolint:exhaustive // a predecessor says nothing else
	case KindLink:
		r.link(now, m)
	case KindProbe:
		r.search(now, m)
	case KindSnapshot:
		if r.began { // the predecessor has forgotten the link
			r.hello(now, r.last)
		}
	case KindAppend:
		r.receive(now, m)
	}
}

func (r *Replica) fromNext(now Instant, m *Message) error {
	switch m.Kind { //nolint:exhaustive // a successor says nothing else
	case KindHello:
		return r.greet(now, m)
	case KindAck:
		r.acknowledged(now, m)
	}
	return nil
}

// finish does what may have become possible, and returns what is to be done. After an error of the storage nothing more is: memory
// is ahead of the disk then.
func (r *Replica) finish(now Instant, err error) (Output, error) {
	if r.failed == nil && err == nil {
		err = r.advance(now)
	}
	if r.failed == nil {
		r.failed = err
	}
	if r.failed != nil {
		r.output = Output{}
		return Output{}, r.failed
	}
	r.look(now)
	return r.take(), nil
}

func (r *Replica) take() Output {
	out := r.output
	r.output = Output{}
	return out
}

func (r *Replica) send(to chain.Replica, m Message) {
	m.Chain, m.Epoch, m.From, m.To = r.chain.ID, r.chain.Epoch, r.config.Self, to
	r.output.Messages = append(r.output.Messages, m)
}

// broken says whether a test breaks a rule.
func (r *Replica) broken(rule Rule) bool { return r.config.Skip&rule != 0 }

func (r *Replica) before() chain.Replica { return r.chain.Members[r.self-1].Replica }

func (r *Replica) member() chain.Member {
	if r.self < 0 {
		return chain.Member{}
	}
	return r.chain.Members[r.self]
}

// tail is the place of the last member that serves or joins; -1: there is none.
func (r *Replica) tail() int {
	for i, m := range slices.Backward(r.chain.Members) {
		if m.State != chain.Syncing {
			return i
		}
	}
	return -1
}

func (r *Replica) isTail() bool { return r.self >= 0 && r.self == r.tail() }

// Tick tells the time: the clock's, and the date in milliseconds since 1970.
func (r *Replica) Tick(now Instant, date int64) (Output, error) {
	if r.self > 0 && !r.began && r.late(now, r.heard) {
		r.hello(now, r.last)
	}
	r.resend(now)
	if r.asking && r.late(now, r.asked) {
		r.asking = false
		r.waiting, r.inFlight = append(r.inFlight, r.waiting...), nil
	}
	var err error
	if r.self == 0 && r.bytes <= r.config.MaxPending {
		err = r.expire(now, date)
	}
	return r.finish(now, err)
}

func (r *Replica) late(now, since Instant) bool { return now-since > r.config.ResendAfter }

// Status says how the replica is.
func (r *Replica) Status() Status {
	s := Status{
		Chain: r.chain.ID, Epoch: r.chain.Epoch, Self: r.config.Self, State: r.member().State,
		// What is not durable may be lost: then it does not have it.
		Linked: r.linked && r.durable >= min(r.want, r.last),
		Last:   r.last, Durable: r.durable, Committed: r.committed, Pending: r.bytes,
	}
	if r.failed != nil {
		s.State, s.Linked = 0, false
	}
	if r.want > r.last {
		s.Behind = r.want - r.last
	}
	return s
}
