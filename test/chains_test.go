package test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/client"
	"orrery/internal/testenv"
)

// rounds is how many failures a scenario of chains has. ORRERY_TEST_ROUNDS says otherwise; make chains asks for 100.
func rounds(usually int) int {
	if n, err := strconv.Atoi(os.Getenv("ORRERY_TEST_ROUNDS")); err == nil {
		return n
	}
	return usually
}

// chains are the bucket "b" of a cluster, clients that read and write a few of its keys, and what they saw.
type chains struct {
	*cluster
	names   []string
	clients []*client.Client
	stop    context.CancelFunc
	work    sync.WaitGroup

	mu      sync.Mutex
	history []porcupine.Operation
	pending int // operations of which nobody knows how they ended
	acked   map[string]int
	count   int
}

// operation is what a client did with a key: write a number, or read.
type operation struct {
	key   string
	write bool
	value int
}

const scenarioKeys = 6

func (c *cluster) overview() (placement.Overview, error) {
	var last error
	for _, n := range c.nodes {
		if n.process == nil || !n.process.running() || n.stopped {
			continue
		}
		o, err := ask[placement.Overview](c, n.dir, "kv", "chains")
		if err == nil {
			return o, nil
		}
		last = err
	}
	return placement.Overview{}, last
}

// whole waits until each chain has three serving replicas, and nothing is under way.
func (c *cluster) whole() placement.Overview {
	c.Helper()
	var o placement.Overview
	eventually(c.T, 90*time.Second, func() error {
		var err error
		if o, err = c.overview(); err != nil {
			return err
		}
		for _, v := range o.Chains {
			for _, m := range v.Members {
				if m.State != chain.Serving || m.Gone != "" {
					return fmt.Errorf("chain %d: node %s is not serving (%s)", v.ID, m.Node, v.Waits)
				}
			}
			if len(v.Members) != 3 || v.Waits != "" {
				return fmt.Errorf("chain %d has %d replicas: %s", v.ID, len(v.Members), v.Waits)
			}
		}
		for _, b := range o.Buckets {
			if ofBucket(o, b.Name).ID == 0 {
				return fmt.Errorf("bucket %s has no chains", b.Name)
			}
		}
		if len(o.Buckets) == 0 {
			return errors.New("there are no buckets")
		}
		return nil
	})
	return o
}

// startChains makes the bucket, in two partitions, and begins to read and write.
func startChains(c *cluster, names []string, options ...string) *chains {
	c.Helper()
	first := c.nodes[names[0]]
	eventually(c.T, 30*time.Second, func() error {
		_, err := c.run(first.dir, append([]string{"kv", "bucket", "create", "b", "--factor", "3", "--split", "k3"}, options...)...)
		return err
	})
	c.whole()
	s := &chains{cluster: c, names: names, acked: map[string]int{}}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(c.Context())
	members, err := ask[[]fabric.Member](c, first.dir, "members")
	if err != nil {
		c.Fatal(err)
	}
	holder, err := authority.Open(filepath.Join(first.dir, "identity"))
	if err != nil {
		c.Fatal(err)
	}
	config := client.Config{Authority: holder}
	for _, m := range members {
		config.Nodes = append(config.Nodes, m.Address)
	}
	c.Cleanup(func() {
		s.stop()
		s.work.Wait()
		for _, opened := range s.clients {
			_ = opened.Close()
		}
	})
	for i := range 4 {
		opened, err := client.Open(ctx, config)
		if err != nil {
			c.Fatal(err)
		}
		s.clients = append(s.clients, opened)
		s.work.Go(func() { s.worker(ctx, i, opened.Bucket("b")) })
	}
	return s
}

// worker reads and writes until ctx ends. It is one process of the history; after an operation whose outcome is unknown it goes on as another one.
func (s *chains) worker(ctx context.Context, id int, b *client.Bucket) {
	random := rand.New(rand.NewPCG(uint64(id), 1)) //nolint:gosec // a test's choices
	for n := 1; ctx.Err() == nil; n++ {
		op := operation{key: fmt.Sprint("k", random.IntN(scenarioKeys)), write: random.IntN(2) == 0, value: id*1_000_000_000 + n}
		call, cancel := context.WithTimeout(ctx, 30*time.Second)
		begun := time.Now().UnixNano()
		var err error
		var got chain.Value
		if op.write {
			_, err = b.Put(call, []byte(op.key), []byte(strconv.Itoa(op.value)))
		} else {
			got, err = b.Get(call, []byte(op.key))
		}
		cancel()
		s.note(id, op, got, begun, err)
	}
}

// note puts an operation into the history.
func (s *chains) note(id int, op operation, got chain.Value, begun int64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	result := 0
	switch {
	case err == nil && !op.write:
		result, err = strconv.Atoi(string(got.Value))
		if err != nil {
			s.Errorf("key %s has %q", op.key, got.Value)
		}
	case errors.Is(err, fabric.ErrNotFound):
	case err != nil && op.write:
		// It may have happened, now or at any time.
		s.history = append(s.history, porcupine.Operation{ClientId: 1000 + s.pending, Input: op, Call: begun, Return: 1 << 62})
		s.pending++
		return
	case err != nil:
		return
	}
	s.count++
	s.history = append(s.history, porcupine.Operation{ClientId: id, Input: op, Output: result, Call: begun, Return: time.Now().UnixNano()})
}

// more waits until so many more operations have succeeded.
func (s *chains) more(n int) {
	s.Helper()
	now := func() int {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.count
	}
	begun := now()
	eventually(s.T, 90*time.Second, func() error {
		if done := now() - begun; done < n {
			return fmt.Errorf("%d operations have succeeded, not %d", done, n)
		}
		return nil
	})
}

// register is a key: a number that is written and read.
var register = porcupine.Model{
	Partition: func(all []porcupine.Operation) [][]porcupine.Operation {
		byKey := map[string][]porcupine.Operation{}
		for _, o := range all {
			byKey[o.Input.(operation).key] = append(byKey[o.Input.(operation).key], o) //nolint:forcetypeassert // nothing else is noted
		}
		var parts [][]porcupine.Operation
		for _, part := range byKey {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return 0 },
	Step: func(state, input, output any) (bool, any) {
		op := input.(operation) //nolint:forcetypeassert // see above
		if op.write {
			return true, op.value
		}
		return output == state, state
	},
}

// end stops the clients and judges what they saw: every read has the newest write that was acknowledged, or one that was under way.
func (s *chains) end() {
	s.Helper()
	s.more(20 * len(s.clients))
	s.stop()
	s.work.Wait()
	// Reads of the end see what was lost.
	ctx, cancel := context.WithTimeout(s.Context(), 2*time.Minute)
	defer cancel()
	for i := range scenarioKeys {
		op := operation{key: fmt.Sprint("k", i)}
		begun := time.Now().UnixNano()
		got, err := s.clients[0].Bucket("b").Get(ctx, []byte(op.key))
		if err != nil && !errors.Is(err, fabric.ErrNotFound) {
			s.Error(err)
			continue
		}
		s.note(999, op, got, begun, err)
	}
	s.Logf("%d operations, %d of unknown outcome", len(s.history), s.pending)
	if verdict := porcupine.CheckOperationsTimeout(register, s.history, time.Minute); verdict != porcupine.Ok {
		s.Errorf("the history is not linearizable: %v", verdict)
	}
}

// member finds the node at a place of the clients' chain.
func (s *chains) member(place int) *node {
	s.Helper()
	of := ofBucket(s.whole(), "b")
	members, err := ask[[]fabric.Member](s.cluster, s.nodes[s.names[0]].dir, "members")
	if err != nil {
		s.Fatal(err)
	}
	for _, m := range members {
		if m.ID == of.Members[place%len(of.Members)].Node {
			return s.nodes[m.Name]
		}
	}
	s.Fatalf("no member has the node of place %d", place)
	return nil
}

func hosts(n int) []string { return strings.Fields("one two three four five")[:n] }

// Head, middle and tail are killed without warning while clients read and write. Nothing that was acknowledged is lost, and no read is stale.
func TestChainsSurviveKills(t *testing.T) {
	names := hosts(3)
	c := newCluster(t, names...)
	s := startChains(c, names)
	for round := range rounds(3) {
		s.more(100)
		n := s.member(round)
		n.kill()
		if round%2 == 0 {
			s.more(50) // without it
		}
		n.start()
		s.whole()
	}
	s.end()
}

// All nodes lose power at once.
func TestChainsSurviveAllKilled(t *testing.T) {
	names := hosts(3)
	c := newCluster(t, names...)
	s := startChains(c, names)
	for range rounds(1) {
		s.more(100)
		for _, n := range c.nodes {
			n.kill()
		}
		for _, n := range c.nodes {
			n.launch()
		}
		for _, n := range c.nodes {
			n.awaitAnswer()
		}
		s.whole()
	}
	s.end()
}

// A node that is stopped for longer than its lease answers nothing stale when it goes on.
func TestChainsSurviveAStoppedNode(t *testing.T) {
	names := hosts(3)
	c := newCluster(t, names...)
	s := startChains(c, names)
	for round := range rounds(2) {
		s.more(100)
		n := s.member(2 - round%3)
		if err := n.process.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		n.stopped = true
		s.more(50) // those that had asked it wait, others go on
		eventually(t, 30*time.Second, func() error {
			o, err := c.overview()
			if err != nil {
				return err
			}
			if len(ofBucket(o, "b").Members) == 3 {
				return errors.New("it is a member still")
			}
			return nil
		})
		if err := n.process.Process.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		n.stopped = false
		s.whole()
	}
	s.end()
}

// deaf makes a host drop what comes from another one: a cut in one direction.
func (n *network) deaf(name, from string, yes bool) {
	n.Helper()
	nft := testenv.Need(n.T, "nft", "apt-get install nftables", "/usr/sbin/nft", "/sbin/nft")
	rules := "table ip cut\ndelete table ip cut\n" // one that is not there cannot be deleted
	if yes {
		rules += fmt.Sprintf("table ip cut { chain input { type filter hook input priority 0; ip saddr %s drop; }; }", n.addresses[from])
	}
	cmd := n.on(name, nft, "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		n.Fatalf("nft: %v: %s", err, out)
	}
}

// Two nodes that both reach the others do not hear each other, in one direction: the chain goes on without one of them, and has all replicas again.
func TestChainsSurviveACut(t *testing.T) {
	names := hosts(3)
	net := newNetwork(t, names...)
	c := net.cluster(names...)
	s := startChains(c, names)
	for round := range rounds(2) {
		s.more(100)
		deaf, from := s.member(round%2), s.member(1-round%2)
		net.deaf(deaf.name, from.name, true)
		begun := time.Now()
		s.more(300)
		t.Logf("300 operations took %v", time.Since(begun))
		net.deaf(deaf.name, from.name, false)
		s.whole()
	}
	s.end()
}

// A node that nobody hears any more, but that hears the others, is replaced; its clients find others.
func TestChainsSurviveAMuteNode(t *testing.T) {
	names := hosts(3)
	net := newNetwork(t, names...)
	c := net.cluster(names...)
	s := startChains(c, names)
	for round := range rounds(1) {
		s.more(100)
		mute := s.member(round % 3)
		for _, other := range names {
			if other != mute.name {
				net.deaf(other, mute.name, true)
			}
		}
		begun := time.Now()
		s.more(200)
		t.Logf("200 operations took %v", time.Since(begun))
		for _, other := range names {
			if other != mute.name {
				net.deaf(other, mute.name, false)
			}
		}
		s.whole()
	}
	s.end()
}

// One replica's disk is full: it leaves its chains, and the others go on.
func TestChainsSurviveAFullDisk(t *testing.T) {
	names := hosts(4)
	c := newCluster(t, names...)
	s := startChains(c, names)
	n := s.member(1)
	n.kill()
	dir := filepath.Join(n.dir, "chains")
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	testenv.SmallDisk(t, dir, "48m")
	n.start()
	s.more(100)
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for err == nil {
		_, err = fill.Write(block)
	}
	_ = fill.Close()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	s.more(300)
	eventually(t, 60*time.Second, func() error {
		o, err := c.overview()
		if err != nil {
			return err
		}
		for _, v := range o.Chains {
			for _, m := range v.Members {
				if m.Status != nil && m.Status.Failed != "" {
					return fmt.Errorf("chain %d has a replica that has failed: %s", v.ID, m.Status.Failed)
				}
			}
		}
		return nil
	})
	n.kill()
	if err := os.Remove(filepath.Join(dir, "fill")); err != nil {
		t.Fatal(err)
	}
	n.start()
	s.whole()
	s.end()
}
