package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/fabric"
	"orrery/internal/commandline"
)

func (c *cli) nodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Make this machine a node of a cluster, and run it",
	}
	cmd.AddCommand(c.nodeInit(), c.nodeMetrics(), c.nodeJoin(), c.nodeRun(), c.nodeToken(), c.nodeLeave(), c.nodeEvict(), c.nodeEvicted(), c.nodeRotateKey(), c.nodeFind())
	return cmd
}

func nodeFlags(cmd *cobra.Command, s *agent.Settings) {
	cmd.Flags().StringVar(&s.Name, "name", "", "the node's name in the cluster, a DNS label (default: the host's name)")
	cmd.Flags().StringVar(&s.Listen, "listen", ":7373", "address for other nodes (mutual TLS); port 0 is chosen once and kept")
	cmd.Flags().StringVar(&s.Gossip, "gossip", ":7374", "address for the membership's gossip; port 0 is chosen once and kept")
	cmd.Flags().StringVar(&s.Dashboard, "dashboard", "127.0.0.1:7375", "loopback address of the dashboard; port 0 is chosen once and kept")
	cmd.Flags().StringVar(&s.Advertise, "advertise", "", "the host at which others reach this machine (default: its first address)")
	cmd.Flags().StringVar(&s.Zone, "zone", "", "what machines that may fail together have in common, such as a rack; replicas are spread over zones")
	cmd.Flags().StringSliceVar(&s.Roles, "roles", nil, "words for what the machine is for, separated by commas; members shows them")
	cmd.Flags().BoolVar(&s.Loopback, "loopback", false, "a cluster on this machine alone: listen and look for others on loopback only")
	discoveryFlag(cmd, s)
}

func discoveryFlag(cmd *cobra.Command, s *agent.Settings) {
	cmd.Flags().StringVar(&s.Discovery, "discovery", "", "how nodes are found, separated by commas: mdns, beacon, remembered, file, file=PATH, seed=HOST:PORT, srv=DOMAIN; "+
		"default stands for "+agent.DefaultDiscovery)
}

func (c *cli) nodeInit() *cobra.Command {
	var settings agent.Settings
	var cluster string
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Create a cluster, with this machine as its first node",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			identity, err := agent.Init(cmd.Context(), c.dir, cluster, settings)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(identity)
			}
			c.line("created cluster %s (%s) with node %s (%s) in %s", cluster, identity.Cluster, identity.Name, identity.ID, c.dir)
			c.line("next: orrery node run --dir %s", c.dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&cluster, "cluster", "orrery", "a name for the cluster, for people")
	nodeFlags(cmd, &settings)
	return cmd
}

func (c *cli) nodeJoin() *cobra.Command {
	var settings agent.Settings
	var address string
	cmd := &cobra.Command{
		Use:   "join TOKEN",
		Short: "Make this machine a node of the cluster that issued the token",
		Long: `Make this machine a node of the cluster that issued the token (orrery node token, on any node). The
cluster is found on the network by itself; --address names a node where it is not.`,
		Args: commandline.Exactly("TOKEN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			joined, err := agent.Join(cmd.Context(), c.dir, args[0], address, fabric.RoleNode, settings)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(joined)
			}
			c.line("joined cluster %s as node %s (%s); the cluster was found by %s", joined.Identity.Cluster, joined.Identity.Name, joined.Identity.ID, joined.Via)
			c.line("next: orrery node run --dir %s", c.dir)
			return nil
		},
	}
	cmd.Flags().StringVar(&address, "address", "", "host:port of a node, where discovery does not find one")
	nodeFlags(cmd, &settings)
	return cmd
}

func (c *cli) loginCommand() *cobra.Command {
	var settings agent.Settings
	var address string
	cmd := &cobra.Command{
		Use:   "login TOKEN",
		Short: "Let this machine talk to a cluster without being a node of it",
		Long: `Redeem a token with role developer, operator or viewer for a certificate, kept in --dir. Commands with
that --dir then talk to the cluster's nodes over mutual TLS.`,
		Args: commandline.Exactly("TOKEN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			joined, err := agent.Join(cmd.Context(), c.dir, args[0], address, "", settings)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(joined)
			}
			c.line("logged in to cluster %s as %s %s", joined.Identity.Cluster, joined.Identity.Role, joined.Identity.Name)
			return nil
		},
	}
	cmd.Flags().StringVar(&address, "address", "", "host:port of a node, where discovery does not find one")
	cmd.Flags().StringVar(&settings.Name, "name", "", "your name in the cluster (default: the user's name)")
	cmd.Flags().BoolVar(&settings.Loopback, "loopback", false, "look for the cluster on this machine only")
	discoveryFlag(cmd, &settings)
	cmd.AddCommand(c.loginList(), c.loginRevoke())
	return cmd
}

func (c *cli) nodeRun() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the node until Ctrl-C or SIGTERM",
		Args:  commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return agent.Run(cmd.Context(), agent.RunOptions{Dir: c.dir, Version: version, Log: c.stderr, Verbose: verbose})
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log what is only of use when something is wrong")
	return cmd
}

func (c *cli) nodeToken() *cobra.Command {
	var role string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Issue a token that admits one machine or person",
		Args:  commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			token, err := client.Token(ctx, fabric.Role(role), ttl)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(map[string]any{"token": token, "role": role, "expires": time.Now().Add(ttl)})
			}
			fmt.Fprintln(c.stdout, token)
			return nil
		}),
	}
	cmd.Flags().StringVar(&role, "role", string(fabric.RoleNode), "node, operator, developer or viewer")
	cmd.Flags().DurationVar(&ttl, "ttl", 15*time.Minute, "how long the token is good for")
	return cmd
}

func (c *cli) nodeLeave() *cobra.Command {
	return &cobra.Command{
		Use:   "leave",
		Short: "Take the node out of the cluster for good; refused while services live on it",
		Args:  commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			if err := client.Leave(ctx); err != nil {
				return err
			}
			c.line("the node has left the cluster")
			return nil
		}),
	}
}

func (c *cli) dashboardCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "dashboard",
		Short: "Print a link that opens the node's dashboard, once",
		Args:  commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			link, err := client.DashboardLink(ctx)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(map[string]string{"link": link})
			}
			fmt.Fprintln(c.stdout, link)
			return nil
		}),
	}
}
