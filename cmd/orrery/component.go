package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
)

func (c *cli) componentCommand() *cobra.Command {
	var on string
	cmd := &cobra.Command{
		Use:   "component",
		Short: "Work on the components of one machine",
		Long: `Work on the components of one machine: the node that --dir belongs to, another one with --on, or,
where no node runs, the state folder in --dir itself. REF is CONTAINER/COMPONENT.`,
	}
	cmd.PersistentFlags().StringVar(&on, "on", "", "name of another node of the cluster")
	mustComplete(cmd, "on", c.completeNodes())
	every := c.completeComponents(&on)
	refs := first(every)
	with := c.onMachine(&on)
	onRef := func(use, short string, do func(*cobra.Command, agent.Machine, state.Ref) error) *cobra.Command {
		return &cobra.Command{
			Use:   use + " REF",
			Short: short,
			Args:  commandline.Exactly("REF"),

			ValidArgsFunction: refs,
			RunE: func(cmd *cobra.Command, args []string) error {
				ref, err := parseRef(args[0])
				if err != nil {
					return err
				}
				return with(cmd, func(m agent.Machine) error { return do(cmd, m, ref) })
			},
		}
	}
	cmd.AddCommand(
		&cobra.Command{
			Use: "list", Short: "List the components", Args: commandline.Exactly(),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return with(cmd, func(m agent.Machine) error {
					all, err := m.Keeper.List(cmd.Context())
					if err != nil {
						return err
					}
					return c.printComponents(all)
				})
			},
		},
		onRef("show", "Show one component", func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			status, err := m.Keeper.Status(cmd.Context(), r)
			if err != nil {
				return err
			}
			return c.printComponent(status)
		}),
		onRef("deactivate", "Take a component out of service and keep its state", func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			if err := m.Keeper.Deactivate(cmd.Context(), r); err != nil {
				return err
			}
			c.line("%s is deactivated; its state is kept", r)
			return nil
		}),
		c.componentActivate(with), proposing(refs, c.componentRestore(with)), proposing(refs, c.componentFork(with, first(c.completeForks(&on)))),
		proposing(refs, c.componentReplicate(with)), c.componentReplica(with, first(c.completeReplicas(&on))),
		proposing(refs, c.componentCollect(with)), proposing(every, c.componentSnapshot(with)), proposing(refs, c.componentUndo(with)),
		proposing(refs, c.componentTestRestore(with)), proposing(refs, c.componentShell(with)), proposing(refs, c.componentLock(with)),
		proposing(refs, c.componentUnlock(with)), proposing(refs, c.componentMigrate(with)),
	)
	c.addExaminations(cmd, onRef)
	cmd.AddCommand(&cobra.Command{
		Use: "supervise FOLDER", Short: "Run the process of a component (the program does so itself where no node runs)",
		Args: commandline.Exactly("FOLDER"), Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error { return agent.Supervise(cmd.Context(), c.dir, args[0]) },
	})
	return cmd
}

// proposing gives a command its proposals for arguments.
func proposing(propose completer, cmd *cobra.Command) *cobra.Command {
	cmd.ValidArgsFunction = propose
	return cmd
}

// onMachine runs an operation on the machine that the flags name.
type onMachine func(*cobra.Command, func(agent.Machine) error) error

func (c *cli) onMachine(on *string) onMachine {
	return func(cmd *cobra.Command, do func(agent.Machine) error) (err error) {
		machine, err := agent.OpenMachine(cmd.Context(), c.dir, *on)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, machine.Close()) }()
		cmd.SetContext(state.WithCaller(cmd.Context(), caller()))
		return do(machine)
	}
}

func parseRef(s string) (state.Ref, error) {
	container, component, ok := strings.Cut(s, "/")
	if !ok || !state.ValidName(container) || !state.ValidName(component) {
		return state.Ref{}, commandline.Usage(fmt.Errorf("component %q is not CONTAINER/COMPONENT (see orrery component list)", s))
	}
	return state.Ref{Container: container, Component: component}, nil
}

func (c *cli) printComponents(all []state.Status) error {
	var rows [][]string
	for _, s := range all {
		rows = append(rows, []string{
			s.Component.Ref().String(), s.Component.Module, string(s.Phase), commandline.Size(s.Size),
			fmt.Sprint(s.Generation), ago(s.Changed), orDash(s.Component.Session), orDash(s.Detail),
		})
	}
	return c.table(all, []string{"component", "module", "phase", "size", "generation", "since", "session", "detail"}, rows)
}

func (c *cli) printComponent(s state.Status) error {
	rows := [][]string{
		{"component", s.Component.Ref().String()},
		{"module", s.Component.Module},
		{"phase", string(s.Phase)},
		{"size", commandline.Size(s.Size)},
		{"generation", fmt.Sprint(s.Generation)},
		{"since", ago(s.Changed)},
	}
	rows = append(rows, aboutFork(s)...)
	if s.Lease != nil {
		rows = append(rows, []string{"locked", fmt.Sprintf("by %s until %s", s.Lease.By, s.Lease.Until.Format(time.DateTime))})
	}
	if s.Detail != "" {
		rows = append(rows, []string{"detail", s.Detail})
	}
	names := make([]string, 0, len(s.Exports))
	for name := range s.Exports {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		rows = append(rows, []string{name, s.Exports[name]})
	}
	return c.table(s, []string{"what", "value"}, rows)
}

// aboutFork are the rows that a fork has beside those of others.
func aboutFork(s state.Status) [][]string {
	if s.Forked == "" {
		return nil
	}
	rows := [][]string{{"forked by", s.Forked}}
	if b := s.Branch; b != nil {
		rows = append(rows, []string{"forked from", b.Origin.String()})
		if isReplica(s) {
			rows = [][]string{{"replica of", b.Origin.String()}}
		}
		if b.Owner != "" {
			rows = append(rows, []string{"owner", b.Owner})
		}
		if !b.Expires.IsZero() {
			rows = append(rows, []string{"expires", b.Expires.Format(time.DateTime)})
		}
	}
	return rows
}

func (c *cli) componentActivate(with onMachine) *cobra.Command {
	var component state.Component
	var properties, files map[string]string
	var migrations string
	cmd := &cobra.Command{
		Use:   "activate NAME --module MODULE",
		Short: "Bring a component into being or back to life",
		Example: `  orrery component activate inventory --module sqlite-database --file schema=inventory.sql --property 'schema=${file.schema}'
  orrery component activate photos --module fileset`,
		Args: commandline.Exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			component.Name = args[0]
			if component.Container == "" {
				component.Container = component.Module
			}
			component.Properties = state.Properties{}
			for name, text := range properties {
				component.Properties[name] = propertyValue(text)
			}
			return with(cmd, func(m agent.Machine) error {
				component.Files = map[string]string{}
				for name, path := range files {
					sum, err := m.Provide(cmd.Context(), path)
					if err != nil {
						return err
					}
					component.Files[name] = sum
				}
				if err := provideMigrations(cmd.Context(), m, component.Files, migrations); err != nil {
					return err
				}
				status, err := m.Keeper.Activate(cmd.Context(), component)
				if err != nil {
					return err
				}
				return c.printComponent(status)
			})
		},
	}
	cmd.Flags().StringVar(&component.Module, "module", "", "the module that drives it (see orrery module list)")
	cmd.Flags().StringVar(&component.Container, "container", "", "the container that hosts it (default: the module's name)")
	cmd.Flags().StringToStringVar(&properties, "property", nil, "NAME=VALUE, where VALUE may be JSON")
	cmd.Flags().StringToStringVar(&files, "file", nil, "NAME=PATH of a file that properties refer to as ${file.NAME}")
	cmd.Flags().StringVar(&migrations, "migrations", "", "folder of numbered scripts (0001-name.sql ...) that change the schema, each once and in order")
	if err := cmd.MarkFlagRequired("module"); err != nil {
		panic(err) // the flag is defined five lines above
	}
	return cmd
}

// propertyValue reads JSON where it is JSON, and text where it is not.
func propertyValue(text string) any {
	var value any
	if err := json.Unmarshal([]byte(text), &value); err == nil {
		return value
	}
	return text
}

func (c *cli) componentCollect(with onMachine) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "collect [REF]",
		Short: "Delete the state of inactive components whose newest snapshot verifies",
		Long:  "Delete the state of one inactive component, or of all that are inactive. A snapshot with its last state is kept.",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, func(m agent.Machine) error {
				refs, err := garbage(cmd, m, args)
				if err != nil {
					return err
				}
				for _, ref := range refs {
					if dryRun {
						c.line("would collect %s", ref)
						continue
					}
					if err := m.Keeper.CollectGarbage(cmd.Context(), ref); err != nil {
						return err
					}
					c.line("%s is collected", ref)
				}
				if c.output == "json" {
					return c.json(map[string]any{"collected": refs, "dryRun": dryRun})
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be deleted")
	return cmd
}

// garbage lists the inactive components, or the one that is named.
func garbage(cmd *cobra.Command, m agent.Machine, args []string) ([]state.Ref, error) {
	if len(args) == 1 {
		ref, err := parseRef(args[0])
		return []state.Ref{ref}, err
	}
	all, err := m.Keeper.List(cmd.Context())
	if err != nil {
		return nil, err
	}
	var refs []state.Ref
	for _, s := range all {
		if s.Phase == state.PhaseInactive {
			refs = append(refs, s.Component.Ref())
		}
	}
	return refs, nil
}
