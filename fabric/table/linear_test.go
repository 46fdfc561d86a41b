package table

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"orrery/fabric/tabletest"
)

// TestLinearizable has clients on all three nodes while nodes are cut off, crash and come back and messages get lost, late and out of
// order, and checks with porcupine that what the clients saw could have happened one after the other.
func TestLinearizable(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := &tabletest.History{}
			simulate(t, 3, func(c *cluster) { record(h, c, seed) })
			h.Check(t) // outside of the simulation, whose clock knows no end of computing
		})
	}
}

// record lets clients work while there is trouble. They end by themselves: porcupine decides short histories.
func record(h *tabletest.History, c *cluster, seed uint64) {
	c.mu.Lock()
	c.delay = testTick / 2
	c.mu.Unlock()
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			for n := range 100 {
				operate(h, c, i, n, random)
				<-time.After(time.Duration(random.IntN(4)) * testTick)
			}
		})
	}
	nemesis(c, rand.New(rand.NewPCG(seed, 100)))
	clients.Wait()
	for _, key := range []string{"x", "y", "z"} { // what the nodes know in the end counts too
		for _, id := range c.ids {
			h.Do(c.within(), c.table(id), 100, tabletest.Request{Op: "get", Key: key})
		}
	}
}

// nemesis makes trouble of each kind, the leader preferred, and lets the nodes recover in between.
func nemesis(c *cluster, random *rand.Rand) {
	pause := func() { <-time.After(time.Duration(10+random.IntN(20)) * testTick) }
	for range 6 {
		victim := c.leader()
		if random.IntN(3) == 0 {
			victim = c.ids[random.IntN(len(c.ids))]
		}
		switch random.IntN(3) {
		case 0:
			c.isolate(victim, true)
			pause()
		case 1:
			c.crash(victim)
			pause()
			c.start(victim)
		case 2:
			c.mu.Lock()
			c.loss = 0.2
			c.mu.Unlock()
			pause()
		}
		c.heal()
		pause()
	}
}

func operate(h *tabletest.History, c *cluster, client, n int, random *rand.Rand) {
	table := c.table(c.ids[random.IntN(len(c.ids))])
	if table == nil {
		return
	}
	in := tabletest.Request{Key: string(rune('x' + random.IntN(3))), Value: fmt.Sprint(client, "/", n)}
	in.Op = []string{"get", "get", "put", "swap", "delete"}[random.IntN(5)]
	ctx, cancel := context.WithTimeout(c.Context(), 15*testTick)
	defer cancel()
	if in.Op == "swap" {
		if got, ok := h.Do(ctx, table, client, tabletest.Request{Op: "get", Key: in.Key}); ok {
			in.Expect = got.Revision
		}
	}
	h.Do(ctx, table, client, in)
}
