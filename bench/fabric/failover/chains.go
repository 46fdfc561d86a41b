package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"orrery/bench/internal/nodes"
	"orrery/fabric"
	"orrery/fabric/authority"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/fabric/client"
)

const bucket = "bench"

var places = []string{"head of a chain", "middle of a chain", "tail of a chain"}

// killChains kills the node of each place of a chain in turn, and then the one that keeps the chain table. One that is both counts as the latter.
func killChains(ctx context.Context, binary, dir string, rounds int, t *table) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	c, err := nodes.Start(ctx, binary, dir, "one", "two", "three")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	if err := create(ctx, c); err != nil {
		return err
	}
	for range rounds {
		for place := range len(places) + 1 {
			if err := killPlace(ctx, c, place, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// create makes the bucket, as soon as there is a keeper.
func create(ctx context.Context, c *nodes.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		_, err := c.Run(ctx, c.Nodes[0], "kv", "bucket", "create", bucket, "--factor", "3")
		if err == nil {
			return nil
		}
		if !wait(ctx, attempt) {
			return err
		}
	}
}

func killPlace(ctx context.Context, c *nodes.Cluster, place int, t *table) error {
	o, err := whole(ctx, c)
	if err != nil {
		return err
	}
	victim, name := o.Keeper, "the keeper, which is in the chain"
	if place < len(places) && o.Chains[0].Members[place].Node != o.Keeper {
		victim, name = o.Chains[0].Members[place].Node, places[place]
	}
	var members []fabric.Member
	if err := c.Ask(ctx, c.Nodes[0], &members, "members"); err != nil {
		return err
	}
	var addresses []string
	var killed *nodes.Node
	for _, m := range members {
		addresses = append(addresses, m.Address)
		for _, n := range c.Nodes {
			if m.ID == victim && n.Name == m.Name {
				killed = n
			}
		}
	}
	if killed == nil {
		return fmt.Errorf("no node is %s", victim)
	}
	holder, err := authority.Open(filepath.Join(c.Nodes[0].Dir, "identity"))
	if err != nil {
		return err
	}
	open := func(ctx context.Context) (session, error) {
		c, err := client.Open(ctx, client.Config{Nodes: addresses, Authority: holder})
		if err != nil {
			return nil, err
		}
		return chainSession{c, c.Bucket(bucket)}, nil
	}
	out, err := watch(ctx, open, killed.Kill)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	t.add(name, out)
	return c.Restart(ctx, killed)
}

// whole waits until the chain has three serving replicas and nothing is under way.
func whole(ctx context.Context, c *nodes.Cluster) (o placement.Overview, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*most)
	defer cancel()
	for {
		o = placement.Overview{}
		err := c.Ask(ctx, c.Nodes[0], &o, "kv", "chains")
		o.Chains = slices.DeleteFunc(o.Chains, func(c placement.ChainView) bool { return c.Bucket != bucket }) // the nodes have one of their own
		if err == nil && isWhole(o) {
			return o, nil
		}
		if !wait(ctx, attempt) {
			return o, fmt.Errorf("the chain does not become whole: %w", errors.Join(ctx.Err(), err))
		}
	}
}

func isWhole(o placement.Overview) bool {
	if len(o.Chains) != 1 || len(o.Chains[0].Members) != 3 || o.Chains[0].Waits != "" {
		return false
	}
	for _, m := range o.Chains[0].Members {
		if m.State != chain.Serving || m.Gone != "" {
			return false
		}
	}
	return true
}

type chainSession struct {
	client *client.Client
	bucket *client.Bucket
}

func (s chainSession) Get(ctx context.Context, key string) error {
	_, err := s.bucket.Get(ctx, []byte(key))
	return err
}

func (s chainSession) Put(ctx context.Context, key, value string) error {
	_, err := s.bucket.Put(ctx, []byte(key), []byte(value))
	return err
}

func (s chainSession) Close() error { return s.client.Close() }
