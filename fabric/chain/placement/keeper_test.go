package placement_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
)

var quick = placement.Config{Lease: 2 * time.Second, Grace: 5 * time.Second, Reserve: 1}

// round lets everything that works do what it does in 50 ms.
func (w *world) round(add bool) {
	w.now += 50 * time.Millisecond
	for _, k := range w.keepers {
		k.confirm(w)
		k.step(w)
		for _, at := range k.writes {
			if !at.told && !k.held {
				k.end(w, at, false, false)
			}
		}
		k.writes = slices.DeleteFunc(k.writes, func(at *write) bool { return at.done })
		k.watch(w, len(w.history))
	}
	var current *keeper
	for _, k := range w.keepers {
		if !k.over {
			current = k
		}
	}
	for _, m := range w.nodes {
		if !m.up {
			continue
		}
		if !m.deaf {
			m.watch(w, len(w.history))
		}
		for _, id := range slices.Sorted(maps.Keys(m.replicas)) {
			for range 3 {
				w.replicate(m, id, false)
			}
			w.replicate(m, id, add && !w.idle)
		}
		if current != nil && !m.mute {
			m.report(w, current)
		}
	}
	for _, mail := range w.mail {
		w.deliver(mail)
	}
	w.mail = nil
	w.reads()
}

func (w *world) chains() []placement.Chain {
	var all []placement.Chain
	for _, key := range slices.Sorted(maps.Keys(w.table)) {
		if c, err := placement.DecodeChain(w.table[key].Value); err == nil && placement.ChainKey(c.ID) == key {
			all = append(all, c)
		}
	}
	return all
}

// whole says what is missing until all chains have n serving replicas and nothing is under way.
func (w *world) whole(n int) string {
	if len(w.chains()) == 0 {
		return "no chain"
	}
	for _, c := range w.chains() {
		if len(c.Serving()) != n || len(c.Members) != n || c.Move != nil || c.Split != nil {
			return fmt.Sprintf("chain %d: %+v (%s)", c.ID, c.Members, c.Reason)
		}
	}
	return ""
}

func (w *world) until(t rapid.TB, rounds int, what func() string) {
	t.Helper()
	for range rounds {
		if what() == "" {
			return
		}
		w.round(true)
		if w.fault != "" {
			t.Fatal(w.fault)
		}
	}
	if missing := what(); missing != "" {
		t.Fatalf("after %d rounds: %s\n%s", rounds, missing, w.story(0))
	}
}

func cluster(t rapid.TB, nodes, factor int, splits ...string) (*world, *keeper) {
	t.Helper()
	return clusterOf(t, nodes, factor, placement.Synced, splits...)
}

func clusterOf(t rapid.TB, nodes, factor int, durability placement.Durability, splits ...string) (*world, *keeper) {
	t.Helper()
	w := newWorld(quick, nodes)
	w.lossy = durability == placement.Replicated
	w.begin(w.nodes[0])
	for range 5 {
		w.round(false)
	}
	k := w.keepers[0]
	b := placement.Bucket{Name: "b", Factor: factor, Durability: durability}
	for _, s := range splits {
		b.Splits = append(b.Splits, []byte(s))
	}
	c, err := k.CreateBucket(b)
	if err != nil {
		t.Fatal(err)
	}
	k.order(c, nil)
	w.until(t, 60, func() string { return w.whole(min(factor, nodes)) })
	return w, k
}

func (w *world) node(id fabric.NodeID) *machine {
	return w.nodes[slices.IndexFunc(w.nodes, func(m *machine) bool { return m.id == id })]
}

func TestBucketIsSpread(t *testing.T) {
	w, _ := cluster(t, 6, 3, "g", "n", "t")
	count, heads := map[fabric.NodeID]int{}, map[fabric.NodeID]int{}
	for _, c := range w.chains() {
		zones := map[string]bool{}
		for _, m := range c.Members {
			count[m.Node]++
			zones[w.node(m.Node).zone] = true
		}
		heads[c.Members[0].Node]++
		if len(zones) != 3 || c.Epoch != 1 {
			t.Errorf("chain %d is in zones %v, epoch %d", c.ID, zones, c.Epoch)
		}
	}
	if len(w.chains()) != 4 || len(count) != 6 || len(heads) != 4 {
		t.Errorf("%d chains, replicas on nodes: %v, heads: %v", len(w.chains()), count, heads)
	}
	for id, n := range count {
		if n != 2 {
			t.Errorf("node %s has %d replicas", id, n)
		}
	}
}

// A node that comes back soon has its place again; nobody else got a copy meanwhile.
func TestReturnKeepsThePlace(t *testing.T) {
	for i, role := range []string{"head", "middle", "tail"} {
		t.Run(role, func(t *testing.T) {
			w, _ := cluster(t, 4, 3)
			c := w.chains()[0]
			m := w.node(c.Members[i].Node)
			if m == w.nodes[0] {
				w.begin(w.nodes[1])
			}
			has := m.replicas[c.ID]
			m.up = false
			w.until(t, 100, func() string {
				if got := w.chains()[0]; len(got.Members) != 2 {
					return fmt.Sprintf("members %v", got.Members)
				}
				return ""
			})
			m.start()
			for range 10 { // it asks for a lease before it knows what chains there are
				m.deaf = true
				w.round(true)
			}
			m.deaf = false
			w.until(t, 40, func() string { return w.whole(3) })
			if got := w.chains()[0]; got.On(m.id) != 2 || len(w.acked[c.ID]) == 0 || m.replicas[c.ID] != has {
				t.Errorf("members %v, %s", got.Members, got.Reason)
			}
		})
	}
}

func TestLostNodeIsReplacedAfterGrace(t *testing.T) {
	w, _ := cluster(t, 4, 3)
	m := w.node(w.chains()[0].Members[2].Node)
	if m == w.nodes[0] {
		w.begin(w.nodes[1])
	}
	m.up = false
	w.until(t, 400, func() string { return map[bool]string{true: "it is a member"}[w.chains()[0].On(m.id) >= 0] })
	gone := w.now
	w.until(t, 400, func() string { return w.whole(3) })
	if waited := w.now - gone; waited < quick.Grace*9/10 {
		t.Errorf("another node got its place after %v", waited)
	}
	m.start()
	w.until(t, 40, func() string {
		return map[bool]string{true: "its copy is still there"}[m.replicas[w.chains()[0].ID] != nil]
	})
}

// A keeper that is lost has a short lease, and the next one waits half as long for its node: if it was the keeper for long enough to have no other lease.
func TestLostKeeper(t *testing.T) {
	lose := func(rounds int) time.Duration {
		w, _ := cluster(t, 3, 3)
		for range 60 {
			w.round(true)
		}
		if rounds > 0 { // another keeper, for so long
			w.begin(w.nodes[1])
		}
		for range rounds {
			w.round(true)
		}
		m := w.keepers[len(w.keepers)-1].on
		m.up = false
		w.begin(w.nodes[2])
		begun := w.now
		w.until(t, 100, func() string { return map[bool]string{true: "it is a member"}[w.chains()[0].On(m.id) >= 0] })
		return w.now - begun
	}
	half := quick.Lease * 105 / 200
	if waited := lose(0); waited < half || waited > half+300*time.Millisecond {
		t.Errorf("a keeper's node is removed after %v", waited)
	}
	if waited := lose(60); waited < half || waited > half+300*time.Millisecond {
		t.Errorf("the second keeper's node is removed after %v", waited)
	}
	if waited := lose(10); waited < 2*half {
		t.Errorf("the node of a keeper of half a second, which may have a long lease of the one before, is removed after %v", waited)
	}
}

// What a dead node said long ago keeps nobody alive.
func TestRepeatedReportIsNoLife(t *testing.T) {
	w, k := cluster(t, 3, 3)
	m := w.nodes[1]
	m.report(w, k)
	old := w.mail[0]
	w.round(true)
	m.up = false
	w.until(t, 60, func() string {
		w.deliver(old)
		return map[bool]string{true: "it is a member"}[w.chains()[0].On(m.id) >= 0]
	})
}

// removal lets a keeper decide to remove a node that is silent, but not write it yet.
func removal(t *testing.T) (*world, *keeper, *machine, *write) {
	t.Helper()
	w, k := cluster(t, 3, 3)
	m := w.nodes[1]
	for range 5 {
		w.round(true)
	}
	m.mute, k.held = true, true
	w.until(t, 100, func() string { return map[bool]string{true: "nothing is decided"}[len(k.writes) == 0] })
	m.mute = false
	return w, k, m, k.writes[0]
}

// The write of a keeper that is over may arrive at any time.
func TestLateWriteOfAnOldKeeper(t *testing.T) {
	w, old, m, late := removal(t)
	w.begin(w.nodes[2])
	w.keepers[1].held = true
	for range 20 {
		w.round(true)
	}
	old.end(w, late, false, false)
	w.keepers[1].held = false
	w.until(t, 100, func() string {
		if !m.leased(w, w.chains()[0].ID) {
			return "the node has no lease"
		}
		return w.whole(3)
	})
}

// A write of the keeper's own, of which it was told that the outcome is unknown, may happen when the node that it removes has a lease again.
func TestLateWriteOfItsOwn(t *testing.T) {
	w, k, m, late := removal(t)
	m.report(w, k)
	w.deliver(w.mail[0])
	k.end(w, late, true, true)
	for range 20 {
		w.round(true)
	}
	k.end(w, late, false, false)
	k.held = false
	w.until(t, 100, func() string {
		if !m.leased(w, w.chains()[0].ID) {
			return "the node has no lease"
		}
		return w.whole(3)
	})
}

// When power fails everywhere, whoever comes back first begins, and nothing that was acknowledged is lost.
func TestAllGone(t *testing.T) {
	for first := range 3 {
		w, _ := cluster(t, 3, 3)
		for range 10 {
			w.round(true)
		}
		for _, m := range w.nodes {
			m.up = false
		}
		w.now += 10 * time.Second
		w.nodes[first].start()
		w.begin(w.nodes[first])
		w.until(t, 100, func() string { return w.whole(1) })
		for _, m := range w.nodes {
			if !m.up {
				m.start()
			}
		}
		w.until(t, 100, func() string { return w.whole(3) })
	}
}

// A replica that was alone knows more than those who left before; only it may begin again.
func TestOnlyTheLastServingBegins(t *testing.T) {
	w, _ := cluster(t, 3, 2)
	c := w.chains()[0]
	first, last := w.node(c.Members[0].Node), w.node(c.Members[1].Node)
	for _, m := range w.nodes {
		if m != first && m != last {
			w.begin(m)
		}
	}
	first.up = false
	w.until(t, 100, func() string { return w.whole(1) })
	for range 10 {
		w.round(true)
	}
	last.up = false
	for range 10 {
		w.round(true)
	}
	first.start()
	for range 200 {
		w.round(true)
	}
	if c := w.chains()[0]; c.On(last.id) != 0 || w.fault != "" {
		t.Fatalf("members %v, %s; %s", c.Members, c.Reason, w.fault)
	}
	last.start()
	w.until(t, 100, func() string { return w.whole(2) })
}

func TestMove(t *testing.T) {
	w, k := cluster(t, 4, 3)
	c := w.chains()[0]
	var to fabric.NodeID
	for _, m := range w.nodes {
		if c.On(m.id) < 0 {
			to = m.id
		}
	}
	from := c.Members[1].Node
	change, err := k.Move(k.on.clock(w), c.ID, from, to)
	if err != nil {
		t.Fatal(err)
	}
	k.order(change, nil)
	w.until(t, 100, func() string {
		c := w.chains()[0]
		if c.On(from) >= 0 || c.On(to) < 0 {
			return fmt.Sprint(c.Members)
		}
		return w.whole(3)
	})
	if _, err := k.Move(k.on.clock(w), c.ID, from, to); err == nil {
		t.Error("moved from where it is not")
	}
}

// A chain whose middle does not hear its head goes on without one of them, and has all replicas again in another order.
func TestCut(t *testing.T) {
	for _, way := range []string{"forth", "back", "both"} {
		t.Run(way, func(t *testing.T) {
			w, _ := cluster(t, 3, 3)
			for range 5 {
				w.round(true)
			}
			c := w.chains()[0]
			a, b := c.Members[0].Node, c.Members[1].Node
			w.cut[[2]fabric.NodeID{a, b}] = way != "back"
			w.cut[[2]fabric.NodeID{b, a}] = way != "forth"
			w.node(b).deaf = true // nobody tells it that it is to be filled again; it asks for leases all the same
			w.until(t, 200, func() string { return map[bool]string{true: "nothing has changed"}[w.chains()[0].Epoch == 1] })
			for range 30 {
				w.round(true)
			}
			w.node(b).deaf = false
			w.until(t, 300, func() string { return w.whole(3) })
			n := len(w.acked[c.ID])
			w.until(t, 100, func() string { return map[bool]string{true: "nothing is acknowledged"}[len(w.acked[c.ID]) == n] })
		})
	}
}

// A replica whose disk fails says so; it goes at once, and nobody waits for it.
func TestFailedDisk(t *testing.T) {
	w, _ := cluster(t, 4, 3)
	for range 10 {
		w.round(true)
	}
	begun, c := w.now, w.chains()[0]
	bad := w.node(c.Members[1].Node)
	bad.replicas[c.ID].failed = "no space left on device"
	w.until(t, 100, func() string {
		if c := w.chains()[0]; c.On(bad.id) >= 0 {
			return c.Reason
		}
		return w.whole(3)
	})
	if took := w.now - begun; took > quick.Grace/2 {
		t.Errorf("it took %v", took)
	}
}

func TestLargeChainIsSplit(t *testing.T) {
	w, _ := cluster(t, 3, 3)
	w.size = 3 << 30
	w.until(t, 100, func() string { return map[bool]string{true: "no split"}[len(w.chains()) == 1] })
	w.size = 0
	w.until(t, 100, func() string { return w.whole(3) })
	for _, c := range w.chains() {
		if len(w.acked[c.ID]) == 0 {
			t.Errorf("%+v", c)
		}
	}
}

// What the nodes share is one chain, however large, for whoever asks.
func TestSharedBucketIsNotSplit(t *testing.T) {
	w, k := cluster(t, 3, 3)
	c, err := k.CreateBucket(placement.Bucket{Name: placement.SharedBucket, Factor: 3, Durability: placement.Synced})
	if err != nil {
		t.Fatal(err)
	}
	k.order(c, nil)
	w.until(t, 60, func() string { return w.whole(3) })
	chains := func(bucket string) (all []placement.Chain) {
		for _, c := range w.chains() {
			if c.Bucket == bucket {
				all = append(all, c)
			}
		}
		return all
	}
	w.size = 3 << 30
	w.until(t, 100, func() string { return map[bool]string{true: "no split"}[len(chains("b")) == 1] })
	for range 50 {
		w.round(false)
	}
	shared := chains(placement.SharedBucket)
	if len(shared) != 1 {
		t.Fatalf("%d chains", len(shared))
	}
	if _, err := k.Split(w.nodes[0].clock(w), shared[0].ID, []byte("m")); err == nil || !strings.Contains(err.Error(), "one chain") {
		t.Errorf("a command splits it: %v", err)
	}
}

// Whoever of a chain is there when it is being split, in the end there are two whole chains.
func TestFailuresDuringSplit(t *testing.T) {
	for rounds := range 12 {
		w, k := cluster(t, 4, 3)
		for range 10 {
			w.round(true)
		}
		c := w.chains()[0]
		change, err := k.Split(k.on.clock(w), c.ID, []byte("m"))
		k.order(change, err)
		for range rounds {
			w.round(true)
		}
		for _, m := range c.Members {
			w.node(m.Node).up = false
		}
		w.now += 5 * time.Second
		for i, m := range w.nodes {
			if !m.up {
				m.start()
			}
			if i == 3 {
				w.begin(m)
			}
		}
		w.until(t, 300, func() string {
			if n := len(w.chains()); n != 2 && rounds > 1 {
				return fmt.Sprintf("%d chains", n)
			}
			return w.whole(3)
		})
	}
}

func TestDrain(t *testing.T) {
	w, k := cluster(t, 4, 3, "g", "n")
	c, err := k.Drain("n1", true)
	k.order(c, err)
	w.until(t, 400, func() string {
		for _, c := range w.chains() {
			if c.On("n1") >= 0 {
				return "it has a replica"
			}
		}
		return w.whole(3)
	})
}

// Nobody waits for a lost node that is to hold no replicas anyway, whether that was ordered before or after it was lost.
func TestLostNodeThatIsDrained(t *testing.T) {
	for _, early := range []bool{true, false} {
		w, k := cluster(t, 4, 3)
		m := w.node(w.chains()[0].Members[2].Node)
		if m == w.nodes[0] {
			m = w.node(w.chains()[0].Members[1].Node)
		}
		member := func() string { return map[bool]string{true: "it is a member"}[w.chains()[0].On(m.id) >= 0] }
		m.up = false
		if !early {
			w.until(t, 400, member)
		}
		c, err := k.Drain(m.id, true)
		k.order(c, err)
		w.until(t, 400, member)
		gone := w.now
		w.until(t, 400, func() string { return w.whole(3) })
		if waited := w.now - gone; waited > quick.Grace/2 {
			t.Errorf("its place was kept for %v", waited)
		}
	}
}

// No place is kept for a node that is to hold no replicas, also where no other node can take its place.
func TestLostNodeThatNobodyReplaces(t *testing.T) {
	w, k := cluster(t, 3, 3)
	m := w.node(w.chains()[0].Members[2].Node)
	if m == w.nodes[0] {
		m = w.node(w.chains()[0].Members[1].Node)
	}
	waits := func(want string) {
		t.Helper()
		w.until(t, 400, func() string {
			o := k.Overview(w.now)
			if v := o.Chains[0]; !strings.Contains(v.Waits, want) {
				return fmt.Sprintf("it waits for %q, and keeps places for %v", v.Waits, v.Away)
			}
			return ""
		})
	}
	m.up = false
	waits(fmt.Sprintf("2 of 3 replicas: a place is kept for [%s]", m.id))
	c, err := k.Drain(m.id, true)
	k.order(c, err)
	waits(fmt.Sprintf("2 of 3 replicas: [%s] had one and is to hold none, and no other node can take it", m.id))
	if o := k.Overview(w.now); len(o.Chains[0].Away) != 0 {
		t.Errorf("places are kept for %v", o.Chains[0].Away)
	}
}

// A new node gets its share, a few replicas at a time, and then nothing moves any more.
func TestBalance(t *testing.T) {
	w, _ := cluster(t, 3, 3, "c", "f", "i", "l", "o", "r", "u")
	m := &machine{id: "n9", zone: "a", rate: 1, replicas: map[chain.ID]*copied{}}
	w.nodes = append(w.nodes, m)
	m.start()
	moved := 0
	w.idle = true
	w.until(t, 3000, func() string {
		moved = 0
		for _, c := range w.chains() {
			if c.Move != nil {
				moved++
			}
		}
		if moved > quick.Moves+2 {
			t.Fatalf("%d chains are on the move", moved)
		}
		if n := len(m.replicas); n < 2 { // it is in the zone of n0, with which it shares
			return fmt.Sprintf("the new node has %d replicas", n)
		}
		return w.whole(3)
	})
	before := len(w.history)
	for range 1000 {
		w.round(true)
	}
	if w.whole(3) != "" || len(w.history)-before > 60 {
		t.Errorf("%s; %s", w.whole(3), w.story(before))
	}
	before = len(w.history)
	for range 500 {
		w.round(true)
	}
	if len(w.history) != before {
		t.Errorf("it does not come to rest: %s", w.story(before))
	}
}

func TestDeleteBucket(t *testing.T) {
	w, k := cluster(t, 3, 3, "m")
	c, err := k.DeleteBucket("b")
	k.order(c, err)
	w.until(t, 100, func() string {
		for key := range w.table {
			if key != placement.KeeperKey {
				return key
			}
		}
		for _, m := range w.nodes {
			if len(m.replicas) > 0 {
				return "replicas are left"
			}
		}
		return ""
	})
}

// Whatever happens, the rules hold, and when it is over all is whole again.
func TestAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		nodes := rapid.IntRange(2, 5).Draw(t, "nodes")
		factor := rapid.IntRange(1, 3).Draw(t, "factor")
		durability := rapid.SampledFrom([]placement.Durability{placement.Synced, placement.Replicated}).Draw(t, "durability")
		w, _ := clusterOf(t, nodes, factor, durability, []string{"m"}[:rapid.IntRange(0, 1).Draw(t, "splits")]...)
		actions := rapid.IntRange(20, 400).Draw(t, "actions")
		for range actions {
			w.act(t)
			w.reads()
			if w.fault != "" {
				t.Fatal(w.fault)
			}
		}
		w.heal(t, min(factor, nodes))
	})
}

func (w *world) act(t *rapid.T) {
	m := w.nodes[rapid.IntRange(0, len(w.nodes)-1).Draw(t, "node")]
	k := w.keepers[max(0, len(w.keepers)-1-rapid.SampledFrom([]int{0, 0, 0, 0, 1, 2}).Draw(t, "keeper"))]
	n := rapid.IntRange(0, 10).Draw(t, "n")
	switch action := rapid.IntRange(0, 26).Draw(t, "action"); {
	case action < 3:
		w.now += time.Duration(n*n) * 5 * time.Millisecond
	case action == 3:
		w.now += time.Duration(n) * 300 * time.Millisecond
	case action == 4 && n < 4:
		m.crash(w, n)
	case action == 4 && n == 4:
		m.leave()
	case action == 5 || action == 6:
		if !m.up {
			m.start()
		}
	case action == 7:
		if m.up && n < 4 {
			w.begin(m)
		}
	case action < 10:
		if m.up {
			m.report(w, k)
		}
	case action < 13 && len(w.mail) > 0:
		i := n % len(w.mail)
		mail := w.mail[i]
		if n < 9 {
			w.mail = slices.Delete(w.mail, i, i+1)
		}
		if n != 8 {
			w.deliver(mail)
		}
	case action == 13:
		k.confirm(w)
	case action == 14:
		k.step(w)
	case action < 17 && len(k.writes) > 0:
		k.end(w, k.writes[rapid.IntRange(0, len(k.writes)-1).Draw(t, "write")], n > 6, n > 8)
	case action == 17:
		k.watch(w, n)
	case action == 18:
		if m.up {
			m.watch(w, n)
		}
	case action == 19:
		for range n * n {
			w.round(n%2 == 0)
		}
	case action == 20 && !k.over && k.on.up:
		w.wish(k, m, n)
	case action == 21:
		m.deaf, m.mute = n%2 == 0, n%3 == 0
	case action == 22:
		m.deaf, m.mute = n == 0, n == 1
	case action == 24:
		w.cut[[2]fabric.NodeID{m.id, w.nodes[n%len(w.nodes)].id}] = n > 5
	case action == 23:
		k.held = n > 5
	case action == 25 && n < 3:
		w.disaster(m, n == 0)
	default:
		for _, id := range slices.Sorted(maps.Keys(m.replicas)) {
			w.replicate(m, id, n%3 == 0)
		}
	}
}

// disaster takes a node's chains from all others that serve them, for long, and an operator lets them begin anew.
func (w *world) disaster(m *machine, empty bool) {
	if !m.up {
		m.start()
	}
	lost := func(c placement.Chain) bool {
		return len(c.Members) > 0 && !slices.ContainsFunc(c.Members, func(r chain.Member) bool { return r.Node == m.id && r.State == chain.Serving })
	}
	all := slices.DeleteFunc(w.chains(), func(c placement.Chain) bool { return !lost(c) })
	for _, c := range all {
		for _, r := range c.Serving() {
			w.node(r.Node).up = false
		}
	}
	w.begin(m)
	k := w.keepers[len(w.keepers)-1]
	for range 60 {
		w.round(true)
	}
	for _, c := range all {
		_, change, err := k.Recover(k.on.clock(w), placement.RecoverRequest{Chain: c.ID, Force: true, Empty: empty, By: "me"})
		if err == nil {
			k.order(change, err)
		}
	}
}

// wish is something that an operator wants.
func (w *world) wish(k *keeper, m *machine, n int) {
	chains := w.chains()
	if len(chains) == 0 || n < 5 {
		return
	}
	c := chains[n%len(chains)]
	if n%2 == 0 && len(chains) < 4 {
		change, err := k.Split(k.on.clock(w), c.ID, half(c.Range))
		k.order(change, err)
		return
	}
	if len(c.Members) > 0 {
		change, err := k.Move(k.on.clock(w), c.ID, c.Members[n%len(c.Members)].Node, m.id)
		k.order(change, err)
	}
}

// heal lets all nodes run, with one keeper, until all is whole; after that nothing changes any more.
func (w *world) heal(t *rapid.T, factor int) {
	for _, m := range w.nodes {
		m.deaf, m.mute = false, false
		if !m.up {
			m.start()
		}
	}
	for _, k := range w.keepers {
		k.held = false
	}
	clear(w.cut)
	w.begin(w.nodes[0])
	before, quiet, seen := len(w.history), 0, 0
	w.until(t, 4000, func() string {
		if missing := w.whole(factor); missing != "" {
			return missing
		}
		if quiet++; len(w.history) != seen {
			quiet, seen = 0, len(w.history)
		}
		return map[bool]string{true: "changes go on"}[quiet < 200]
	})
	if n := len(w.history) - before; n > 40*len(w.chains()) {
		t.Fatalf("it took %d changes until all was whole:\n%s", n, w.story(before))
	}
	for _, c := range w.chains() {
		if len(w.acked[c.ID]) == 0 {
			t.Fatalf("nothing was written to chain %d", c.ID)
		}
	}
}

// The records of a cluster that lives can be read back, and are written in one way only.
func FuzzRecords(f *testing.F) {
	for _, v := range []interface{ Encode() []byte }{
		placement.KeeperRecord{Generation: 3, Node: "a"},
		placement.Node{ID: "a", Drain: true},
		placement.Bucket{Name: "b", Factor: 3, Durability: placement.Synced, State: placement.Ready, Created: 7, First: 9, Splits: [][]byte{[]byte("m")}},
		placement.Chain{
			Config: chain.Config{
				ID: 9, Bucket: "b", Range: chain.Range{Start: []byte("a"), End: []byte("m")}, Epoch: 4,
				Members: []chain.Member{{Replica: chain.Replica{Node: "a", Incarnation: 2}, State: chain.Serving}, {Replica: chain.Replica{Node: "b", Incarnation: 1}, State: chain.Joining}},
			},
			Keeper: 3, Fresh: true, Parent: 1, Away: []fabric.NodeID{"c"}, Move: &placement.Move{From: "a", To: "b"},
			Split: &placement.Split{Child: 11, Range: chain.Range{Start: []byte("m"), End: []byte("z")}, Epoch: 4}, Reason: "x", Changed: -1,
		},
		placement.Bucket{Name: "c", Factor: 1, Durability: placement.Replicated, State: placement.Creating},
		placement.Chain{Config: chain.Config{ID: 9, Bucket: "b", Epoch: 4, Unsynced: true}},
		placement.Chain{
			Config:   chain.Config{ID: 9, Bucket: "b", Epoch: 4, Line: chain.Line{Epoch: 3, Sequence: 1 << 30, Empty: true}},
			Recovery: &placement.Recovery{By: "sander@desk", At: 7, Node: "a", Has: 2, Known: 3, Empty: true},
		},
	} {
		f.Add(v.Encode())
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if c, err := placement.DecodeChain(value); err == nil && string(c.Encode()) != string(value) {
			t.Errorf("%x becomes %x", value, c.Encode())
		}
		if b, err := placement.DecodeBucket(value); err == nil && string(b.Encode()) != string(value) {
			t.Errorf("%x becomes %x", value, b.Encode())
		}
		if n, err := placement.DecodeNode(value); err == nil && string(n.Encode()) != string(value) {
			t.Errorf("%x becomes %x", value, n.Encode())
		}
		if k, err := placement.DecodeKeeper(value); err == nil && string(k.Encode()) != string(value) {
			t.Errorf("%x becomes %x", value, k.Encode())
		}
	})
}
