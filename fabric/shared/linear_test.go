package shared_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"orrery/fabric/chain"
	"orrery/fabric/shared"
	"orrery/fabric/tabletest"
)

// change changes the config of the bucket's chain, for a new epoch.
func (c *cluster) change(what func(*chain.Config)) {
	c.t.Helper()
	c.Change(func(m *chain.Map) {
		m.Chains[0].Members = slices.Clone(m.Chains[0].Members)
		m.Chains[0].Epoch++
		what(&m.Chains[0])
	})
}

// lose ends a node's replica without warning to the others; after a moment the chain goes on without it.
func (c *cluster) lose(i int) {
	c.t.Helper()
	id := c.Nodes[i].ID
	c.Stop(i)
	<-time.After(400 * time.Millisecond) // somebody has to notice
	c.change(func(config *chain.Config) {
		config.Members = slices.DeleteFunc(config.Members, func(m chain.Member) bool { return m.Node == id })
	})
}

// comeBack starts a node again, and lets it join the chain as the keeper would.
func (c *cluster) comeBack(i int) {
	c.t.Helper()
	c.Restart(i)
	for _, state := range []chain.State{chain.Syncing, chain.Joining, chain.Serving} {
		var epoch uint64
		c.change(func(config *chain.Config) {
			self := c.Nodes[i].Replica()
			config.Members = slices.DeleteFunc(config.Members, func(m chain.Member) bool { return m.Replica == self })
			config.Members = append(config.Members, chain.Member{Replica: self, State: state})
			epoch = config.Epoch
		})
		c.until(func() bool {
			for _, r := range c.Nodes[i].Node.Reports() {
				if r.Epoch == epoch && r.Linked {
					return true
				}
			}
			return false
		})
	}
}

// until waits for something that takes no long time.
func (c *cluster) until(what func() bool) {
	c.t.Helper()
	ctx := within(c.t)
	for !what() {
		select {
		case <-ctx.Done():
			c.t.Fatal("it never happened")
		case <-time.After(time.Millisecond):
		}
	}
}

// TestLinearizable has clients at the tables of three nodes while the chain loses its head, middle or tail, which come back.
func TestLinearizable(t *testing.T) {
	c := start(t, 3, shared.First())
	tables := []*shared.Table{c.open(0), c.open(1), c.open(2)}
	h := &tabletest.History{}
	done := make(chan struct{})
	var clients sync.WaitGroup
	for client := range 6 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(client)))
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				case <-time.After(time.Duration(random.IntN(20)) * time.Millisecond):
				}
				operate(t, h, tables[random.IntN(3)], client, n, random)
			}
		})
	}
	for _, victim := range []int{0, 2, 1, 0} {
		c.lose(victim)
		<-time.After(200 * time.Millisecond) // without it
		c.comeBack(victim)
	}
	close(done)
	clients.Wait()
	for _, key := range []string{"x", "y", "z"} { // what each knows in the end counts too
		for _, table := range tables {
			h.Do(within(t), table, 100, tabletest.Request{Op: "get", Key: key})
		}
	}
	h.Check(t)
}

func operate(t *testing.T, h *tabletest.History, table *shared.Table, client, n int, random *rand.Rand) {
	t.Helper()
	in := tabletest.Request{Key: string(rune('x' + random.IntN(3))), Value: fmt.Sprint(client, "/", n)}
	in.Op = []string{"get", "get", "put", "swap", "delete"}[random.IntN(5)]
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if in.Op == "swap" {
		if got, ok := h.Do(ctx, table, client, tabletest.Request{Op: "get", Key: in.Key}); ok {
			in.Expect = got.Revision
		}
	}
	h.Do(ctx, table, client, in)
}
