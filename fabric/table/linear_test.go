package table

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"orrery/fabric"
)

// request is an operation of a client on one key: get, put, swap or delete.
type request struct {
	op, key, value string
	expect         uint64
}

type answer struct {
	value    string
	revision uint64
	outcome  string // ok, missing, conflict, unknown
}

// register is one key of the table as porcupine's model: its value, the revision of its last write, and the smallest revision that the next
// write can have.
type register struct {
	value    string
	revision uint64
	exists   bool
	unseen   bool // written by a client that was told nothing, and read by nobody: of a later revision than revision
}

var model = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		keys := map[string][]porcupine.Operation{}
		for _, o := range history {
			key := o.Input.(request).key
			keys[key] = append(keys[key], o)
		}
		var parts [][]porcupine.Operation
		for _, part := range keys {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return register{} },
	Step: func(state, input, output any) (bool, any) {
		return step(state.(register), input.(request), output.(answer))
	},
	DescribeOperation: func(input, output any) string {
		return fmt.Sprintf("%+v -> %+v", input, output)
	},
}

// step is the table's contract. Revisions of answers are checked where the client got one.
func step(r register, in request, out answer) (bool, register) {
	switch {
	case in.op == "get":
		if out.outcome == "missing" {
			return !r.exists, r
		}
		return r.exists && !r.unseen && out.value == r.value && out.revision == r.revision, r
	case out.outcome == "conflict":
		return r.unseen || in.expect != r.revision, r
	case in.op == "swap" && (r.unseen || in.expect != r.revision):
		return out.outcome == "unseen", r
	case in.op == "delete":
		return true, register{}
	case out.outcome == "unseen":
		return true, register{in.value, r.revision, true, true}
	}
	return out.revision > r.revision, register{in.value, out.revision, true, false}
}

// TestLinearizable has clients on all three nodes while nodes are cut off, crash and come back and messages get lost, late and out of
// order, and checks with porcupine that what the clients saw could have happened one after the other.
func TestLinearizable(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			h := &history{}
			simulate(t, 3, func(c *cluster) { h.record(c, seed) })
			// Outside of the simulation, whose clock knows no end of computing.
			if result := porcupine.CheckOperationsTimeout(model, h.complete(), 30*time.Second); result != porcupine.Ok {
				t.Errorf("porcupine says %s", result)
			}
			t.Logf("%d operations, %d of them with unknown outcome", len(h.operations), h.unknown)
		})
	}
}

// record lets clients work while there is trouble. They end by themselves: porcupine decides short histories.
func (h *history) record(c *cluster, seed uint64) {
	c.mu.Lock()
	c.delay = testTick / 2
	c.mu.Unlock()
	var clients sync.WaitGroup
	for i := range 6 {
		clients.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(i)))
			for n := range 100 {
				h.operate(c, i, n, random)
				<-time.After(time.Duration(random.IntN(4)) * testTick)
			}
		})
	}
	nemesis(c, rand.New(rand.NewPCG(seed, 100)))
	clients.Wait()
	for _, key := range []string{"x", "y", "z"} { // what the nodes know in the end counts too
		for _, id := range c.ids {
			h.do(c.within(), c.table(id), 100, request{op: "get", key: key})
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

// history is what the clients asked and were told.
type history struct {
	mu         sync.Mutex
	now        int64 // counts calls and returns: in what order they came is all that porcupine asks
	operations []porcupine.Operation
	unknown    int
}

// tick is the next moment.
func (h *history) tick() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now++
	return h.now
}

func (h *history) operate(c *cluster, client, n int, random *rand.Rand) {
	table := c.table(c.ids[random.IntN(len(c.ids))])
	if table == nil {
		return
	}
	in := request{key: string(rune('x' + random.IntN(3))), value: fmt.Sprint(client, "/", n)}
	in.op = []string{"get", "get", "put", "swap", "delete"}[random.IntN(5)]
	ctx, cancel := context.WithTimeout(c.Context(), 15*testTick)
	defer cancel()
	if in.op == "swap" {
		if got, ok := h.do(ctx, table, client, request{op: "get", key: in.key}); ok {
			in.expect = got.revision
		}
	}
	h.do(ctx, table, client, in)
}

// do carries out an operation and notes it. An unknown outcome of a write stays open until the end.
func (h *history) do(ctx context.Context, table *Table, client int, in request) (answer, bool) {
	begun := h.tick()
	var out answer
	var err error
	switch in.op {
	case "get":
		var e fabric.Entry
		e, err = table.Get(ctx, in.key)
		out.value, out.revision = string(e.Value), e.Revision
	case "put":
		out.revision, err = table.Put(ctx, in.key, []byte(in.value))
	case "swap":
		out.revision, err = table.CompareAndSwap(ctx, in.key, in.expect, []byte(in.value))
	case "delete":
		err = table.Delete(ctx, in.key, 0)
	}
	switch {
	case err == nil:
		out.outcome = "ok"
	case errors.Is(err, fabric.ErrNotFound):
		out.outcome = "missing"
	case errors.Is(err, fabric.ErrConflict):
		out.outcome = "conflict"
	default:
		out.outcome = "unknown"
	}
	ended := h.tick()
	h.mu.Lock()
	defer h.mu.Unlock()
	if out.outcome == "unknown" {
		h.unknown++
		if in.op == "get" {
			return out, false
		}
	}
	h.operations = append(h.operations, porcupine.Operation{
		ClientId: client, Input: in, Output: out, Call: begun, Return: ended,
	})
	return out, out.outcome != "unknown"
}

// complete resolves the unknown writes as far as reads tell: one whose value was read happened with that revision. All of them are open until
// the end, because they may have happened at any later time, or at the end, which is as good as never.
func (h *history) complete() []porcupine.Operation {
	revisions, end := map[string]uint64{}, h.tick()
	for _, o := range h.operations {
		if in, out := o.Input.(request), o.Output.(answer); in.op == "get" && out.outcome == "ok" {
			revisions[in.key+out.value] = out.revision
		}
	}
	var all []porcupine.Operation
	for _, o := range h.operations {
		in, out := o.Input.(request), o.Output.(answer)
		if out.outcome == "unknown" {
			o.Return = end
			out.revision = revisions[in.key+in.value]
			if out.revision == 0 {
				out.outcome = "unseen"
			}
			o.Output = out
		}
		all = append(all, o)
	}
	return all
}
