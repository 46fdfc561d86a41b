package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/session"
)

func (c *cli) sessionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "session",
		Short: "Run your version of a service inside the real system, for marked requests only",
		Long: `A session is a named overlay on the running system. Requests that carry its mark see the session's services
and forks; all others see production. The mark is the header "Orrery-Session: NAME", the W3C baggage member
"orrery-session=NAME", or the preview host NAME--SERVICE.anything on a public address.`,
	}
	cmd.AddCommand(c.sessionDevelop(), c.sessionCreate(), c.sessionList(), c.sessionShow(), c.sessionDelete())
	return cmd
}

func (c *cli) sessionDevelop() *cobra.Command {
	var options agent.DevelopOptions
	cmd := &cobra.Command{
		Use:   "develop SERVICE --run COMMAND",
		Short: "Put a process of this machine into a session, until it ends or Ctrl-C",
		Long: `Start COMMAND on this machine with the service's own environment, in which the addresses of the services it calls lead
through the cluster's router, and route the session's requests to it through a tunnel. Services named with --fork run in the
session on a private, writable copy of their state. When the command line ends, the session ends and its forks are deleted.`,
		Example:           `  orrery session develop sky --session blue --run ./bin/sky-blue --fork notes`,
		ValidArgsFunction: first(c.completeServices()),
		Args:              commandline.Exactly("SERVICE"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			options.Service = args[0]
			options.Stdout, options.Stderr = c.stdout, c.stderr
			options.Ready = c.announce
			return client.Develop(ctx, options)
		}),
	}
	cmd.Flags().StringVar(&options.Session, "session", "", "the session's name (default: made from your name)")
	cmd.Flags().StringVar(&options.Run, "run", "", "the command that runs your version, split as a shell splits words")
	cmd.Flags().StringSliceVar(&options.Forks, "fork", nil, "services to run on a private copy of their state")
	mustComplete(cmd, "fork", c.completeServices())
	if err := cmd.MarkFlagRequired("run"); err != nil {
		panic(err) // the flag is defined three lines above
	}
	return cmd
}

// announce tells a developer how to reach the session.
func (c *cli) announce(s session.Session, publics map[string]string) {
	if c.output == "json" {
		if err := c.json(map[string]any{"session": s, "public": publics}); err != nil {
			c.line("%v", err)
		}
		return
	}
	c.line("session %s is ready: %s", s.Name, overrides(s))
	for service, url := range publics {
		host := strings.TrimPrefix(url, "http://")
		_, port, _ := strings.Cut(host, ":")
		c.line("  curl -H '%s: %s' %s", session.Header, s.Name, url)
		c.line("  http://%s%s%s.localhost:%s", s.Name, session.PreviewSeparator, service, port)
	}
	c.line("press Ctrl-C to end it")
}

// overrides says what a session replaces: sky (tunnel), notes (fork by copy).
func overrides(s session.Session) string {
	var parts []string
	for _, o := range s.Overrides {
		text := o.Service + " (" + string(o.Kind)
		if o.Method != "" {
			text += " by " + o.Method + ", " + commandline.Size(o.Bytes)
		}
		parts = append(parts, text+")")
	}
	return strings.Join(parts, ", ")
}

func (c *cli) sessionCreate() *cobra.Command {
	var name string
	var forks []string
	var exec map[string]string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use:   "create",
		Short: "Make a session that lasts without this command line, for CI",
		Long: `Make a session of services on forks of their state (--fork) and of processes that the cluster runs from a program
of this machine (--exec SERVICE=PROGRAM, with the service's own environment). It ends after --ttl, or by session delete.`,
		Args: commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			made, err := client.CreateSession(ctx, name, forks, exec, ttl)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(made)
			}
			c.line("session %s is ready: %s", made.Name, overrides(made))
			c.line("  header: %s: %s", session.Header, made.Name)
			return nil
		}),
	}
	cmd.Flags().StringVar(&name, "session", "", "the session's name (default: made from your name)")
	cmd.Flags().StringSliceVar(&forks, "fork", nil, "services to run on a private copy of their state")
	cmd.Flags().StringToStringVar(&exec, "exec", nil, "SERVICE=PROGRAM: run this program in the service's place")
	mustComplete(cmd, "fork", c.completeServices())
	cmd.Flags().DurationVar(&ttl, "ttl", time.Hour, "how long the session lasts")
	return cmd
}

func (c *cli) sessionList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the sessions",
		Args:  commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			all, err := client.ListSessions(ctx)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, s := range all {
				rows = append(rows, []string{s.Name, s.Owner, sessionPhase(s), overrides(s), ago(s.Created)})
			}
			return c.table(all, []string{"session", "owner", "phase", "overrides", "created"}, rows)
		}),
	}
}

func sessionPhase(s session.Session) string {
	switch {
	case s.Ending:
		return "ending"
	case s.Ready:
		return "ready"
	}
	return "starting"
}

func (c *cli) sessionShow() *cobra.Command {
	return &cobra.Command{
		Use:               "show NAME",
		Short:             "Show one session",
		ValidArgsFunction: first(c.completeSessions()),
		Args:              commandline.Exactly("NAME"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			all, err := client.ListSessions(ctx)
			if err != nil {
				return err
			}
			for _, s := range all {
				if s.Name == args[0] {
					return c.printSession(s)
				}
			}
			return fmt.Errorf("session %s: %w (see orrery session list)", args[0], session.ErrNotFound)
		}),
	}
}

func (c *cli) printSession(s session.Session) error {
	var rows [][]string
	for _, o := range s.Overrides {
		where := o.Instance.Address
		if o.Instance.Tunnel != "" {
			where = "tunnel " + o.Instance.Tunnel
		}
		var components []string
		for _, r := range o.Components {
			components = append(components, r.String())
		}
		rows = append(rows, []string{s.Name, sessionPhase(s), o.Service, string(o.Kind), short(o.Instance.Node), where, orDash(strings.Join(components, " "))})
	}
	return c.table(s, []string{"session", "phase", "service", "kind", "node", "instance", "components"}, rows)
}

func (c *cli) sessionDelete() *cobra.Command {
	return &cobra.Command{
		Use:               "delete NAME",
		Short:             "End a session and delete its forks",
		ValidArgsFunction: first(c.completeSessions()),
		Args:              commandline.Exactly("NAME"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			if err := client.DeleteSession(ctx, args[0]); err != nil {
				return err
			}
			c.line("session %s is ended", args[0])
			return nil
		}),
	}
}
