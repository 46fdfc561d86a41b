package main

import (
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
)

func (c *cli) nodeFind() *cobra.Command {
	var settings agent.Settings
	var cluster string
	var long time.Duration
	cmd := &cobra.Command{
		Use:   "find",
		Short: "List the nodes that can be seen from this machine, and by which way",
		Long: `List the nodes that can be seen from this machine, of any cluster, and by which way each is seen. No node needs
to run here. What is listed proves nothing yet: a node shows who it is when it is connected to. Ways that do not work are named on standard error.`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			sight, err := agent.Look(cmd.Context(), c.dir, settings, cluster, long)
			if err != nil {
				return err
			}
			for _, p := range sight.Problems {
				fmt.Fprintln(c.stderr, "does not work:", p)
			}
			var rows [][]string
			for _, n := range sight.Nodes {
				rows = append(rows, []string{orDash(plain(n.Name)), orDash(plain(string(n.ID))), orDash(plain(n.Cluster)), plain(n.RPC), orDash(plain(n.Gossip)), n.Via})
			}
			return c.table(sight, []string{"name", "id", "cluster", "address", "gossip", "found by"}, rows)
		},
	}
	cmd.Flags().StringVar(&cluster, "cluster", "", "only nodes of the cluster with this id")
	cmd.Flags().DurationVar(&long, "for", 7*time.Second, "how long to look; nodes send beacons every 5 seconds")
	cmd.Flags().BoolVar(&settings.Loopback, "loopback", false, "look on this machine only")
	discoveryFlag(cmd, &settings)
	return cmd
}

// plain shows what came from strangers without what would move the terminal's cursor.
func plain(s string) string {
	quoted := strconv.QuoteToGraphic(s)
	return quoted[1 : len(quoted)-1]
}
