package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

// Scripted scenarios: mostly schedules in which an earlier version of the protocol broke. ../sim looks for others.

// memory is a replica.Storage.
type memory struct {
	first   uint64
	log     []chain.Entry
	keys    map[string]chain.Value
	results map[[2]uint64]chain.Result
	floors  map[uint64]uint64
	err     error // of everything that can fail
}

func (m *memory) Get(key []byte) (chain.Value, bool, error) {
	v, ok := m.keys[string(key)]
	return v, ok, m.err
}

func (m *memory) Recall(client, request uint64) (chain.Result, bool, bool, error) {
	r, ok := m.results[[2]uint64{client, request}]
	return r, ok, request < m.floors[client], m.err
}

func (m *memory) Expired(date int64, limit int) ([][]byte, error) {
	var all [][]byte
	for k, v := range m.keys {
		if v.Expires > 0 && v.Expires <= date {
			all = append(all, []byte(k))
		}
	}
	slices.SortFunc(all, bytes.Compare)
	return all[:min(limit, len(all))], m.err
}

func (m *memory) Entries(from uint64, limit int) ([]chain.Entry, error) {
	if m.err != nil {
		return nil, m.err
	}
	if from < m.first || from >= m.first+uint64(len(m.log)) {
		return nil, nil
	}
	rest := m.log[from-m.first:]
	return rest[:min(len(rest), max(1, limit/64))], nil
}

func (m *memory) First() uint64 { return m.first }

// place is a replica with its disk, driven by hand.
type place struct {
	*replica.Replica
	t       *testing.T
	self    chain.Replica
	disk    *memory
	now     time.Duration
	sent    []replica.Message
	replies []replica.Reply
	reads   []replica.Permission
	copies  []replica.Copy
}

func named(n string) chain.Replica { return chain.Replica{Node: fabric.NodeID(n), Incarnation: 1} }

func entry(epoch, sequence uint64) chain.Entry {
	return chain.Entry{
		Epoch: epoch, Sequence: sequence, Client: 9, Request: 100*epoch + sequence, Result: chain.Result{Version: sequence},
		Changes: []chain.Change{{Key: []byte("k"), Value: fmt.Appendf(nil, "%d/%d", epoch, sequence)}},
	}
}

// newPlace is a replica that restarted with a log, of which some is applied.
func newPlace(t *testing.T, name string, applied uint64, log ...chain.Entry) *place {
	t.Helper()
	return newPlaceAs(t, name, func(*replica.Config) {}, applied, log...)
}

// newPlaceAs is newPlace with other settings.
func newPlaceAs(t *testing.T, name string, set func(*replica.Config), applied uint64, log ...chain.Entry) *place {
	t.Helper()
	p := &place{t: t, self: named(name), now: time.Hour, disk: &memory{first: 1, log: log, keys: map[string]chain.Value{}, results: map[[2]uint64]chain.Result{}, floors: map[uint64]uint64{}}}
	c := replica.Config{Self: p.self, Storage: p.disk, Applied: applied, Pending: log[applied:], MaxPending: 1 << 20, Batch: 64, ResendAfter: time.Second}
	for _, e := range log[:applied] {
		p.apply(e)
		c.AppliedEpoch = e.Epoch
	}
	set(&c)
	r, err := replica.New(c)
	if err != nil {
		t.Fatal(err)
	}
	p.Replica = r
	return p
}

func (p *place) apply(e chain.Entry) {
	for _, c := range e.Changes {
		if c.Deleted {
			delete(p.disk.keys, string(c.Key))
			continue
		}
		p.disk.keys[string(c.Key)] = chain.Value{Value: c.Value, Version: e.Sequence, Expires: c.Expires}
	}
	p.disk.results[[2]uint64{e.Client, e.Request}] = e.Result
	p.disk.floors[e.Client] = max(p.disk.floors[e.Client], e.Floor)
}

// do carries out what the replica asks for; what it sends waits.
func (p *place) do(out replica.Output, err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
	if out.Truncate {
		p.disk.log = p.disk.log[:out.Keep+1-p.disk.first]
	}
	p.disk.log = append(p.disk.log, out.Append...)
	for _, e := range out.Apply {
		p.apply(e)
	}
	p.sent = append(p.sent, out.Messages...)
	p.replies, p.reads, p.copies = append(p.replies, out.Replies...), append(p.reads, out.Reads...), append(p.copies, out.Copies...)
}

func (p *place) configure(epoch uint64, members ...chain.Member) {
	p.t.Helper()
	p.do(p.Configure(p.now, chain.Config{ID: 1, Epoch: epoch, Members: members}))
}

func (p *place) sync() {
	p.t.Helper()
	p.do(p.Persisted(p.now, p.Status().Last))
}

func (p *place) lease(age, left time.Duration) {
	p.t.Helper()
	p.do(p.SetLease(p.now, replica.Lease{Sent: p.now - age, Until: p.now + left}))
}

// later lets more than ResendAfter pass.
func (p *place) later() {
	p.t.Helper()
	p.now += 2 * time.Second
	p.do(p.Tick(p.now, 0))
}

// put proposes a command, always the same.
func (p *place) put() {
	p.t.Helper()
	c := chain.Command{Client: 1, Request: 1, Floor: 1, Do: []chain.Write{{Op: chain.OpPut, Key: []byte("k"), Value: []byte("v")}}}
	p.do(p.Propose(p.now, 1, 1, &c))
}

// take removes and returns what the replica sent.
func (p *place) take() []replica.Message {
	all := p.sent
	p.sent = nil
	return all
}

// pass brings messages between places until there are none. lost says which do not arrive.
func pass(lost func(*replica.Message) bool, all ...*place) {
	for moved := true; moved; {
		moved = false
		for _, from := range all {
			for _, m := range from.take() {
				for _, to := range all {
					if m.To == to.self && (lost == nil || !lost(&m)) {
						moved = true
						to.do(to.Receive(to.now, &m))
					}
				}
			}
		}
	}
}

func serving(names ...string) []chain.Member {
	var all []chain.Member
	for _, n := range names {
		all = append(all, chain.Member{Replica: named(n), State: chain.Serving})
	}
	return all
}

func TestWrite(t *testing.T) {
	a, b, c := newPlace(t, "a", 0), newPlace(t, "b", 0), newPlace(t, "c", 0)
	for _, p := range []*place{a, b, c} {
		p.configure(1, serving("a", "b", "c")...)
	}
	pass(nil, a, b, c)
	a.put()
	pass(nil, a, b, c)
	for _, p := range []*place{c, a} {
		p.sync()
		pass(nil, a, b, c)
		if len(a.replies) > 0 {
			t.Fatal("acknowledged before it was durable everywhere")
		}
	}
	b.sync()
	pass(nil, a, b, c)
	if len(a.replies) != 1 || a.replies[0].Err != nil || a.replies[0].Result.Version != 1 {
		t.Fatalf("replies %v; %+v, %+v, %+v", a.replies, a.Status(), b.Status(), c.Status())
	}
	a.put() // again
	if len(a.replies) != 2 || a.replies[1].Result != a.replies[0].Result || a.Status().Last != 1 {
		t.Fatalf("the second time: %v, log to %d", a.replies, a.Status().Last)
	}
}

// TestLateLink: an answer to an earlier hello comes when entries have followed.
func TestLateLink(t *testing.T) {
	a, b := newPlace(t, "a", 0), newPlace(t, "b", 0)
	a.configure(1, serving("a", "b")...)
	b.configure(1, serving("a", "b")...)
	var late replica.Message
	pass(func(m *replica.Message) bool {
		if m.Kind == replica.KindLink && late.Kind == 0 {
			late = *m
			return true
		}
		return false
	}, a, b)
	b.later()
	pass(nil, a, b)
	a.put()
	pass(nil, a, b)
	b.sync()
	b.do(b.Receive(b.now, &late))
	if s := b.Status(); s.Last != 1 || s.Durable != 1 || !s.Linked {
		t.Fatalf("%+v", s)
	}
}

// TestLateHello: an earlier hello comes again when the log does not reach back to it any more. And if the predecessor has lost the
// link, the successor hears of it.
func TestLateHello(t *testing.T) {
	var log []chain.Entry
	for n := range uint64(9) {
		log = append(log, entry(1, n+1))
	}
	a, b := newPlace(t, "a", 9, log...), newPlace(t, "b", 0)
	members := append(serving("a"), chain.Member{Replica: named("b"), State: chain.Syncing})
	a.configure(2, members...)
	b.configure(2, members...)
	late := b.sent[0]
	pass(nil, a, b)
	a.disk.first, a.disk.log = 9, a.disk.log[8:]
	a.do(a.Receive(a.now, &late))
	if len(a.copies) != 0 {
		t.Fatal("a copy for who has everything")
	}
	a.put()
	a.sync()
	pass(func(m *replica.Message) bool { return m.Kind == replica.KindAppend }, a, b)
	a.put()
	a.disk.first, a.disk.log = 10, a.disk.log[1:]
	late.Query = uint64(b.now) + 5 // newer than any, so that the link is lost
	a.do(a.Receive(a.now, &late))
	if len(a.copies) != 1 {
		t.Fatalf("copies %v", a.copies)
	}
	a.Copied(b.self)
	b.now += 3 * time.Second
	for range 3 {
		a.later()
		pass(nil, a, b)
	}
	if b.Status().Last != a.Status().Last {
		t.Fatalf("%+v, %+v", a.Status(), b.Status())
	}
}

// TestCommonEntries: b does not know what is committed, and has an entry that a does not have. It must keep all others.
func TestCommonEntries(t *testing.T) {
	a := newPlace(t, "a", 1, entry(1, 1), entry(1, 2), entry(2, 3), entry(2, 4), entry(4, 5), entry(4, 6))
	b := newPlace(t, "b", 1, entry(1, 1), entry(1, 2), entry(2, 3), entry(2, 4), entry(3, 5), entry(3, 6), entry(3, 7))
	a.configure(5, serving("a", "b")...)
	b.configure(5, serving("a", "b")...)
	least := uint64(7)
	for range 20 {
		pass(func(m *replica.Message) bool { return m.Kind == replica.KindAppend }, a, b)
		least = min(least, b.Status().Last)
		b.later()
	}
	if least != 4 {
		t.Fatalf("cut to %d, the logs are the same up to 4", least)
	}
	a.later()
	pass(nil, a, b)
	b.sync()
	pass(nil, a, b)
	if s := a.Status(); s.Committed != 6 || b.Status().Committed != 6 {
		t.Fatalf("%+v, %+v", s, b.Status())
	}
}

// TestLinkedIsDurable: who says that it is linked may become the last one that serves.
func TestLinkedIsDurable(t *testing.T) {
	a, b := newPlace(t, "a", 2, entry(1, 1), entry(1, 2)), newPlace(t, "b", 0)
	members := append(serving("a"), chain.Member{Replica: named("b"), State: chain.Joining})
	a.configure(2, members...)
	b.configure(2, members...)
	pass(nil, a, b)
	if s := b.Status(); s.Last != 2 || s.Linked {
		t.Fatalf("%+v", s)
	}
	b.sync()
	if !b.Status().Linked {
		t.Fatalf("%+v", b.Status())
	}
}

// TestFloorIsReached: the floor of a tail whose log was cut.
func TestFloorIsReached(t *testing.T) {
	a, b := newPlace(t, "a", 0, entry(1, 1)), newPlace(t, "b", 0, entry(1, 1), entry(1, 2), entry(1, 3))
	a.configure(2, serving("a", "b")...)
	b.configure(2, serving("a", "b")...)
	pass(nil, a, b)
	b.lease(0, time.Second)
	b.do(b.Read(b.now, replica.Read{Token: 7, Key: []byte("k")}))
	if len(b.reads) != 1 || b.reads[0].Err != nil || b.reads[0].Applied != 1 {
		t.Fatalf("%v, %+v", b.reads, b.Status())
	}
}

// TestLost: each message of a write in turn is lost, and everything comes right nevertheless.
func TestLost(t *testing.T) {
	for n := range 16 {
		a, b := newPlace(t, "a", 0), newPlace(t, "b", 0)
		a.configure(1, serving("a", "b")...)
		b.configure(1, serving("a", "b")...)
		count := 0
		lost := func(*replica.Message) bool { count++; return count == n+1 }
		pass(lost, a, b)
		a.put()
		for range 4 {
			pass(lost, a, b)
			a.sync()
			pass(lost, a, b)
			b.sync()
			pass(lost, a, b)
			a.later()
			b.later()
		}
		if a.Status().Committed != 1 || b.Status().Committed != 1 || len(a.replies) != 1 {
			t.Fatalf("message %d lost: %+v, %+v, %v", n, a.Status(), b.Status(), a.replies)
		}
	}
}

// TestDirtyRead: a dirty key's read asks the tail; bounded ones of enough age need not.
func TestDirtyRead(t *testing.T) {
	a, b := newPlace(t, "a", 0), newPlace(t, "b", 0)
	a.configure(1, serving("a", "b")...)
	b.configure(1, serving("a", "b")...)
	pass(nil, a, b)
	a.lease(300*time.Millisecond, time.Second)
	b.lease(0, time.Second)
	a.put()
	pass(nil, a, b)
	key := []byte("k")
	aged := func(age time.Duration) replica.Read {
		return replica.Read{Key: key, Consistency: chain.Bounded, Bound: chain.Bound{Age: age}}
	}
	for _, c := range []struct {
		read replica.Read
		now  bool
	}{
		{replica.Read{Key: key}, false},
		{replica.Read{Key: []byte("other")}, true},
		{replica.Read{Key: key, Consistency: chain.Eventual}, true},
		{aged(time.Minute), true},
		{aged(time.Millisecond), false}, // less than the lease's age: as a strong one
		{replica.Read{Key: key, Consistency: chain.Bounded, Bound: chain.Bound{Versions: 1}}, true},
	} {
		if _, ok := a.CanRead(a.now, c.read); ok != c.now {
			t.Errorf("%+v: at once %v", c.read, ok)
		}
	}
	a.do(a.Read(a.now, aged(time.Millisecond)))
	pass(nil, a, b)
	if len(a.reads) != 1 || a.reads[0].Err != nil {
		t.Fatalf("%v", a.reads)
	}
}

// TestWithoutLease: nothing but eventual reads.
func TestWithoutLease(t *testing.T) {
	a := newPlace(t, "a", 0)
	a.configure(1, serving("a")...)
	a.lease(2*time.Second, 0)
	a.do(a.Read(a.now, replica.Read{Key: []byte("k")}))
	a.do(a.Read(a.now, replica.Read{Key: []byte("k"), Consistency: chain.Eventual}))
	if len(a.reads) != 2 || !errors.Is(a.reads[0].Err, chain.ErrNotServing) || a.reads[1].Err != nil {
		t.Fatalf("%v", a.reads)
	}
}

// TestWindow: who is far behind is not sent everything at once, and gets a copy if the log does not reach back.
func TestWindow(t *testing.T) {
	var log []chain.Entry
	for n := range uint64(50) {
		log = append(log, entry(1, n+1))
	}
	a, b := newPlace(t, "a", 50, log...), newPlace(t, "b", 0)
	members := append(serving("a"), chain.Member{Replica: named("b"), State: chain.Syncing})
	a.configure(2, members...)
	b.configure(2, members...)
	for _, m := range b.take() {
		a.do(a.Receive(a.now, &m))
	}
	if n := len(a.sent); n > 10 {
		t.Fatalf("%d messages at once", n)
	}
	pass(nil, a, b)
	if b.Status().Last != 50 || b.Status().Committed != 50 {
		t.Fatalf("%+v", b.Status())
	}
	a.disk.first, a.disk.log = 30, a.disk.log[29:]
	c := newPlace(t, "c", 0)
	members[1].Replica = named("c")
	a.configure(3, members...)
	c.configure(3, members...)
	pass(nil, a, c)
	if len(a.copies) != 1 || a.copies[0].To != named("c") {
		t.Fatalf("copies %v", a.copies)
	}
}

// TestEpochs: what is of another epoch changes nothing.
func TestEpochs(t *testing.T) {
	a, b := newPlace(t, "a", 0), newPlace(t, "b", 0)
	a.configure(1, serving("a", "b")...)
	b.configure(2, serving("a", "b")...)
	m := replica.Message{Kind: replica.KindAppend, Chain: 1, Epoch: 1, From: named("a"), To: named("b"), Entries: []chain.Entry{entry(1, 1)}, Committed: 1, Durable: 1}
	b.take()
	b.do(b.Receive(b.now, &m))
	if sent := b.take(); b.Status().Last != 0 || len(sent) != 1 || sent[0].Kind != replica.KindRefused || sent[0].Epoch != 2 {
		t.Fatalf("%+v, %v", b.Status(), sent)
	}
}
