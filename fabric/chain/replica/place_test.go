package replica_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/replica"
)

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
