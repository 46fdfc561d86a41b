package node_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/conn"
	"orrery/fabric/chain/node/nodetest"
	"orrery/fabric/chain/wire"
	"orrery/fabric/rpc"
	"orrery/internal/testenv"
)

// TestRange: keys that the chain does not have any more are not read, whatever the replica's store still has of them, and however old the map is of who asks.
func TestRange(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster := nodetest.Start(t, 2, "b")
	b := cluster.Client("writer", fabric.RoleOperator).Bucket("b")
	for _, key := range []string{"a", "z"} {
		if _, err := b.Put(ctx, []byte(key), []byte("v")); err != nil {
			t.Fatal(err)
		}
	}
	cluster.Change(func(m *chain.Map) { m.Chains[0].Range.End, m.Chains[0].Epoch = []byte("m"), 2 })
	for i, n := range cluster.Nodes {
		testenv.Eventually(t, "the config to be taken over", func() bool { return n.Node.Status()[0].Epoch == 2 })
		raw, err := rpc.DialNode(ctx, n.Authority, n.Address, n.ID, wire.Protocol)
		if err != nil {
			t.Fatal(err)
		}
		c := conn.New(raw, conn.Config{Framing: wire.Framing})
		ask := func(q chain.Request) (a chain.Answer) {
			t.Helper()
			for a.Err = chain.ErrNotServing; errors.Is(a.Err, chain.ErrNotServing) && ctx.Err() == nil; { // it has yet to hear of the config
				q.ID, q.Chain = 1, 1
				if err := c.Write(wire.AppendRequest(nil, &q)); err != nil {
					t.Fatal(err)
				}
				frame, err := c.Read()
				if err == nil {
					err = wire.DecodeAnswer(frame, &a)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			return a
		}
		for _, consistency := range []chain.Consistency{chain.Strong, chain.Eventual} {
			if a := ask(chain.Request{Ask: chain.AskGet, Keys: [][]byte{[]byte("a")}, Consistency: consistency}); a.Err != nil || len(a.Items) != 1 || string(a.Items[0].Value.Value) != "v" {
				t.Errorf("node %d: %+v", i, a)
			}
			for name, q := range map[string]chain.Request{
				"a key":     {Ask: chain.AskGet, Keys: [][]byte{[]byte("z")}, Consistency: consistency},
				"some keys": {Ask: chain.AskGet, Keys: [][]byte{[]byte("a"), []byte("z")}, Consistency: consistency},
				"a range":   {Ask: chain.AskScan, Range: chain.Range{Start: []byte("a")}, Consistency: consistency, Limit: 10},
			} {
				if a := ask(q); !errors.Is(a.Err, chain.ErrOutOfRange) {
					t.Errorf("node %d, %s: %+v", i, name, a)
				}
			}
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
}
