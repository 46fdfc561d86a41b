package client_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/node/nodetest"
)

// A bucket of which no node knows yet, although it is in the chain table, is found, by every kind of request.
func TestUnknownBucket(t *testing.T) {
	ctx := within(t)
	cluster := nodetest.Start(t, 2, "things")
	c := cluster.Client("ann", fabric.RoleOperator)
	for i, ask := range []func(bucket string) error{
		func(bucket string) error {
			_, err := c.Bucket(bucket).Put(ctx, []byte("a"), nil)
			return err
		},
		func(bucket string) error {
			_, err := c.Bucket(bucket).MultiGet(ctx, [][]byte{[]byte("a"), []byte("b")})
			return err
		},
		func(bucket string) error {
			_, _, _, err := c.Bucket(bucket).Page(ctx, chain.Range{}, 10)
			return err
		},
		func(bucket string) error {
			for _, err := range c.Bucket(bucket).Watch(ctx, chain.Range{}, nil) {
				return err
			}
			return nil
		},
	} {
		name := fmt.Sprint("new-", i)
		var asked atomic.Int32
		catchUp := func(ctx context.Context) error {
			if asked.Add(1) == 1 {
				cluster.Change(func(m *chain.Map) {
					config := chain.Config{ID: chain.ID(100 + i), Bucket: name, Epoch: 1} //nolint:gosec // small
					for _, n := range cluster.Nodes {
						config.Members = append(config.Members, chain.Member{Replica: n.Replica(), State: chain.Serving})
					}
					m.Chains = append(m.Chains, config)
				})
			}
			return ctx.Err()
		}
		cluster.CatchUp.Store(&catchUp)
		if err := ask(name); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
		if n := asked.Load(); n == 0 {
			t.Errorf("request %d: nobody was asked for the latest map", i)
		}
	}
}

// As long as no node can say that it has all of the chain table, nobody says that there is no bucket.
func TestUnknownBucketWithoutQuorum(t *testing.T) {
	cluster := nodetest.Start(t, 2, "things")
	b := cluster.Client("ann", fabric.RoleOperator).Bucket("new")
	lost := func(context.Context) error { return fmt.Errorf("the table: %w", fabric.ErrNoQuorum) }
	cluster.CatchUp.Store(&lost)
	ctx, cancel := context.WithTimeout(within(t), 300*time.Millisecond)
	defer cancel()
	_, err := b.Put(ctx, []byte("a"), nil)
	if errors.Is(err, fabric.ErrNotFound) || !errors.Is(err, fabric.ErrNoQuorum) || !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), `bucket "new"`) {
		t.Errorf("%v", err)
	}
	cluster.CatchUp.Store(nil)
	if _, err := b.Put(within(t), []byte("a"), nil); !errors.Is(err, fabric.ErrNotFound) {
		t.Errorf("%v", err)
	}
}
