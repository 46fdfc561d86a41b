package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
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
	refs := first(c.completeComponents(&on))
	with := c.onMachine(&on)
	onRef := func(use, short string, do func(*cobra.Command, agent.Machine, state.Ref) error) *cobra.Command {
		return &cobra.Command{
			Use:   use + " REF",
			Short: short,
			Args:  exactly("REF"),

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
			Use: "list", Short: "List the components", Args: exactly(),
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
		&cobra.Command{
			Use: "modules", Short: "Describe the modules of the machine", Args: exactly(),
			RunE: func(cmd *cobra.Command, _ []string) error {
				return with(cmd, func(m agent.Machine) error { return c.printModules(cmd, m) })
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
		onRef("snapshot", "Take a snapshot into the machine's store", func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			g, err := m.Keeper.Snapshot(cmd.Context(), r, "manual")
			if err != nil {
				return err
			}
			return c.printGenerations([]state.Generation{g})
		}),
		c.componentActivate(with), proposing(refs, c.componentRestore(with)), proposing(refs, c.componentFork(with)),
		proposing(refs, c.componentCollect(with)),
	)
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
		return do(machine)
	}
}

func parseRef(s string) (state.Ref, error) {
	container, component, ok := strings.Cut(s, "/")
	if !ok || !state.ValidName(container) || !state.ValidName(component) {
		return state.Ref{}, usageError{fmt.Errorf("component %q is not CONTAINER/COMPONENT (see orrery component list)", s)}
	}
	return state.Ref{Container: container, Component: component}, nil
}

func (c *cli) printComponents(all []state.Status) error {
	var rows [][]string
	for _, s := range all {
		rows = append(rows, []string{
			s.Component.Ref().String(), s.Component.Module, string(s.Phase), size(s.Size),
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
		{"size", size(s.Size)},
		{"generation", fmt.Sprint(s.Generation)},
		{"since", ago(s.Changed)},
	}
	if s.Forked != "" {
		rows = append(rows, []string{"forked by", s.Forked})
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

func (c *cli) printModules(cmd *cobra.Command, m agent.Machine) error {
	modules, err := m.Modules(cmd.Context())
	if err != nil {
		return err
	}
	var rows [][]string
	for _, d := range modules {
		var properties []string
		for _, p := range d.Properties {
			properties = append(properties, p.Name)
		}
		rows = append(rows, []string{d.Name, fmt.Sprint(d.Stateful), orDash(strings.Join(properties, " ")), firstSentence(d.Doc)})
	}
	return c.table(modules, []string{"module", "stateful", "properties", "what it is for"}, rows)
}

func firstSentence(s string) string {
	first, _, _ := strings.Cut(s, ". ")
	return strings.TrimSuffix(first, ".")
}

func (c *cli) componentActivate(with onMachine) *cobra.Command {
	var component state.Component
	var properties, files map[string]string
	cmd := &cobra.Command{
		Use:   "activate NAME --module MODULE",
		Short: "Bring a component into being or back to life",
		Example: `  orrery component activate inventory --module sqlite-database --file schema=inventory.sql --property 'schema=${file.schema}'
  orrery component activate photos --module fileset`,
		Args: exactly("NAME"),
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
				status, err := m.Keeper.Activate(cmd.Context(), component)
				if err != nil {
					return err
				}
				return c.printComponent(status)
			})
		},
	}
	cmd.Flags().StringVar(&component.Module, "module", "", "the module that drives it (see orrery component modules)")
	cmd.Flags().StringVar(&component.Container, "container", "", "the container that hosts it (default: the module's name)")
	cmd.Flags().StringToStringVar(&properties, "property", nil, "NAME=VALUE, where VALUE may be JSON")
	cmd.Flags().StringToStringVar(&files, "file", nil, "NAME=PATH of a file that properties refer to as ${file.NAME}")
	if err := cmd.MarkFlagRequired("module"); err != nil {
		panic(err) // the flag is defined four lines above
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

func (c *cli) componentRestore(with onMachine) *cobra.Command {
	var id string
	cmd := &cobra.Command{
		Use:   "restore REF",
		Short: "Replace a component's state by a snapshot; the state before is kept as one too",
		Args:  exactly("REF"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseRef(args[0])
			if err != nil {
				return err
			}
			return with(cmd, func(m agent.Machine) error {
				full, err := m.Find(cmd.Context(), id)
				if err != nil {
					return err
				}
				if err := m.Keeper.Restore(cmd.Context(), ref, full); err != nil {
					return err
				}
				c.line("%s is restored", ref)
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&id, "snapshot", "", "id of the snapshot, or its beginning (default: the newest)")
	return cmd
}

func (c *cli) componentFork(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "fork REF NAME",
		Short: "Make a writable copy of an active component",
		Args:  exactly("REF", "NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := parseRef(args[0])
			if err != nil {
				return err
			}
			return with(cmd, func(m agent.Machine) error {
				from, err := m.Keeper.Status(cmd.Context(), ref)
				if err != nil {
					return err
				}
				into := from.Component
				into.Name = args[1]
				status, err := m.Keeper.Fork(cmd.Context(), ref, into)
				if err != nil {
					return err
				}
				return c.printComponent(status)
			})
		},
	}
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
