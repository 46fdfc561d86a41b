package rotation_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/authority/authoritytest"
	"orrery/fabric/membership"
	"orrery/fabric/rotation"
	"orrery/internal/testenv"
)

var errDown = errors.New("it does not answer")

// ring is the keys of a node without gossip.
type ring struct {
	mu   sync.Mutex
	keys [][]byte
}

func (r *ring) Keys() [][]byte { r.mu.Lock(); defer r.mu.Unlock(); return r.keys }

func (r *ring) Set(keys [][]byte) error { r.mu.Lock(); defer r.mu.Unlock(); r.keys = keys; return nil }

// cluster is nodes that reach each other within the process.
type cluster struct {
	table    authoritytest.Table
	nodes    []fabric.Identity
	rings    map[fabric.NodeID]rotation.Ring
	rotators map[fabric.NodeID]*rotation.Rotator

	mu     sync.Mutex
	silent map[fabric.NodeID]bool // it answers nothing
	dead   map[fabric.NodeID]bool // and that is known
	before func()                 // each question to a node
}

func first() []byte { return bytes.Repeat([]byte{1}, 32) }

func newCluster(n int) *cluster {
	c := &cluster{
		rings: map[fabric.NodeID]rotation.Ring{}, rotators: map[fabric.NodeID]*rotation.Rotator{},
		silent: map[fabric.NodeID]bool{}, dead: map[fabric.NodeID]bool{}, before: func() {},
	}
	for i := range n {
		c.add(fabric.Identity{ID: fabric.NodeID(fmt.Sprintf("%016x", i+1)), Name: fmt.Sprint("n", i+1)}, &ring{keys: [][]byte{first()}})
	}
	return c
}

func (c *cluster) add(node fabric.Identity, r rotation.Ring) {
	c.nodes = append(c.nodes, node)
	c.rings[node.ID] = r
	c.rotators[node.ID] = rotation.New(rotation.Config{
		Self: node.ID, Table: &c.table, Ring: r, Patience: 500 * time.Millisecond,
		Nodes: func(context.Context) ([]fabric.Identity, error) { return c.nodes, nil },
		Alive: func(id fabric.NodeID) bool { c.mu.Lock(); defer c.mu.Unlock(); return !c.dead[id] },
		Ask: func(ctx context.Context, id fabric.NodeID) (rotation.Answer, error) {
			if err := c.reach(ctx, id); err != nil {
				return rotation.Answer{}, err
			}
			return c.rotators[id].Answer(), nil
		},
		Turn: func(ctx context.Context, id fabric.NodeID, r rotation.Record) error {
			if err := c.reach(ctx, id); err != nil {
				return err
			}
			return c.rotators[id].Follow(ctx, r)
		},
	})
}

func (c *cluster) reach(ctx context.Context, id fabric.NodeID) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.before()
	if c.silent[id] {
		return errDown
	}
	return ctx.Err()
}

// down takes a node away, or brings it back.
func (c *cluster) down(i int, yes bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent[c.nodes[i].ID], c.dead[c.nodes[i].ID] = yes, yes
}

func (c *cluster) rotator(i int) *rotation.Rotator { return c.rotators[c.nodes[i].ID] }

// one is an error unless some nodes have one key, the same, which is not one of before.
func (c *cluster) one(n int, before ...[]byte) error {
	for _, node := range c.nodes[:n] {
		keys := c.rings[node.ID].Keys()
		if len(keys) != 1 || !bytes.Equal(keys[0], c.rings[c.nodes[0].ID].Keys()[0]) {
			return fmt.Errorf("node %s has %d keys, or another one", node.Name, len(keys))
		}
		for _, old := range before {
			if bytes.Equal(keys[0], old) {
				return fmt.Errorf("node %s has an old key", node.Name)
			}
		}
	}
	return nil
}

func ignore(rotation.Step) {}

// TestRotate changes the key of nodes that gossip, and keep their keys; who has the old key is not heard any more.
func TestRotate(t *testing.T) {
	trust := authoritytest.NewCluster(t, "n1")
	c := newCluster(0)
	var members []*membership.Membership
	holders := []*authority.Authority{trust.First, trust.Admit(t, "n2", fabric.RoleNode), trust.Admit(t, "n3", fabric.RoleNode)}
	start := func(a *authority.Authority) *membership.Membership {
		m, err := membership.Start(t.Context(), membership.Config{
			Identity: a.Identity(), RPC: "127.0.0.1:1", Bind: "127.0.0.1:0", Keys: a.GossipKeys(), Profile: membership.Local,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = m.Close() })
		return m
	}
	join := func(m *membership.Membership) {
		m.Found(fabric.Beacon{Cluster: trust.First.Identity().Cluster, ID: trust.First.Identity().ID, Gossip: members[0].Gossip()})
	}
	alive := func(m *membership.Membership, want int) {
		t.Helper()
		testenv.Eventually(t, fmt.Sprintf("%d members", want), func() bool { return len(m.Beacons()) == want })
	}
	for _, a := range holders {
		members = append(members, start(a))
		join(members[len(members)-1])
		c.add(a.Identity(), both{a, members[len(members)-1]})
	}
	late := trust.Admit(t, "n4", fabric.RoleNode) // which has the old key, and is not among the nodes
	for _, m := range members {
		alive(m, 3)
	}
	old := trust.First.GossipKeys()[0]
	var steps []rotation.Step
	record, err := c.rotator(1).Rotate(t.Context(), "ann", func(s rotation.Step) { steps = append(steps, s) })
	if err != nil || record.Phase != rotation.Done || record.Serial != 1 || record.By != "ann" || len(steps) != 9 {
		t.Fatalf("%+v, %d steps, %v", record, len(steps), err)
	}
	if err := c.one(3, old); err != nil {
		t.Fatal(err)
	}
	for _, a := range holders {
		if keys := a.GossipKeys(); len(keys) != 1 || rotation.Fingerprint(keys[0]) != record.Key {
			t.Errorf("%s keeps %d keys", a.Identity().Name, len(keys))
		}
	}
	entry, err := c.table.Get(t.Context(), rotation.Key)
	if err != nil || bytes.Contains(entry.Value, trust.First.GossipKeys()[0]) {
		t.Errorf("the table has the key: %v", err)
	}
	stranger := start(late)
	join(stranger)
	for _, m := range members {
		alive(m, 3)
	}
	if n := len(stranger.Beacons()); n != 1 {
		t.Errorf("with the old key %d members are seen", n)
	}
	c.add(late.Identity(), both{late, stranger})
	if err := c.rotator(3).Adopt(c.rotator(0).Answer()); err != nil {
		t.Fatal(err)
	}
	for _, m := range append(members, stranger) {
		alive(m, 4)
	}
}

// both are a node's keys on disk and in use.
type both struct {
	kept *authority.Authority
	used *membership.Membership
}

func (b both) Keys() [][]byte { return b.used.Keys() }

func (b both) Set(keys [][]byte) error {
	return errors.Join(b.kept.SetGossipKeys(keys), b.used.SetKeys(keys))
}

// TestInterruptedAnywhere ends the coordinator at each of its operations. Whoever rotates next brings all nodes to one new key.
func TestInterruptedAnywhere(t *testing.T) {
	for n := 0; ; n++ {
		c := newCluster(3)
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		count := 0
		step := func() {
			mu.Lock()
			defer mu.Unlock()
			if count++; count > n {
				cancel()
			}
		}
		c.before = step
		c.table.Fail = func(string, string) error { step(); return ctx.Err() }
		_, err := c.rotator(0).Rotate(ctx, "ann", ignore)
		cancel()
		c.before = func() {}
		c.table.Fail = nil
		if count <= n {
			if err != nil {
				t.Fatal(err)
			}
			if n < 10 {
				t.Fatalf("only %d operations", n)
			}
			return
		}
		for _, node := range c.nodes { // gossip goes on in between: each can read what another sends
			for _, other := range c.nodes {
				if !has(c.rings[other.ID].Keys(), c.rings[node.ID].Keys()[0]) {
					t.Fatalf("after %d operations %s cannot read %s", n, other.Name, node.Name)
				}
			}
		}
		if n%2 == 0 {
			c.down(0, true)
		}
		record, err := c.rotator(1).Rotate(t.Context(), "bob", ignore)
		if err != nil || record.Phase != rotation.Done {
			t.Fatalf("after %d operations: %+v, %v", n, record, err)
		}
		c.down(0, false)
		if err := c.rotator(0).Follow(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		if err := c.one(3, first()); err != nil {
			t.Fatalf("after %d operations: %v", n, err)
		}
	}
}

func has(keys [][]byte, key []byte) bool {
	for _, k := range keys {
		if bytes.Equal(k, key) {
			return true
		}
	}
	return false
}

// TestAwayAndBack rotates twice without a node, which catches up by the table when it is back.
func TestAwayAndBack(t *testing.T) {
	c := newCluster(3)
	c.down(2, true)
	for range 2 {
		away := 0
		if _, err := c.rotator(0).Rotate(t.Context(), "ann", func(s rotation.Step) {
			if s.Away != "" {
				away++
			}
		}); err != nil || away != 3 {
			t.Fatalf("away at %d steps, %v", away, err)
		}
	}
	if err := c.one(2, first()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- c.rotator(2).Run(ctx) }()
	c.down(2, false)
	testenv.Eventually(t, "it has the new key", func() bool { return c.one(3, first()) == nil })
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestLostKey: who made the key is gone for good before anybody else had it.
func TestLostKey(t *testing.T) {
	c := newCluster(3)
	for i := 1; i < 3; i++ {
		c.silent[c.nodes[i].ID] = true
	}
	if _, err := c.rotator(0).Rotate(t.Context(), "ann", ignore); !errors.Is(err, errDown) {
		t.Fatalf("with nodes that are alive and take no step: %v", err)
	}
	for i := 1; i < 3; i++ {
		if keys := c.rings[c.nodes[i].ID].Keys(); len(keys) != 1 || !bytes.Equal(keys[0], first()) {
			t.Errorf("keys changed: %d", len(keys))
		}
	}
	c.silent = map[fabric.NodeID]bool{}
	c.down(0, true)
	record, err := c.rotator(1).Rotate(t.Context(), "bob", ignore)
	if err != nil || record.Serial != 2 || record.Holder != c.nodes[1].ID {
		t.Fatalf("%+v, %v", record, err)
	}
	// Back again it takes the newer one.
	c.down(0, false)
	if err := c.rotator(0).Follow(t.Context(), record); err != nil {
		t.Fatal(err)
	}
	if err := c.one(3, first()); err != nil {
		t.Error(err)
	}
}

// TestOldNews: nobody goes back to an older rotation.
func TestOldNews(t *testing.T) {
	c := newCluster(2)
	old, err := c.rotator(0).Rotate(t.Context(), "ann", ignore)
	if err != nil {
		t.Fatal(err)
	}
	before := c.rotator(1).Answer()
	if _, err := c.rotator(0).Rotate(t.Context(), "ann", ignore); err != nil {
		t.Fatal(err)
	}
	now := c.rotator(1).Answer().Keys[0]
	if err := errors.Join(c.rotator(1).Follow(t.Context(), old), c.rotator(1).Adopt(before)); err != nil {
		t.Fatal(err)
	}
	if err := c.one(2, first(), before.Keys[0]); err != nil || !bytes.Equal(c.rotator(1).Answer().Keys[0], now) {
		t.Errorf("%v", err)
	}
}
