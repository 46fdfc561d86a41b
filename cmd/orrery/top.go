package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"orrery/cmd/orrery/agent"
	"orrery/dashboard/terminal"
	"orrery/internal/commandline"
)

func (c *cli) topCommand() *cobra.Command {
	var once bool
	var interval time.Duration
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch nodes, chains, rates and events on the terminal",
		Long: `Show the cluster as the node sees it, and go on as it changes: nodes, chains with what they wait for, rates of all nodes together, and the
last events. ? shows the keys. When the node goes away, what was seen last stays, and top tries again until it is back.

With --once, with -o json, and where the output is no terminal, it prints what is once and ends. Rates are those between two looks, --interval apart.
NO_COLOR turns colours off.`,
		Example: `  orrery top
  orrery top --once
  orrery top -o json | jq '.chains[] | select(.waits)'`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if interval < 100*time.Millisecond {
				return commandline.Usage(fmt.Errorf("--interval %s is too short (100ms at least)", interval))
			}
			looker := &looker{cli: c}
			defer looker.close()
			screen, ok := c.stdout.(*os.File)
			if once || c.output == "json" || !ok || !term.IsTerminal(int(screen.Fd())) {
				return c.topOnce(cmd.Context(), looker, interval)
			}
			if _, err := looker.look(cmd.Context()); err != nil { // what is wrong at the beginning does not heal by itself
				return err
			}
			return terminal.Run(cmd.Context(), terminal.Config{Fetch: looker.look, Interval: interval, In: c.stdin, Out: screen, Env: os.Environ()})
		},
	}
	cmd.Flags().BoolVar(&once, "once", false, "print tables of what is, and end")
	cmd.Flags().DurationVar(&interval, "interval", time.Second, "how often to look")
	commandline.Endless(cmd)
	return cmd
}

// looker asks a node how the cluster is, and connects anew after an error: with a login, to whichever node answers.
type looker struct {
	cli    *cli
	client *agent.Client
}

func (l *looker) look(ctx context.Context) (terminal.Snapshot, error) {
	if l.client == nil {
		client, err := l.cli.connect(ctx)
		if err != nil {
			return terminal.Snapshot{}, err
		}
		l.client = client
	}
	s, err := l.client.Top(ctx)
	if err != nil {
		l.close()
	}
	return s, err
}

func (l *looker) close() {
	if l.client != nil {
		l.client.Close()
		l.client = nil
	}
}

// looked is what top prints for programs.
type looked struct {
	terminal.Snapshot
	Healthy bool           `json:"healthy"`
	Health  []string       `json:"health"`
	Rates   terminal.Rates `json:"rates"`
}

func (c *cli) nodeMetrics() *cobra.Command {
	return &cobra.Command{
		Use:   "metrics",
		Short: "Print what the node counts, as Prometheus reads it",
		Long: `Print what the node counts, as Prometheus reads it: operations and bad input of the replicated store, gossip, requests through the router, the process.
For node_exporter, write it to a file beside the one in its folder for text files, and rename that.`,
		Example: `  orrery node metrics | grep refused`,
		Args:    commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			text, err := client.Metrics(ctx)
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(map[string]string{"metrics": text})
			}
			_, err = io.WriteString(c.stdout, text)
			return err
		}),
	}
}

// topOnce prints what is, with the rates since a moment before.
func (c *cli) topOnce(ctx context.Context, l *looker, interval time.Duration) error {
	before, err := l.look(ctx)
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(interval):
	}
	now, err := l.look(ctx)
	if err != nil {
		return err
	}
	rates, _ := terminal.RateBetween(before, now)
	if c.output == "json" {
		health := terminal.HealthOf(now)
		return c.json(looked{now, health.Level == terminal.Well, health.Words, rates})
	}
	return terminal.Print(c.stdout, now, rates)
}
