package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/fabric"
	"orrery/fabric/chain"
	"orrery/fabric/chain/placement"
	"orrery/internal/commandline"
)

func (c *cli) kvRecover() *cobra.Command {
	var from string
	var empty, try, accept, force bool
	cmd := &cobra.Command{
		Use:   "recover CHAIN|BUCKET",
		Short: "Let a chain begin anew of which every replica that served is lost for good",
		Long: `A chain whose replicas are all gone waits for one of those that served last, which has all that was acknowledged. Start such a node, with its disk: the chain goes on.
Only where none of them will ever return, recover begins the chain anew with the best of what remains: a replica that was being filled, or one that had been removed before. What was
acknowledged after it is lost, and clients may see older values than they have seen. With a bucket's name it does so for each of its chains that is lost.`,
		Args: commandline.Exactly("CHAIN|BUCKET"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			if try == accept {
				return commandline.Usage(errors.New("say --dry-run to see what may be lost, or --accept-data-loss to do it"))
			}
			r := recovery{cli: c, client: client, names: nodeNames(ctx, client)}
			r.request = placement.RecoverRequest{Empty: empty, Force: force, Try: try, By: caller()}
			if from != "" {
				id, err := nodeNamed(ctx, client, from)
				if err != nil {
					return err
				}
				r.request.From = id
			}
			ids, err := lostChains(ctx, client, args[0])
			if err != nil {
				return err
			}
			return r.all(ctx, ids)
		}),
	}
	cmd.Flags().StringVar(&from, "from", "", "begin with what this node has, not with the replica that has most")
	cmd.Flags().BoolVar(&empty, "empty", false, "begin with no keys, whatever remains")
	cmd.Flags().BoolVar(&try, "dry-run", false, "only say what would be done, and what may be lost")
	cmd.Flags().BoolVar(&accept, "accept-data-loss", false, "do it")
	cmd.Flags().BoolVar(&force, "force", false, "give up also nodes that are only silent, and may have everything")
	return cmd
}

// lostChains are the chains that are meant: one by its number, or all of a bucket that are lost.
func lostChains(ctx context.Context, client *agent.Client, name string) ([]chain.ID, error) {
	if id, err := parseChain(name); err == nil {
		return []chain.ID{id}, nil
	}
	o, err := client.Chains().Overview(ctx)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(o.Buckets, func(b placement.Bucket) bool { return b.Name == name }) {
		return nil, fmt.Errorf("bucket %s: %w", name, fabric.ErrNotFound)
	}
	var ids []chain.ID
	for _, v := range o.Chains {
		lost := func(m placement.MemberView) bool { return m.State != chain.Serving || m.Gone != "" }
		if v.Bucket == name && !slices.ContainsFunc(v.Members, func(m placement.MemberView) bool { return !lost(m) }) {
			ids = append(ids, v.ID)
		}
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("bucket %s: no chain of it is lost (see orrery kv chains)", name)
	}
	return ids, nil
}

// recovery recovers chains, and says what that means.
type recovery struct {
	*cli
	client  *agent.Client
	names   map[fabric.NodeID]string
	request placement.RecoverRequest
}

// recovered is what is told of a chain.
type recovered struct {
	Chain chain.ID `json:"chain"`
	placement.Recovery
}

func (r *recovery) all(ctx context.Context, ids []chain.ID) error {
	var done []recovered
	var errs []error
	for _, id := range ids {
		q := r.request
		q.Chain = id
		// What is about to be lost is said before it is done.
		if !q.Try {
			q.Try = true
			if plan, err := r.client.Chains().Recover(ctx, q); err == nil {
				r.say(id, plan, "begins anew")
			}
			q.Try = false
		}
		got, err := r.client.Chains().Recover(ctx, q)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if q.Try {
			r.say(id, got, "would begin anew")
		}
		done = append(done, recovered{id, *got})
	}
	if r.output == "json" {
		errs = append(errs, r.json(done))
	}
	return errors.Join(errs...)
}

// say says with what a chain begins, and what may be lost.
func (r *recovery) say(id chain.ID, p *placement.Recovery, verb string) {
	with := fmt.Sprintf("with what node %s has, up to entry %d", withNames(string(p.Node), r.names), p.Has)
	if p.Empty {
		with = fmt.Sprintf("with no keys, on node %s", withNames(string(p.Node), r.names))
	}
	r.line("chain %d %s %s: %s", id, verb, with, loss(p))
	if len(p.Waits) > 0 {
		all := make([]string, 0, len(p.Waits))
		for _, n := range p.Waits {
			all = append(all, withNames(string(n), r.names))
		}
		r.line("  it need not be: %s may return with everything that was acknowledged; only --force gives that up", strings.Join(all, ", "))
	}
}

// loss says what a recovery may have lost.
func loss(p *placement.Recovery) string {
	switch {
	case p.Known == 0:
		return "nobody knows how much was acknowledged after it"
	case p.Known > p.Has:
		return fmt.Sprintf("%d entries or more after it are lost (%d is the newest one that anybody has reported)", p.Known-p.Has, p.Known)
	}
	return "nobody has reported a later one, but there may have been some"
}

// recoveredText says of a chain that it was recovered.
func recoveredText(p *placement.Recovery) string {
	by := p.By
	if by == "" {
		by = "the keeper, because all had crashed,"
	}
	return fmt.Sprintf("begun anew by %s at %s from %s: %s", by, time.UnixMilli(p.At).UTC().Format(time.RFC3339), p.Node, loss(p))
}

// nodeNames are the names of the nodes that are known; none if they cannot be had.
func nodeNames(ctx context.Context, client *agent.Client) map[fabric.NodeID]string {
	names := map[fabric.NodeID]string{}
	if members, err := client.Members(ctx); err == nil {
		for _, m := range members {
			names[m.ID] = m.Name
		}
	}
	return names
}

// withNames puts names in the place of nodes' ids.
func withNames(text string, names map[fabric.NodeID]string) string {
	for id, name := range names {
		text = strings.ReplaceAll(text, string(id), name)
	}
	return text
}
