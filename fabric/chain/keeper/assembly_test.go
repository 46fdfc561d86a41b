package keeper_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/chain"
	"orrery/fabric/chain/disk"
	"orrery/fabric/chain/keeper"
	"orrery/fabric/chain/node"
	"orrery/fabric/chain/placement"
	"orrery/fabric/chain/wire"
	"orrery/fabric/client"
	"orrery/fabric/rpc"
	"orrery/fabric/table/memory"
	"orrery/internal/clock"
	"orrery/internal/fault"
	"orrery/internal/testenv"
)

// assembly is nodes as a program assembles them, with real connections and disks, and one table.
type assembly struct {
	t      *testing.T
	times  placement.Config
	table  *memory.Table
	leader atomic.Int32
	nodes  []*assembled

	mu        sync.Mutex
	addresses map[fabric.NodeID]string
	peers     map[fabric.NodeID]*rpc.Peer
}

// assembled is one of them.
type assembled struct {
	all       *assembly
	index     int32
	authority *authority.Authority
	directory string
	birth     uint64 // incarnation
	replicas  *node.Node
	keeper    *keeper.Keeper
	anywhere  *keeper.Anywhere
	stop      func()
}

// brief has times for tests in which nodes are lost. With patient ones no node is, however busy the machine: what fails says so.
var (
	brief   = placement.Config{Lease: 600 * time.Millisecond, Grace: 2 * time.Second, Stall: time.Second, Reserve: 1}
	patient = placement.Config{Lease: time.Minute, Grace: time.Minute, Stall: time.Minute, Reserve: 1}
)

func assemble(t *testing.T, count int) *assembly {
	t.Helper()
	return assembleWith(t, count, brief)
}

func assembleWith(t *testing.T, count int, times placement.Config) *assembly {
	t.Helper()
	a := &assembly{t: t, times: times, table: memory.New(), addresses: map[fabric.NodeID]string{}, peers: map[fabric.NodeID]*rpc.Peer{}}
	cluster := authoritytest.NewCluster(t, "node-0")
	for i := range count {
		holder := cluster.First
		if i > 0 {
			holder = cluster.Admit(t, fmt.Sprint("node-", i), fabric.RoleNode)
		}
		n := &assembled{all: a, index: int32(i), authority: holder, directory: filepath.Join(t.TempDir(), "chains")} //nolint:gosec // small
		a.nodes = append(a.nodes, n)
	}
	for _, n := range a.nodes {
		n.start()
	}
	t.Cleanup(func() {
		for _, n := range a.nodes {
			n.end()
		}
		_ = a.table.Close()
	})
	return a
}

func (n *assembled) id() fabric.NodeID { return n.authority.Identity().ID }

func (a *assembly) address(id fabric.NodeID) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.addresses[id]
}

func (a *assembly) all() map[fabric.NodeID]string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return maps.Clone(a.addresses)
}

// start starts the node, in a new incarnation.
func (n *assembled) start() {
	t := n.all.t
	t.Helper()
	n.birth++
	database, err := disk.Open(disk.Config{Directory: n.directory, KeepEntries: 200, KeepBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	self := chain.Replica{Node: n.id(), Incarnation: n.birth}
	var reporter *keeper.Reporter
	replicas, err := node.Open(node.Config{
		CatchUp: func(ctx context.Context) error { return reporter.CatchUp(ctx) },
		Self:    self, Disk: database, Tick: 10 * time.Millisecond, ResendAfter: 100 * time.Millisecond,
		Dial: func(ctx context.Context, id fabric.NodeID) (net.Conn, error) {
			return rpc.DialNode(ctx, n.authority, n.all.address(id), id, wire.Protocol)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	n.replicas = replicas
	known := append(rpc.FabricErrors(), keeper.Errors()...)
	n.keeper = keeper.New(keeper.Config{Self: n.id(), Table: n.all.table, Leads: func() bool { return n.all.leader.Load() == n.index }, Placement: n.all.times, Tick: 10 * time.Millisecond})
	connections := rpc.NewClient(rpc.ClientConfig{Authority: n.authority, Errors: known, Lookup: n.all.lookup})
	n.anywhere = &keeper.Anywhere{
		Self: n.id(), Local: n.keeper, Leader: func() fabric.NodeID { return n.all.nodes[n.all.leader.Load()].id() },
		Peer: connections.Node,
	}
	reporter = keeper.NewReporter(keeper.ReporterConfig{
		Self: self, Table: n.all.table, Replicas: replicas, Send: n.anywhere.Report, Every: 100 * time.Millisecond, Look: 5 * time.Millisecond,
		Free: func() (uint64, error) { return 1 << 40, nil }, Addresses: n.all.all,
	})
	mux := rpc.NewMux(known, nil)
	mux.HandleConn(wire.Protocol, fabric.RoleViewer, replicas.Serve, replicas.Refused)
	keeper.Offer(mux, n.keeper, n.anywhere)
	listen := n.all.address(n.id())
	if listen == "" {
		listen = "127.0.0.1:0"
	}
	server, err := rpc.Listen(t.Context(), rpc.Config{Authority: n.authority, Listen: listen}, mux)
	if err != nil {
		t.Fatal(err)
	}
	n.all.mu.Lock()
	n.all.addresses[n.id()] = server.Addr()
	n.all.mu.Unlock()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var work, reporting sync.WaitGroup
	work.Go(func() { _ = server.Run(ctx) })
	work.Go(func() { _ = n.keeper.Run(ctx) })
	reporting.Go(func() { _ = reporter.Run(ctx) })
	n.stop = func() {
		cancel()
		reporting.Wait() // it looks at the replicas
		if err := replicas.Close(); err != nil {
			t.Error(err)
		}
		work.Wait()
		connections.Close()
	}
}

func (a *assembly) lookup(_ context.Context, id fabric.NodeID) (string, error) {
	return a.address(id), nil
}

func (n *assembled) end() {
	if n.stop != nil {
		n.stop()
		n.stop = nil
	}
}

func (a *assembly) keeper() *keeper.Anywhere { return a.nodes[a.leader.Load()].anywhere }

// whole waits until there are so many chains, each with so many serving replicas.
func (a *assembly) whole(chains, factor int) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	var last *placement.Overview
	for {
		o, err := a.keeper().Overview(ctx)
		good := err == nil && len(o.Chains) == chains
		if err == nil {
			last = o
			for _, c := range o.Chains {
				good = good && len(c.Members) == factor && len(c.Serving()) == factor && c.Move == nil && c.Split == nil
			}
		}
		if good {
			return
		}
		if !clock.Wait(ctx, 10*time.Millisecond) {
			a.show(last)
			a.t.Fatalf("not whole: %v", err)
		}
	}
}

// show logs how chains are.
func (a *assembly) show(o *placement.Overview) {
	a.t.Helper()
	if o == nil {
		return
	}
	for _, c := range o.Chains {
		a.t.Logf("chain %d, epoch %d: %s; waits: %s", c.ID, c.Epoch, c.Reason, c.Waits)
		for _, m := range c.Members {
			a.t.Logf("  %+v %s %+v", m.Member, m.Gone, m.Status)
		}
	}
}

// writers write to many keys and remember what was acknowledged.
type writers struct {
	c     *client.Client
	b     *client.Bucket
	stop  context.CancelFunc
	work  sync.WaitGroup
	mu    sync.Mutex
	acked map[string]uint64
	count atomic.Int64
}

func (a *assembly) write(count int) *writers {
	a.t.Helper()
	w := &writers{acked: map[string]uint64{}}
	var ctx context.Context
	ctx, w.stop = context.WithCancel(a.t.Context())
	config := client.Config{Authority: a.nodes[0].authority}
	for _, n := range a.nodes {
		config.Nodes = append(config.Nodes, a.address(n.id()))
	}
	c, err := client.Open(a.t.Context(), config)
	if err != nil {
		a.t.Fatal(err)
	}
	a.t.Cleanup(func() { w.stop(); w.work.Wait(); _ = c.Close() })
	w.c, w.b = c, c.Bucket("b")
	for i := range count {
		w.work.Go(func() {
			for n := uint64(0); ctx.Err() == nil; n++ {
				key := fmt.Sprintf("%c%d", 'a'+n%26, i)
				call, cancel := context.WithTimeout(ctx, time.Minute)
				v, err := w.b.Put(call, []byte(key), []byte(fmt.Sprint(n)))
				cancel()
				if err == nil {
					w.mu.Lock()
					w.acked[key] = v
					w.mu.Unlock()
					w.count.Add(1)
				} else if ctx.Err() == nil && !errors.Is(err, chain.ErrUnknown) {
					a.t.Errorf("write: %v", err)
				}
			}
		})
	}
	return w
}

// more waits until n more writes were acknowledged.
func (w *writers) more(t *testing.T, n int64) {
	t.Helper()
	begun := w.count.Load()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for w.count.Load() < begun+n {
		select {
		case <-ctx.Done():
			t.Fatalf("%d writes were acknowledged, not %d", w.count.Load()-begun, n)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// check stops the writers and reads all that was acknowledged.
func (w *writers) check(t *testing.T) {
	t.Helper()
	w.stop()
	w.work.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for key, version := range w.acked {
		v, err := w.b.Get(ctx, []byte(key))
		if err != nil || v.Version < version {
			t.Errorf("key %s: version %d was acknowledged, and there is %d (%v)", key, version, v.Version, err)
		}
	}
	if len(w.acked) == 0 {
		t.Error("nothing was written")
	}
}

func (a *assembly) create(splits ...string) {
	a.t.Helper()
	a.createAs(placement.Synced, splits...)
}

func (a *assembly) createAs(durability placement.Durability, splits ...string) {
	a.t.Helper()
	b := placement.Bucket{Name: "b", Factor: 3, Durability: durability}
	for _, s := range splits {
		b.Splits = append(b.Splits, []byte(s))
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	for {
		err := a.keeper().CreateBucket(ctx, b)
		if err == nil {
			break
		}
		if !errors.Is(err, keeper.ErrNotKeeper) || ctx.Err() != nil {
			a.t.Fatal(err)
		}
	}
	a.whole(len(splits)+1, 3)
}

// order has the keeper do something. On a busy machine a chain may have lost a replica just now, and has to be whole first.
func (a *assembly) order(do func(context.Context, *placement.Overview) error) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), time.Minute)
	defer cancel()
	for {
		o, err := a.keeper().Overview(ctx)
		if err == nil {
			err = do(ctx, o)
		}
		if err == nil {
			return
		}
		if !clock.Wait(ctx, 20*time.Millisecond) {
			a.show(o)
			a.t.Fatal(err)
		}
	}
}

// split splits the only chain.
func (a *assembly) split() {
	a.t.Helper()
	a.order(func(ctx context.Context, o *placement.Overview) error {
		if len(o.Chains) > 1 || o.Chains[0].Split != nil {
			return nil // nobody knew whether it was written
		}
		return a.keeper().Split(ctx, o.Chains[0].ID, []byte("m"))
	})
}

func TestAssemblySplits(t *testing.T) {
	a := assemble(t, 3)
	a.create()
	w := a.write(4)
	w.more(t, 50)
	a.split()
	a.whole(2, 3)
	w.more(t, 200)
	w.check(t)
}

func TestAssemblyRestarts(t *testing.T) {
	a := assemble(t, 3)
	a.create("m")
	w := a.write(4)
	for i := range a.nodes {
		w.more(t, 100)
		if a.leader.Load() == int32(i) { //nolint:gosec // small
			a.leader.Store((int32(i) + 1) % 3) //nolint:gosec // small
		}
		a.nodes[i].end()
		w.more(t, 50)
		a.nodes[i].start()
		a.whole(2, 3)
	}
	w.more(t, 100)
	w.check(t)
}

func TestAssemblyMoves(t *testing.T) {
	a := assemble(t, 4)
	a.create()
	w := a.write(4)
	w.more(t, 50)
	for range 4 {
		a.order(func(ctx context.Context, o *placement.Overview) error {
			c := o.Chains[0]
			i := slices.IndexFunc(a.nodes, func(n *assembled) bool { return c.On(n.id()) < 0 })
			if i < 0 {
				return chain.ErrBusy
			}
			return a.keeper().Move(ctx, c.ID, c.Members[0].Node, a.nodes[i].id())
		})
		a.whole(1, 3)
		w.more(t, 50)
	}
	w.check(t)
}

// A replica whose disk is empty gets a copy when the log does not reach back, while writes go on.
func TestAssemblyCopies(t *testing.T) {
	a := assemble(t, 3)
	a.create()
	w := a.write(2)
	w.more(t, 50)
	a.nodes[2].end()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	value := make([]byte, 64<<10)
	for i := range 80 {
		if _, err := w.b.Put(ctx, fmt.Appendf(nil, "large%d", i%8), value); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(a.nodes[2].directory); err != nil {
		t.Fatal(err)
	}
	defer fault.Arm("chain.copy.piece", fault.At(2, func() error { return fault.ErrInjected }))() // it is sent again
	a.nodes[2].start()
	a.whole(1, 3)
	w.more(t, 50)
	// The one with the copy alone has all.
	a.leader.Store(2)
	a.nodes[0].end()
	a.nodes[1].end()
	a.whole(1, 1)
	w.check(t)
	for i := range 8 {
		if v, err := w.b.Get(ctx, fmt.Appendf(nil, "large%d", i)); err != nil || len(v.Value) != len(value) {
			t.Errorf("large value %d: %d bytes, %v", i, len(v.Value), err)
		}
	}
}

// The nodes that had everything are lost. An operator lets the chain begin anew with what another one has of before; those that come back after all,
// with more, take over what the chain has become.
func TestAssemblyRecovers(t *testing.T) {
	a := assemble(t, 3)
	a.create()
	w := a.write(1)
	w.more(t, 20)
	put := func(key, value string) {
		t.Helper()
		if _, err := w.b.Put(t.Context(), []byte(key), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	put("kept", "1")
	w.stop()
	w.work.Wait()
	a.nodes[2].end()
	for i := range 300 { // in the log of the lost ones alone, with the versions that others would get now
		put("lost", fmt.Sprint(i))
	}
	a.nodes[0].end()
	a.nodes[1].end()
	a.leader.Store(2)
	a.nodes[2].start()
	o, err := a.keeper().Overview(t.Context())
	for errors.Is(err, keeper.ErrNotKeeper) {
		o, err = a.keeper().Overview(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	q := placement.RecoverRequest{Chain: o.Chains[0].ID, By: "test"}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for { // until the keeper is sure that they are gone
		_, err = a.keeper().Recover(ctx, q)
		if err == nil || strings.Contains(err.Error(), "may return") || ctx.Err() != nil {
			break
		}
	}
	if err == nil || ctx.Err() != nil {
		t.Fatalf("nodes that may return were given up: %v", err)
	}
	q.Force = true
	r, err := a.keeper().Recover(ctx, q)
	if err != nil || r.Node != a.nodes[2].id() || len(r.Waits) != 2 {
		t.Fatalf("%+v, %v", r, err)
	}
	a.whole(1, 1)
	if v, err := w.b.Get(ctx, []byte("kept")); err != nil || string(v.Value) != "1" {
		t.Errorf("%+v, %v", v, err)
	}
	if v, err := w.b.Get(ctx, []byte("lost")); !errors.Is(err, fabric.ErrNotFound) {
		t.Errorf("%+v, %v", v, err)
	}
	put("new", "1")
	a.nodes[0].start()
	a.nodes[1].start()
	a.whole(1, 3)
	put("new", "2")
	a.leader.Store(0)
	a.nodes[2].end()
	a.whole(1, 2)
	for key, value := range map[string]string{"kept": "1", "new": "2"} {
		if v, err := w.b.Get(ctx, []byte(key)); err != nil || string(v.Value) != value {
			t.Errorf("%s: %+v, %v", key, v, err)
		}
	}
	if v, err := w.b.Get(ctx, []byte("lost")); !errors.Is(err, fabric.ErrNotFound) {
		t.Errorf("%+v, %v", v, err)
	}
}

// Nodes with an unsynced chain that are shut down in order lose nothing, whichever of them returns first, and alone.
func TestAssemblyLeavesInOrder(t *testing.T) {
	a := assemble(t, 3)
	a.createAs(placement.Replicated)
	w := a.write(4)
	w.more(t, 100)
	w.stop()
	w.work.Wait()
	for _, n := range a.nodes {
		n.end()
	}
	a.leader.Store(1)
	a.nodes[1].start()
	a.whole(1, 1)
	w.check(t)
	o, err := a.keeper().Overview(t.Context())
	if err != nil || !o.Chains[0].Unsynced || o.Chains[0].Recovery != nil {
		t.Errorf("%+v, %v", o, err)
	}
	a.nodes[0].start()
	a.nodes[2].start()
	a.whole(1, 3)
}

// restart starts a node anew: what a fault point did to its replicas is over.
func (a *assembly) restart(n *assembled) {
	a.t.Helper()
	if a.leader.Load() == n.index {
		a.leader.Store((n.index + 1) % int32(len(a.nodes))) //nolint:gosec // small
	}
	n.end()
	n.start()
}

// failed waits for a replica that says that it has failed, and for its chain to go on without it, and returns its node.
func (a *assembly) failed() *assembled {
	a.t.Helper()
	var failed *assembled
	var o *placement.Overview
	defer func() {
		if failed == nil {
			a.show(o)
		}
	}()
	testenv.Eventually(a.t, "a replica to fail and leave its chain", func() bool {
		var err error
		o, err = a.keeper().Overview(a.t.Context())
		if err != nil {
			return false
		}
		for _, n := range a.nodes {
			for _, r := range n.replicas.Reports() {
				i := slices.IndexFunc(o.Chains, func(c placement.ChainView) bool { return c.ID == r.Chain })
				if r.Failed != "" && i >= 0 && o.Chains[i].On(n.id()) < 0 {
					failed = n
				}
			}
		}
		return failed != nil
	})
	return failed
}

// A step of a replica fails, on one node, while writes go on: the replica leaves its chain and says why, the others go on, and after a restart all is whole.
func TestAssemblyStepsFail(t *testing.T) {
	for _, point := range []string{"chain.sync", "chain.synced", "chain.send"} {
		t.Run(point, func(t *testing.T) {
			a := assembleWith(t, 3, patient)
			a.create()
			w := a.write(2)
			w.more(t, 20)
			defer fault.Arm(point, fault.At(10, func() error { return fault.ErrInjected }))()
			n := a.failed()
			w.more(t, 20)
			a.restart(n)
			a.whole(1, 3)
			w.check(t)
		})
	}
}

// A step of a split fails, or the keeper does not hear that it was written: there are two whole chains in the end.
func TestAssemblySplitFails(t *testing.T) {
	for _, point := range []string{"chain.part", "chain.parted", "disk.part.copied", "keeper.write", "keeper.written"} {
		t.Run(point, func(t *testing.T) {
			a := assembleWith(t, 3, patient)
			a.create()
			w := a.write(2)
			w.more(t, 20)
			keeps := strings.HasPrefix(point, "keeper.")
			hit := make(chan bool, 1)
			nth := map[bool]int64{true: 2, false: 1}[keeps] // the first write is the operator's
			defer fault.Arm(point, fault.At(nth, func() error { hit <- true; return fault.ErrInjected }))()
			a.split()
			select {
			case <-hit:
			case <-time.After(time.Minute):
				t.Fatal("the point was not reached")
			}
			if !keeps {
				a.restart(a.failed())
			}
			a.whole(2, 3)
			w.more(t, 50)
			w.check(t)
		})
	}
}

// Of every other command a client is told that nobody knows how it ended: it asks again, and each command is done once.
func TestAssemblyUnknown(t *testing.T) {
	a := assemble(t, 3)
	a.create()
	w := a.write(0)
	var answers atomic.Int64
	defer fault.Arm("chain.reply", func() error {
		if answers.Add(1)%2 == 1 {
			return fault.ErrInjected
		}
		return nil
	})()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	const times = 5
	for i := range int64(times) {
		if n, err := w.b.Increment(ctx, []byte("count"), 1); err != nil || n != i+1 {
			t.Fatalf("%d, %v", n, err)
		}
	}
	if answers.Load() < 2*times {
		t.Errorf("%d answers", answers.Load())
	}
}

// A bucket can be used when it was created, through whichever node, also by a client that asked before.
func TestAssemblyCreates(t *testing.T) {
	a := assemble(t, 3)
	a.create()
	w := a.write(0)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for i, n := range a.nodes {
		name := fmt.Sprint("new-", i)
		if err := n.anywhere.CreateBucket(ctx, placement.Bucket{Name: name, Factor: 2, Durability: placement.Synced, Splits: [][]byte{[]byte("m")}}); err != nil {
			t.Fatal(err)
		}
		o, err := a.keeper().Overview(ctx)
		if err != nil || o.Buckets[i+1].State != placement.Ready {
			t.Fatalf("%+v, %v", o, err)
		}
		b := w.c.Bucket(name)
		for _, key := range []string{"a", "z"} {
			if _, err := b.Put(ctx, []byte(key), nil); err != nil {
				t.Error(err)
			}
		}
	}
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	for _, n := range a.nodes {
		if err := a.keeper().Drain(ctx, n.id(), true); err != nil {
			t.Fatal(err)
		}
	}
	err := a.keeper().CreateBucket(short, placement.Bucket{Name: "nowhere", Factor: 2, Durability: placement.Synced})
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "bucket nowhere is recorded, and cannot be used yet") {
		t.Errorf("%v", err)
	}
}
