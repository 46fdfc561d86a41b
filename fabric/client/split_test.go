package client_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/node/nodetest"
	"orrery/fabric/chain/placement"
	"orrery/internal/testenv"
)

// split splits the cluster's only chain at a key, as a keeper does.
func split(t *testing.T, c *nodetest.Cluster, at string, meanwhile func()) {
	t.Helper()
	s := placement.Split{Child: 2, Range: chain.Range{Start: []byte(at)}, Epoch: 2}
	var members []chain.Member
	c.Change(func(m *chain.Map) {
		m.Chains[0].Range.End, m.Chains[0].Epoch = s.Range.Start, s.Epoch
		members, c.Splitting = m.Chains[0].Members, []chain.ID{1}
	})
	meanwhile()
	testenv.Eventually(t, "all nodes to have their part", func() bool {
		parts := 0
		for _, n := range c.Nodes {
			n.Node.Part(1, s)
			if slices.ContainsFunc(n.Node.Reports(), func(r placement.Replica) bool { return r.Chain == s.Child }) {
				parts++
			}
		}
		return parts == len(c.Nodes)
	})
	c.Change(func(m *chain.Map) {
		c.Splitting = nil
		m.Chains = append(m.Chains, chain.Config{ID: s.Child, Bucket: m.Chains[0].Bucket, Range: s.Range, Epoch: s.Epoch, Members: members})
	})
}

// TestWatchOverSplit: a watch is told of each change once in its order, also where the keys come to another chain meanwhile; and a second one, that begins while they belong to nobody.
func TestWatchOverSplit(t *testing.T) {
	ctx := within(t)
	cluster := nodetest.Start(t, 3, "b")
	b := cluster.Client("writer", fabric.RoleOperator).Bucket("b")
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	const rounds = 300
	keys := []string{"c", "x"}
	seen := make(chan string, 4)
	watch := func() { // it begins with whatever is written then
		got := map[string]int{}
		for change, err := range b.Watch(ctx, chain.Range{}, nil) {
			if err != nil {
				seen <- err.Error()
				return
			}
			for _, item := range change.Items {
				key, value := string(item.Key), 0
				if _, err := fmt.Sscan(string(item.Value.Value), &value); err != nil {
					seen <- err.Error()
				}
				if before, ok := got[key]; ok && value > before+1 {
					seen <- fmt.Sprintf("%s is %d after %d", key, value, before)
					return
				}
				got[key] = max(got[key], value)
			}
			if got[keys[0]] == rounds && got[keys[1]] == rounds {
				seen <- ""
				return
			}
		}
	}
	go watch()
	put := func(from, to int) {
		for i := from; i <= to; i++ {
			for _, key := range keys {
				if _, err := b.Put(ctx, []byte(key), fmt.Append(nil, i)); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}
	put(1, rounds/3)
	written := make(chan bool)
	go func() {
		defer close(written)
		put(rounds/3+1, rounds)
	}()
	split(t, cluster, "m", func() { go watch() })
	<-written
	for range 2 {
		if s := <-seen; s != "" {
			t.Error(s)
		}
	}
}

// TestOverBorder: what is asked of keys that were in one chain, and are in two now, by a client that does not know it.
func TestOverBorder(t *testing.T) {
	ctx := within(t)
	cluster := nodetest.Start(t, 2, "b")
	b := cluster.Client("writer", fabric.RoleOperator).Bucket("b")
	put := func(keys ...string) (all []chain.Write) {
		for _, key := range keys {
			all = append(all, chain.Write{Op: chain.OpPut, Key: []byte(key), Value: []byte(key)})
		}
		return all
	}
	if err := b.Batch(ctx, put("a", "m", "z")); err != nil {
		t.Fatal(err)
	}
	txn := func() error {
		_, err := b.Txn().Put([]byte("a"), []byte("1")).Put([]byte("z"), []byte("1")).Commit(ctx)
		return err
	}
	if err := txn(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 3)
	split(t, cluster, "m", func() { // the keys from m on belong to nobody for a while
		go func() { ended <- b.Batch(ctx, put("b", "y", "n")) }()
		go func() {
			if err := txn(); !errors.Is(err, chain.ErrOutOfRange) {
				ended <- fmt.Errorf("a transaction of two chains: %w", err)
				return
			}
			ended <- nil
		}()
		go func() {
			items, err := b.MultiGet(ctx, [][]byte{[]byte("m"), []byte("a"), []byte("z"), []byte("none")})
			if err == nil && (string(items[0].Value.Value) != "m" || string(items[1].Value.Value) != "1" || string(items[2].Value.Value) != "1" || !items[3].Missing) {
				err = fmt.Errorf("%+v", items)
			}
			ended <- err
		}()
	})
	for range 3 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	var all []string
	for item, err := range b.Scan(ctx, chain.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, string(item.Key))
	}
	if got := strings.Join(all, ""); got != "abmnyz" {
		t.Errorf("a scan yields %s", got)
	}
}
