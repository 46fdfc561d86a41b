package table

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"orrery/fabric"
	"orrery/fabric/table/disk"
)

// network carries messages between the tables of one test, loses some, and can be cut.
type network struct {
	mu     sync.Mutex
	tables map[fabric.NodeID]*Table
	cut    map[fabric.NodeID]bool // reaches nobody
	loss   float64
	delay  time.Duration // at most, of each message by itself
	random *rand.Rand
	filter func(from, to fabric.NodeID, message []byte) bool // nil: passes everything
}

func newNetwork(seed uint64) *network {
	return &network{
		tables: map[fabric.NodeID]*Table{},
		cut:    map[fabric.NodeID]bool{},
		random: rand.New(rand.NewPCG(seed, 1)),
	}
}

// port is one node's Transport.
type port struct {
	*network
	from fabric.NodeID
}

func (p port) Send(to fabric.NodeID, message []byte) {
	p.mu.Lock()
	lost := p.cut[p.from] || p.cut[to] || p.random.Float64() < p.loss
	lost = lost || (p.filter != nil && !p.filter(p.from, to, message))
	delay := time.Duration(p.random.Float64() * float64(p.delay))
	p.mu.Unlock()
	switch {
	case lost:
	case delay > 0:
		time.AfterFunc(delay, func() { p.deliver(to, message) })
	default:
		p.deliver(to, message)
	}
}

func (p port) deliver(to fabric.NodeID, message []byte) {
	p.mu.Lock()
	table, cut := p.tables[to], p.cut[p.from] || p.cut[to]
	p.mu.Unlock()
	if table != nil && !cut {
		// Messages to a node that is being closed are lost like others.
		_ = table.Receive(p.from, message)
	}
}

func (n *network) isolate(id fabric.NodeID, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[id] = cut
}

func (n *network) heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cut)
	n.loss, n.filter = 0, nil
}

func (n *network) plug(id fabric.NodeID, table *Table) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.tables[id] = table
}

// cluster is a table on several nodes in one process, each with a disk that can forget what was not synced.
type cluster struct {
	*testing.T
	*network
	disks map[fabric.NodeID]*vfs.MemFS
	ids   []fabric.NodeID
}

const testTick = 10 * time.Millisecond

func id(i int) fabric.NodeID {
	return fabric.NodeID(fmt.Sprintf("%016x", 0xa1b2c3d4e5f60000+uint64(i)))
}

// simulate runs a test of a table of n nodes, all of which have joined. Disks and network are in memory and the clock
// is that of testing/synctest: it stands still while anybody computes, so that a busy machine changes nothing.
func simulate(t *testing.T, n int, test func(*cluster)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, n)
		if n > 2 {
			c.settled(n, 0)
		}
		test(c)
	})
}

// newCluster starts a table of n nodes, all of which have joined.
func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	c := &cluster{T: t, network: newNetwork(1), disks: map[fabric.NodeID]*vfs.MemFS{}}
	t.Cleanup(func() {
		for _, id := range c.ids {
			c.stop(id)
		}
	})
	for i := range n {
		c.join(id(i))
	}
	return c
}

func (c *cluster) config(id fabric.NodeID) Config {
	return Config{Self: id, Transport: port{c.network, id}, Tick: testTick}.withDefaults()
}

// join starts a new node and adds it; the first one creates the table.
func (c *cluster) join(id fabric.NodeID) {
	c.Helper()
	c.disks[id] = vfs.NewCrashableMem()
	first := len(c.ids) == 0
	c.ids = append(c.ids, id)
	if first {
		c.create(id)
		c.start(id)
		return
	}
	c.start(id)
	if err := c.table(c.ids[0]).Add(c.within(), id, "address of "+string(id)); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) create(id fabric.NodeID) {
	c.Helper()
	if err := createOn(c.config(id), "address of "+string(id), disk.Config{Directory: "table", FS: c.disks[id]}); err != nil {
		c.Fatal(err)
	}
}

func (c *cluster) start(id fabric.NodeID) {
	c.Helper()
	c.startOn(id, c.disks[id])
}

func (c *cluster) startOn(id fabric.NodeID, fs vfs.FS) *Table {
	c.Helper()
	table, err := open(c.config(id), disk.Config{Directory: "table", FS: fs})
	if err != nil {
		c.Fatal(err)
	}
	c.plug(id, table)
	return table
}

func (c *cluster) table(id fabric.NodeID) *Table {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tables[id]
}

func (c *cluster) stop(id fabric.NodeID) {
	if table := c.table(id); table != nil {
		c.plug(id, nil)
		if err := table.Close(); err != nil {
			c.Errorf("close %s: %v", id, err)
		}
	}
}

// crash stops a node as if its machine lost power: what was not synced is gone, or a part of it.
func (c *cluster) crash(id fabric.NodeID) {
	table := c.table(id)
	c.plug(id, nil)
	// What it promises after this moment must reach nobody: its disk will not know of it.
	c.isolate(id, true)
	c.mu.Lock()
	seed := c.random.Uint64()
	c.mu.Unlock()
	after := c.disks[id].CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: int(seed % 101), RNG: rand.New(rand.NewPCG(seed, 2))})
	if err := table.Close(); err != nil {
		c.Errorf("close %s: %v", id, err)
	}
	c.disks[id] = after
	c.isolate(id, false)
}

func (c *cluster) within() context.Context {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.Context(), 30*time.Second)
	c.Cleanup(cancel)
	return ctx
}

// until waits for a condition.
func (c *cluster) until(what string, met func() bool) {
	c.Helper()
	for ctx := c.within(); !met(); {
		select {
		case <-ctx.Done():
			for _, id := range c.ids {
				if table := c.table(id); table != nil {
					c.Logf("%+v", table.Status())
				}
			}
			c.Fatalf("%s: waited in vain", what)
		case <-time.After(testTick):
		}
	}
}

// settled waits until the table has this number of voters and learners and a leader, in the eyes of all running nodes.
func (c *cluster) settled(voters, learners int) {
	c.Helper()
	c.until(fmt.Sprintf("%d voters and %d learners", voters, learners), func() bool {
		var leaders []fabric.NodeID
		for _, id := range c.ids {
			table := c.table(id)
			if table == nil {
				continue
			}
			s := table.Status()
			if len(s.Voters) != voters || len(s.Learners) != learners || s.Leader == "" {
				return false
			}
			leaders = append(leaders, s.Leader)
		}
		return len(slices.Compact(leaders)) == 1
	})
}

// leader waits for a leader that those who are connected agree on, and returns it.
func (c *cluster) leader() fabric.NodeID {
	c.Helper()
	var leader fabric.NodeID
	c.until("leader", func() bool {
		for _, id := range c.ids {
			table := c.table(id)
			c.mu.Lock()
			cut := c.cut[id]
			c.mu.Unlock()
			if table != nil && !cut && table.Status().Leader == id {
				leader = id
				return true
			}
		}
		return false
	})
	return leader
}

func (c *cluster) put(on fabric.NodeID, key, value string) uint64 {
	c.Helper()
	revision, err := c.table(on).Put(c.within(), key, []byte(value))
	if err != nil {
		c.Fatalf("Put(%s) on %s: %v", key, on, err)
	}
	return revision
}

func (c *cluster) want(on fabric.NodeID, key, value string) {
	c.Helper()
	e, err := c.table(on).Get(c.within(), key)
	if err != nil || string(e.Value) != value {
		c.Fatalf("Get(%s) on %s = %q, %v; want %q", key, on, e.Value, err, value)
	}
}
