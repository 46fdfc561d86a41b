package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
)

func (c *cli) kvMigrate() *cobra.Command {
	var dry bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Move placements, routes and sessions of an older cluster from the Raft table to a bucket",
		Long: `Clusters that were made by this version keep placements, journals, manifests, backups, routes and sessions in the bucket system of the replicated store. Older ones
have them in the Raft table, which goes on to work. This moves them, once all nodes run this version and answer. Calls that come meanwhile wait, and
go on with the bucket; services and their traffic notice nothing. What was interrupted the cluster ends by itself; the command can be run
again, on any node, and says how it is. There is no way back, and nodes of an older version cannot be part of the cluster afterwards.`,
		Args: commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			m, err := client.MoveShared(ctx, dry, func(step string) {
				if c.output != "json" {
					c.line("done: %s", step)
				}
			})
			if err != nil {
				return err
			}
			return c.showMove(m)
		}),
	}
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only say whether it can be done")
	return cmd
}

func (c *cli) showMove(m agent.Move) error {
	switch {
	case c.output == "json":
		if err := c.json(m); err != nil {
			return err
		}
	case m.Phase == "moved":
		c.line("the shared keys are in bucket system: %d keys of %d bytes", m.Keys, m.Bytes)
	case m.Phase != "":
		c.line("the shared keys are on their way to bucket system (%s)", m.Phase)
	default:
		if err := c.showAble(m); err != nil {
			return err
		}
	}
	if m.Problem != "" {
		return errors.New("the shared keys cannot be moved: " + m.Problem)
	}
	return nil
}

// showAble lists the nodes, and says what would be moved.
func (c *cli) showAble(m agent.Move) error {
	var rows [][]string
	for _, n := range m.Nodes {
		can := "yes"
		if n.Err != "" {
			can = n.Err
		}
		rows = append(rows, []string{n.Name, string(n.Node), can})
	}
	err := c.table(m, []string{"node", "id", "can follow"}, rows)
	if m.Problem == "" {
		c.line("%d keys of %d bytes are in the Raft table, and can be moved", m.Keys, m.Bytes)
	}
	return err
}
