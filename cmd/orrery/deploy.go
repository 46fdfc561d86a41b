package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/deploy"
	"orrery/deploy/manifest"
	"orrery/internal/commandline"
)

func (c *cli) deployCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "deploy",
		Short: "Bring the cluster to what a manifest says, with its data",
	}
	cmd.AddCommand(c.deployValidate(), c.deployPlan(), c.deployApply(), c.deployStatus(),
		c.deployBackup(), c.deployBackups(), c.deployRestore(), c.deployRemove())
	return cmd
}

func (c *cli) deployValidate() *cobra.Command {
	var offline bool
	cmd := &cobra.Command{
		Use:   "validate MANIFEST",
		Short: "Find everything that is wrong with a manifest, and change nothing",
		Long: `Find everything that is wrong with a manifest, all at once and with positions, and change nothing.
With --offline only what can be known without a cluster.`,
		Args: commandline.Exactly("MANIFEST"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if offline {
				m, err := manifest.Load(args[0])
				return c.verdict(m, err)
			}
			client, err := c.connect(cmd.Context())
			if err != nil {
				return fmt.Errorf("%w (or validate --offline)", err)
			}
			defer client.Close()
			m, _, err := planned(cmd.Context(), client, args[0])
			return c.verdict(m, err)
		},
	}
	cmd.Flags().BoolVar(&offline, "offline", false, "ask no node")
	return cmd
}

// planned reads a manifest and has its plan made. The error is all that is wrong with it, on this machine
// and on the cluster, with positions.
func planned(ctx context.Context, client *agent.Client, path string) (deploy.Manifest, deploy.Plan, error) {
	m, err := manifest.Load(path)
	problems, ok := manifest.IsProblems(err)
	if err != nil && !ok {
		return m, deploy.Plan{}, err
	}
	answer, err := client.Plan(ctx, m)
	if err != nil {
		return m, deploy.Plan{}, errors.Join(problems.Err(), err)
	}
	problems = manifest.Locate(path, append(problems, answer.Problems...))
	return m, answer.Plan, problems.Err()
}

// verdict prints the problems of a manifest, or that there are none.
func (c *cli) verdict(m deploy.Manifest, err error) error {
	problems, ok := manifest.IsProblems(err)
	if err != nil && !ok {
		return err
	}
	if c.output == "json" {
		return errors.Join(c.json(map[string]any{"valid": len(problems) == 0, "problems": problems}), problems.Err())
	}
	if len(problems) > 0 {
		return problems
	}
	c.line("%s is valid: %d services on %d nodes", m.Name, len(m.Services), len(m.Nodes))
	return nil
}

func (c *cli) deployPlan() *cobra.Command {
	return &cobra.Command{
		Use:   "plan MANIFEST",
		Short: "Show what apply would do",
		Args:  commandline.Exactly("MANIFEST"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			_, plan, err := planned(ctx, client, args[0])
			if err != nil {
				return err
			}
			return c.printPlan(plan)
		}),
	}
}

func (c *cli) printPlan(plan deploy.Plan) error {
	if len(plan.Steps) == 0 && c.output != "json" {
		c.line("nothing to do: %s runs as its manifest says", plan.Manifest)
		return nil
	}
	var rows [][]string
	for i, s := range plan.Steps {
		state := strings.Join(s.Stateful, ", ")
		if s.Kind == deploy.StepMove && s.Bytes > 0 {
			state += " (" + commandline.Size(s.Bytes) + ")"
		}
		rows = append(rows, []string{fmt.Sprint(i + 1), string(s.Kind), s.Service, orDash(s.From), orDash(s.To), orDash(state), s.Why})
	}
	return c.table(plan, []string{"#", "step", "service", "from", "to", "state", "why"}, rows)
}

func (c *cli) deployApply() *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "apply MANIFEST",
		Short: "Carry out the plan; finish or undo an interrupted one first",
		Long: `Carry out the steps from what runs to what the manifest says. Services that change node take
their state along: it is copied while they run, and requests are held only for the last delta.
When a step fails, or on Ctrl-C, everything is brought back to what it was.`,
		Args: commandline.Exactly("MANIFEST"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			m, plan, err := planned(ctx, client, args[0])
			if err != nil {
				return err
			}
			if dryRun {
				return c.printPlan(plan)
			}
			outcome, err := client.Apply(ctx, m, c.printEvent)
			if problems, ok := manifest.IsProblems(err); ok && err != nil {
				return manifest.Locate(args[0], problems)
			}
			if err != nil {
				return err
			}
			return c.printOutcome(outcome)
		}),
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only show the plan")
	return cmd
}

// printEvent shows progress of a long operation on standard error, a line an action.
func (c *cli) printEvent(e deploy.Event) {
	w := c.progressWriter()
	switch {
	case e.Err != "":
		fmt.Fprintf(w, "  %-12s %s: %s\n", e.Service, e.Action, e.Err)
	case e.Done && e.Bytes > 0:
		fmt.Fprintf(w, "  %-12s %s (%s, %s)\n", e.Service, e.Action, e.Took.Round(time.Millisecond), commandline.Size(e.Bytes))
	case e.Done:
		fmt.Fprintf(w, "  %-12s %s (%s)\n", e.Service, e.Action, e.Took.Round(time.Millisecond))
	}
}

func (c *cli) printOutcome(o deploy.Outcome) error {
	if c.output == "json" {
		return c.json(o)
	}
	if len(o.Plan.Steps) == 0 {
		c.line("nothing to do: %s runs as its manifest says", o.Plan.Manifest)
		return nil
	}
	c.line("%s: %d steps done", o.Plan.Manifest, len(o.Plan.Steps))
	for _, s := range o.Plan.Steps {
		if pause, ok := o.Pauses[s.Service]; ok {
			c.line("  %s: requests were held for %s", s.Service, pause.Round(time.Millisecond))
		}
	}
	return nil
}

func (c *cli) deployStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "List the deployed services, where they run and how they are",
		Args:  commandline.Exactly(),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, _ []string) error {
			services, err := client.Services(ctx)
			if err != nil {
				return err
			}
			var rows [][]string
			for _, s := range services {
				for _, component := range s.Components {
					detail := string(component.Phase)
					if component.Detail != "" {
						detail += ": " + component.Detail
					}
					rows = append(rows, []string{s.Manifest, s.Service, s.Node, component.Component.Ref().String(), detail, commandline.Size(component.Size), orDash(s.Public)})
				}
				if s.Err != "" {
					rows = append(rows, []string{s.Manifest, s.Service, s.Node, "-", s.Err, "-", orDash(s.Public)})
				}
			}
			return c.table(services, []string{"manifest", "service", "node", "component", "phase", "size", "public"}, rows)
		}),
	}
}

func (c *cli) deployBackup() *cobra.Command {
	return &cobra.Command{
		Use:               "backup NAME",
		Short:             "Snapshot all state of a manifest's services, and keep each on two nodes where there are two",
		ValidArgsFunction: first(c.completeManifests()),
		Args:              commandline.Exactly("NAME"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			backup, err := client.Backup(ctx, args[0], c.printEvent)
			if err != nil {
				return err
			}
			return c.printBackup(backup)
		}),
	}
}

func (c *cli) printBackup(b deploy.Backup) error {
	var rows [][]string
	for _, s := range b.Snapshots {
		rows = append(rows, []string{b.ID, s.Service, s.Ref.String(), short(s.Snapshot), commandline.Size(s.Size), commandline.Size(s.Stored), fmt.Sprint(len(s.Nodes))})
	}
	return c.table(b, []string{"backup", "service", "component", "snapshot", "size", "stored", "copies"}, rows)
}

func (c *cli) deployBackups() *cobra.Command {
	return &cobra.Command{
		Use:               "backups NAME",
		Short:             "List the backups of a manifest, oldest first",
		ValidArgsFunction: first(c.completeManifests()),
		Args:              commandline.Exactly("NAME"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			backups, err := client.Backups(ctx, args[0])
			if err != nil {
				return err
			}
			var rows [][]string
			for _, b := range backups {
				var logical, stored int64
				for _, s := range b.Snapshots {
					logical += s.Size
					stored += s.Stored
				}
				rows = append(rows, []string{b.ID, b.Time.Format(time.DateTime), fmt.Sprint(len(b.Snapshots)), commandline.Size(logical), commandline.Size(stored)})
			}
			return c.table(backups, []string{"backup", "time", "components", "size", "stored"}, rows)
		}),
	}
}

func (c *cli) deployRestore() *cobra.Command {
	var backup string
	cmd := &cobra.Command{
		Use:   "restore NAME [SERVICE...]",
		Short: "Bring back the state of a backup; what was there is kept as a snapshot where it can be read",
		Args:  cobra.MinimumNArgs(1),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			if err := client.BringBack(ctx, args[0], backup, args[1:], c.printEvent); err != nil {
				return err
			}
			c.line("%s is restored", args[0])
			return nil
		}),
	}
	cmd.Flags().StringVar(&backup, "backup", "", "which backup (default: the newest)")
	return cmd
}

func (c *cli) deployRemove() *cobra.Command {
	return &cobra.Command{
		Use:               "remove NAME",
		Short:             "Deactivate all services of a manifest; their state is kept until it is collected",
		ValidArgsFunction: first(c.completeManifests()),
		Args:              commandline.Exactly("NAME"),
		RunE: c.onNode(func(ctx context.Context, client *agent.Client, args []string) error {
			if err := client.Remove(ctx, args[0], c.printEvent); err != nil {
				return err
			}
			c.line("%s is removed; its state is kept (see orrery component list)", args[0])
			return nil
		}),
	}
}
