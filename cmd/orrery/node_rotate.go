package main

import (
	"context"
	"slices"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/fabric/rotation"
	"orrery/internal/commandline"
)

func (c *cli) nodeRotateKey() *cobra.Command {
	return &cobra.Command{
		Use:   "rotate-key",
		Short: "Change the key that encrypts the gossip, on all nodes",
		Long: `Change the key that encrypts the gossip between nodes, while they go on: all nodes learn the new one, then all use it, then all forget the old one. Nodes that
are away catch up when they are back. What was interrupted goes on when the command is run again, on any node. orrery node evict does this by itself.`,
		Args: commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			steps := []rotation.Step{}
			record, err := client.RotateKey(ctx, func(s rotation.Step) {
				steps = append(steps, s)
				if c.output != "json" {
					c.line("%s", rotationLine(s))
				}
			})
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(struct {
					rotation.Record
					Steps []rotation.Step `json:"steps"`
				}{record, steps})
			}
			c.line("the gossip has key %s (rotation %d)", record.Key, record.Serial)
			if slices.ContainsFunc(steps, func(s rotation.Step) bool { return s.Away != "" }) {
				c.line("nodes that are away take it when they are back")
			}
			return nil
		}),
	}
}

func rotationLine(s rotation.Step) string {
	if s.Away != "" {
		return "node " + s.Name + " is away: " + s.Away
	}
	did := map[rotation.Phase]string{rotation.Adding: "has the new key", rotation.Using: "uses it", rotation.Removing: "has forgotten the others"}
	return "node " + s.Name + " " + did[s.Phase]
}
