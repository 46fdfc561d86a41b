package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/internal/commandline"
)

func (c *cli) kvCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kv",
		Short: "Keep keys and values on several nodes, strongly consistent",
		Long: `A bucket is a key space that is kept by chains: each has the keys of a range, on as many nodes as the bucket's factor says. A write is
acknowledged when all replicas of its chain have it on their disks; every replica answers reads. Nodes that fail are replaced, chains that become large are
split, and replicas move to where there is less to do, all by themselves: see orrery kv chains.`,
	}
	cmd.AddCommand(c.kvGet(), c.kvPut(), c.kvDelete(), c.kvCas(), c.kvIncr(), c.kvAppend(), c.kvScan(), c.kvWatch(), c.kvTxn(), c.kvBench(),
		c.kvChains(), c.kvMigrate(), c.kvBucket(), c.kvMove(), c.kvSplit(), c.kvDrain(), c.kvRecover())
	return cmd
}

func (c *cli) kvBucket() *cobra.Command {
	cmd := &cobra.Command{Use: "bucket", Short: "Create, list and delete buckets"}
	cmd.AddCommand(c.kvBucketCreate(), c.kvBucketList(), c.kvBucketDelete())
	return cmd
}

func (c *cli) kvBucketCreate() *cobra.Command {
	var factor int
	var splits []string
	var durability string
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create a bucket",
		Args:  commandline.Exactly("NAME"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			kind, ok := durabilities[durability]
			if !ok {
				return commandline.Usage(fmt.Errorf("--durability %s: it can be synced or replicated", durability))
			}
			b := placement.Bucket{Name: args[0], Factor: factor, Durability: kind}
			for _, s := range splits {
				b.Splits = append(b.Splits, []byte(s))
			}
			if err := client.Chains().CreateBucket(ctx, b); err != nil {
				return fmt.Errorf("cannot create bucket %s: %w", args[0], err)
			}
			c.line("created bucket %s with %d partitions; orrery kv chains shows them", args[0], len(splits)+1)
			return nil
		}),
	}
	cmd.Flags().IntVar(&factor, "factor", 3, "on how many nodes each key is; fewer while there are fewer nodes")
	cmd.Flags().StringVar(&durability, "durability", "synced", "synced: a write is acknowledged when it is on the disks of all replicas; replicated: when it is in the memory of all, and "+
		"on disks within 100 ms, so that if all of a chain's nodes crash or lose power the last writes may be lost")
	cmd.Flags().StringArrayVar(&splits, "split", nil, "a key at which to cut the bucket into partitions from the beginning (may be given again, in order)")
	return cmd
}

var durabilities = map[string]placement.Durability{"synced": placement.Synced, "replicated": placement.Replicated}

func (c *cli) kvBucketList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the buckets",
		Args:  commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			o, err := client.Chains().Overview(ctx)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, b := range o.Buckets {
				chains := 0
				for _, v := range o.Chains {
					if v.Bucket == b.Name {
						chains++
					}
				}
				state := map[placement.BucketState]string{placement.Creating: "creating", placement.Ready: "ready", placement.Deleting: "deleting"}[b.State]
				durability := ""
				for name, d := range durabilities {
					if d == b.Durability {
						durability = name
					}
				}
				rows = append(rows, []string{b.Name, strconv.Itoa(b.Factor), durability, strconv.Itoa(chains), state})
			}
			return c.table(o.Buckets, []string{"name", "factor", "durability", "chains", "state"}, rows)
		}),
	}
}

func (c *cli) kvBucketDelete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete a bucket and all its keys",
		Args:  commandline.Exactly("NAME"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			if err := client.Chains().DeleteBucket(ctx, args[0]); err != nil {
				return fmt.Errorf("cannot delete bucket %s: %w", args[0], err)
			}
			c.line("bucket %s is being deleted", args[0])
			return nil
		}),
	}
}

func (c *cli) kvChains() *cobra.Command {
	return &cobra.Command{
		Use:   "chains",
		Short: "Show which nodes have what, and what is under way",
		Long: `Where nobody keeps the chain table, because a majority of the nodes that vote on it is missing, it shows what the node knew last, says so with the
nodes that are missing, and ends with status 1.`,
		Args: commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			o, err := client.Chains().Known(ctx)
			if err != nil {
				return err
			}
			names := nodeNames(ctx, client)
			if o.Stale == nil {
				addEvicted(ctx, client, names)
			}
			var rows [][]string
			for _, v := range o.Chains {
				rows = append(rows, chainRow(&v, names))
			}
			err = c.table(o, []string{"chain", "bucket", "keys", "epoch", "head to tail", "committed", "size", "waits for, or last change"}, rows)
			return errors.Join(err, stale(o, names))
		}),
	}
}

// addEvicted adds the nodes that were put out, which are no members any more.
func addEvicted(ctx context.Context, client *agent.Client, names map[fabric.NodeID]string) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	all, err := client.Evictions(ctx)
	if err != nil {
		return // their ids will do
	}
	for _, e := range all {
		if e.Role == fabric.RoleNode {
			names[e.ID] = e.Name + ", evicted"
		}
	}
}

// stale says why what is shown is only what was known last; nil: it is not.
func stale(o *placement.Overview, names map[fabric.NodeID]string) error {
	if o.Stale == nil {
		return nil
	}
	return fmt.Errorf("what is shown is what the node knew last: %s (docs/operations.md, The majority is lost)", withNames(o.Stale.String(), names))
}

// chainRow is a line of orrery kv chains.
func chainRow(v *placement.ChainView, names map[fabric.NodeID]string) []string {
	members := make([]string, 0, len(v.Members))
	var committed, size uint64
	for _, m := range v.Members {
		text := withNames(string(m.Node), names)
		switch {
		case m.Gone != "":
			text += " (gone)"
		case m.State == chain.Joining:
			text += " (joining)"
		case m.State == chain.Syncing:
			text += " (syncing)"
		}
		if m.Status != nil {
			committed, size = max(committed, m.Status.Committed), max(size, m.Status.Bytes)
		}
		members = append(members, text)
	}
	why := v.Waits
	if why == "" {
		why = v.Reason
	}
	if v.Unsynced {
		why += "; not synced: if all its nodes crash, writes of the last 100 ms may be lost"
	}
	if v.Recovery != nil {
		why += "; " + recoveredText(v.Recovery)
	}
	return []string{
		strconv.FormatUint(uint64(v.ID), 10), v.Bucket, agent.KeyRange(v.Range), strconv.FormatUint(v.Epoch, 10), strings.Join(members, ", "),
		strconv.FormatUint(committed, 10), size64(size), withNames(why, names),
	}
}

func size64(n uint64) string { return commandline.Size(int64(min(n, 1<<62))) } //nolint:gosec // bounded

func parseChain(text string) (chain.ID, error) {
	id, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, commandline.Usage(fmt.Errorf("%q is no chain's number (see orrery kv chains)", text))
	}
	return chain.ID(id), nil
}

// nodeNamed finds a node by its name or id.
func nodeNamed(ctx context.Context, client *agent.Client, name string) (fabric.NodeID, error) {
	members, err := client.Members(ctx)
	if err != nil {
		return "", err
	}
	for _, m := range members {
		if m.Name == name || string(m.ID) == name {
			return m.ID, nil
		}
	}
	return "", fmt.Errorf("node %s: %w", name, fabric.ErrNotFound)
}

func (c *cli) kvMove() *cobra.Command {
	return &cobra.Command{
		Use:   "move CHAIN FROM TO",
		Short: "Move a chain's replica from one node to another",
		Args:  commandline.Exactly("CHAIN", "FROM", "TO"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			id, err := parseChain(args[0])
			if err != nil {
				return err
			}
			from, err := nodeNamed(ctx, client, args[1])
			if err != nil {
				return err
			}
			to, err := nodeNamed(ctx, client, args[2])
			if err != nil {
				return err
			}
			if err := client.Chains().Move(ctx, id, from, to); err != nil {
				return err
			}
			c.line("chain %d moves from %s to %s", id, args[1], args[2])
			return nil
		}),
	}
}

func (c *cli) kvSplit() *cobra.Command {
	return &cobra.Command{
		Use:   "split CHAIN KEY",
		Short: "Cut a chain in two at a key",
		Args:  commandline.Exactly("CHAIN", "KEY"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			id, err := parseChain(args[0])
			if err != nil {
				return err
			}
			if err := client.Chains().Split(ctx, id, []byte(args[1])); err != nil {
				return err
			}
			c.line("chain %d is being split at %q", id, args[1])
			return nil
		}),
	}
}

func (c *cli) kvDrain() *cobra.Command {
	var undo bool
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move all replicas away from a node, and put no others there",
		Args:  commandline.Exactly("NODE"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			id, err := nodeNamed(ctx, client, args[0])
			if err != nil {
				return err
			}
			if err := client.Chains().Drain(ctx, id, !undo); err != nil {
				return err
			}
			if undo {
				c.line("node %s may hold replicas again", args[0])
			} else {
				c.line("node %s is being drained; orrery kv chains shows when no chain has a replica there", args[0])
			}
			return nil
		}),
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "let the node hold replicas again")
	return cmd
}
