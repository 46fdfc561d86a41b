package main

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
)

func (c *cli) nodeEvict() *cobra.Command {
	var q agent.EvictRequest
	cmd := &cobra.Command{
		Use:   "evict NAME|ID",
		Short: "Put a node that is lost, or not to be trusted any more, out of the cluster for good",
		Long: `Put a node that is lost, or not to be trusted any more, out of the cluster for good; any other node can be asked. All nodes refuse its certificate
and end its connections, its replicas are made anew elsewhere, its vote, its name and its sessions go. What was
interrupted goes on when the command is run again.

It is refused while services, or the only replica of a chain, are on the node, and while it is alive.`,
		Args: commandline.Exactly("NAME|ID"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			q.Node = args[0]
			plan, err := client.Evict(ctx, q, func(step string) {
				if c.output != "json" {
					c.line("done: %s", step)
				}
			})
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(plan)
			}
			c.showEviction(plan, q.DryRun)
			return nil
		}),
	}
	cmd.Flags().BoolVar(&q.DryRun, "dry-run", false, "say what would be done and lost, and do nothing")
	cmd.Flags().BoolVar(&q.Force, "force", false, "also if services or the only replica of a chain are lost with it")
	cmd.Flags().BoolVar(&q.Alive, "alive", false, "also if it is alive")
	cmd.Flags().StringVar(&q.Why, "why", "", "a reason, which is kept and told to the node")
	return cmd
}

func (c *cli) showEviction(p agent.EvictPlan, dry bool) {
	if dry {
		state := p.State
		if state == "" {
			state = "not known to the membership"
		}
		c.line("node %s (%s), %s, would be put out; %d replicas of chains would be made anew", p.Name, p.ID, state, p.Replicas)
		for _, step := range p.Steps {
			c.line("to do: %s", step)
		}
		if p.Refused != "" {
			c.line("it would be refused: %s", p.Refused)
		}
	} else {
		c.line("node %s (%s) is out of the cluster", p.Name, p.ID)
	}
	for _, lost := range p.Lost {
		c.line("lost with it: %s", lost)
	}
	if len(p.Services) > 0 {
		c.line("to bring its services up elsewhere, give them other nodes in their manifest's distribution and run orrery deploy apply; orrery deploy plan says with what state")
	}
}

func (c *cli) nodeEvicted() *cobra.Command {
	return &cobra.Command{
		Use:   "evicted",
		Short: "List the nodes and people who were put out of the cluster",
		Args:  commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			all, err := client.Evictions(ctx)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, e := range all {
				state := "out"
				if e.Done.IsZero() {
					state = "not finished: run orrery node evict " + string(e.ID) + " again"
				}
				rows = append(rows, []string{e.Name, string(e.ID), string(e.Role), ago(e.Begun), e.By, orDash(e.Why), state, orDash(strings.Join(e.Lost, ", "))})
			}
			return c.table(all, []string{"name", "id", "role", "since", "by", "why", "state", "lost"}, rows)
		}),
	}
}

func (c *cli) loginList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the people who have a certificate",
		Args:  commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			all, err := client.People(ctx)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, p := range all {
				days := max(0, int(time.Until(p.Expires)/(24*time.Hour)))
				rows = append(rows, []string{p.Name, string(p.ID), string(p.Role), ago(p.Admitted), "in " + strconv.Itoa(days) + " days"})
			}
			return c.table(all, []string{"name", "id", "role", "admitted", "expires"}, rows)
		}),
	}
}

func (c *cli) loginRevoke() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "revoke NAME|ID",
		Short: "Take the certificates of a person away, or the one with an id; they are refused from now on",
		Args:  commandline.Exactly("NAME|ID"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			revoked, err := client.Revoke(ctx, agent.RevokeRequest{Who: args[0], Why: why})
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(revoked)
			}
			for _, p := range revoked {
				c.line("the certificate of %s %s (%s) is refused", p.Role, p.Name, p.ID)
			}
			return nil
		}),
	}
	cmd.Flags().StringVar(&why, "why", "", "a reason, which is kept and told to the person")
	return cmd
}
