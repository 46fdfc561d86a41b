package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/keeper"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/replica"
	"orrery/fabric/table/memory"
)

// replicas do at once what a config says.
type replicas struct {
	self  chain.Replica
	begun time.Time

	mu     sync.Mutex
	chains map[chain.ID]chain.Config
	leases map[chain.ID]replica.Lease
}

func (r *replicas) Now() replica.Instant { return time.Since(r.begun) }

func (r *replicas) Reports() []placement.Replica {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []placement.Replica
	for id, c := range r.chains {
		s := placement.Replica{Status: replica.Status{Chain: id, Self: r.self}}
		for _, m := range c.Members {
			if m.Replica == r.self {
				s.Epoch, s.State, s.Linked = c.Epoch, m.State, true
			}
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b placement.Replica) int { return int(a.Chain) - int(b.Chain) })
	return all
}

func (r *replicas) SetMap(m chain.Map) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range m.Chains {
		_, has := r.chains[c.ID]
		if has || slices.ContainsFunc(c.Members, func(m chain.Member) bool { return m.Replica == r.self }) {
			r.chains[c.ID] = c
		}
	}
	return nil
}

func (r *replicas) Lease(id chain.ID, l replica.Lease) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leases[id] = l
}

func (r *replicas) Drop(id chain.ID) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.chains, id)
	return nil
}

func (r *replicas) Part(from chain.ID, s placement.Split) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.chains[s.Child]; !ok && r.chains[from].Epoch >= s.Epoch {
		r.chains[s.Child] = chain.Config{ID: s.Child}
	}
}

func (r *replicas) leased(id chain.ID) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.Now() < r.leases[id].Until
}

// cluster is some nodes with one table.
type cluster struct {
	t       *testing.T
	table   *flaky
	leader  atomic.Int32
	mu      sync.Mutex // of what members holds
	members []*member
	work    sync.WaitGroup
}

type member struct {
	*replicas
	keeper   *keeper.Keeper
	stop     context.CancelFunc
	reporter *keeper.Reporter
}

// flaky is a table that may have lost its majority.
type flaky struct {
	*memory.Table
	lost atomic.Bool
}

func (f *flaky) Get(ctx context.Context, key string) (fabric.Entry, error) {
	if f.lost.Load() {
		<-ctx.Done()
		return fabric.Entry{}, fabric.ErrNoQuorum
	}
	return f.Table.Get(ctx, key)
}

func begin(t *testing.T, nodes int) *cluster {
	t.Helper()
	c := &cluster{t: t, table: &flaky{Table: memory.New()}}
	for i := range nodes {
		c.mu.Lock()
		c.members = append(c.members, nil)
		c.mu.Unlock()
		c.start(i, 1)
	}
	t.Cleanup(func() {
		for _, m := range c.members {
			m.stop()
		}
		c.work.Wait()
		_ = c.table.Close()
	})
	return c
}

// start starts a node; what it had on its disk is there again.
func (c *cluster) start(i int, incarnation uint64) {
	id := fabric.NodeID(fmt.Sprintf("n%d", i))
	m := &member{replicas: &replicas{self: chain.Replica{Node: id, Incarnation: incarnation}, begun: time.Now(), chains: map[chain.ID]chain.Config{}, leases: map[chain.ID]replica.Lease{}}}
	if old := c.members[i]; old != nil {
		for id := range old.chains {
			m.chains[id] = chain.Config{ID: id}
		}
	}
	m.keeper = keeper.New(keeper.Config{Self: id, Table: c.table, Leads: func() bool { return c.leader.Load() == int32(i) }, Placement: placement.Config{Grace: 10 * time.Second}})
	m.reporter = keeper.NewReporter(keeper.ReporterConfig{
		Self: m.self, Table: c.table, Replicas: m.replicas,
		Send: func(ctx context.Context, r *placement.Report) (*placement.Grant, error) {
			return c.now().Report(ctx, r)
		},
		Free:      func() (uint64, error) { return 1 << 40, nil },
		Addresses: func() map[fabric.NodeID]string { return nil },
	})
	ctx, stop := context.WithCancel(context.Background())
	m.stop = stop
	c.mu.Lock()
	c.members[i] = m
	c.mu.Unlock()
	c.work.Go(func() { _ = m.keeper.Run(ctx) })
	c.work.Go(func() {
		if err := m.reporter.Run(ctx); err != nil {
			c.t.Errorf("reporter of %s: %v", id, err)
		}
	})
}

// pass lets time pass in the bubble.
func pass(d time.Duration) { <-time.After(d) }

func (c *cluster) now() *keeper.Keeper {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.members[c.leader.Load()].keeper
}

func (c *cluster) create() {
	c.t.Helper()
	pass(time.Second)
	b := placement.Bucket{Name: "b", Factor: 3, Durability: placement.Synced, Splits: [][]byte{[]byte("m")}}
	if err := c.now().CreateBucket(c.t.Context(), b); err != nil {
		c.t.Fatal(err)
	}
}

// until waits for something, and says how long it took.
func (c *cluster) until(limit time.Duration, what string, is func() bool) time.Duration {
	c.t.Helper()
	begun := time.Now()
	for time.Since(begun) < limit {
		if is() {
			return time.Since(begun)
		}
		pass(10 * time.Millisecond)
	}
	c.t.Fatalf("not within %v: %s; %+v", limit, what, c.records())
	return limit
}

func (c *cluster) records() []placement.Chain {
	entries, err := c.table.List(c.t.Context(), placement.ChainPrefix)
	if err != nil {
		c.t.Fatal(err)
	}
	var all []placement.Chain
	for _, e := range entries {
		record, err := placement.DecodeChain(e.Value)
		if err != nil {
			c.t.Fatal(err)
		}
		all = append(all, record)
	}
	return all
}

// serve says whether both chains have three replicas that serve and have a lease.
func (c *cluster) serve() bool {
	all := c.records()
	for _, r := range all {
		if len(r.Members) != 3 || len(r.Serving()) != 3 {
			return false
		}
		for _, m := range c.members {
			if r.On(m.self.Node) >= 0 && !m.leased(r.ID) {
				return false
			}
		}
	}
	return len(all) == 2
}

func TestBucketServesSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, 3)
		c.create()
		c.until(time.Second, "all serve with a lease", c.serve)
		if err := c.now().CreateBucket(t.Context(), placement.Bucket{Name: "b", Factor: 1, Durability: placement.Synced}); !errors.Is(err, fabric.ErrConflict) {
			t.Errorf("a second bucket of the name: %v", err)
		}
		o, err := c.now().Overview(t.Context())
		if err != nil || len(o.Chains) != 2 || len(o.Nodes) != 3 || o.Keeper != "n0" || o.Chains[0].Waits != "" {
			t.Errorf("%+v, %v", o, err)
		}
		if err := c.now().Split(t.Context(), o.Chains[0].ID, []byte("c")); err != nil {
			t.Fatal(err)
		}
		c.until(time.Second, "there are three chains", func() bool {
			all := c.records()
			return len(all) == 3 && len(all[2].Serving()) == 3 && all[0].Split == nil && string(all[2].Range.Start) == "c"
		})
		if err := c.now().Split(t.Context(), o.Chains[0].ID, []byte("x")); err == nil {
			t.Error("split at a key that is not in the chain")
		}
		if err := c.now().DeleteBucket(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
		c.until(3*time.Second, "all is gone", func() bool {
			for _, m := range c.members {
				if len(m.Reports()) > 0 {
					return false
				}
			}
			return len(c.records()) == 0
		})
	})
}

// A node that dies is removed when its lease is over, and another one takes its place when it has not returned for a while; one that restarts is back at once.
func TestDeath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, 4)
		c.create()
		c.until(time.Second, "all serve", c.serve)
		is := func(i int) func() bool {
			return func() bool {
				return slices.ContainsFunc(c.records(), func(r placement.Chain) bool { return r.On(c.members[i].self.Node) >= 0 })
			}
		}
		victim := 3
		c.members[victim].stop()
		removed := c.until(3*time.Second, "it is removed", func() bool { return !is(victim)() })
		if removed < 1900*time.Millisecond || removed > 2300*time.Millisecond {
			t.Errorf("removed after %v", removed)
		}
		if took := c.until(20*time.Second, "another one has its place", c.serve); took < 9*time.Second {
			t.Errorf("replaced after %v", took)
		}
		c.members[1].stop()
		c.start(1, 2)
		if took := c.until(5*time.Second, "the restarted one serves", c.serve); took > time.Second {
			t.Errorf("a node that restarted was back after %v", took)
		}
	})
}

// When another node leads the table no replica is without a lease for a moment, and the one before keeps nothing any more.
func TestAnotherKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, 3)
		c.create()
		c.until(time.Second, "all serve", c.serve)
		old := c.now()
		c.leader.Store(1)
		for range 400 {
			pass(10 * time.Millisecond)
			if !c.serve() {
				t.Fatal("a replica has no lease, or is no member")
			}
		}
		if err := old.DeleteBucket(t.Context(), "b"); !errors.Is(err, keeper.ErrNotKeeper) {
			t.Errorf("the one before deletes a bucket: %v", err)
		}
		for _, r := range c.records() {
			if r.Keeper != 2 || r.Epoch != 1 {
				t.Errorf("%+v", r)
			}
		}
	})
}

// Without a majority of the table there are no leases, and nobody is removed; afterwards all goes on.
func TestNoMajority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := begin(t, 3)
		c.create()
		c.until(time.Second, "all serve", c.serve)
		c.table.lost.Store(true)
		pass(10 * time.Second)
		for _, m := range c.members {
			for _, r := range c.records() {
				if m.leased(r.ID) || r.Epoch != 1 {
					t.Fatalf("a lease without a majority, or %+v", r)
				}
			}
		}
		c.table.lost.Store(false)
		c.until(10*time.Second, "all serve", c.serve)
	})
}
