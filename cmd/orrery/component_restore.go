package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
)

func (c *cli) componentSnapshot(with onMachine) *cobra.Command {
	var q state.SnapshotRequest
	var all bool
	cmd := &cobra.Command{
		Use:   "snapshot REF... | --all",
		Short: "Take a snapshot into the machine's store, of several components at one time",
		Long: `Take a snapshot into the machine's store. Several components are taken together: those that can hold still do so until the last
snapshot is complete, and their generations share a group. If one of them refuses, nothing is saved.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if all == (len(args) > 0) {
				return commandline.Usage(fmt.Errorf("name components, or --all of them (see %s --help)", cmd.CommandPath()))
			}
			q.Refs = nil
			for _, arg := range args {
				ref, err := parseRef(arg)
				if err != nil {
					return err
				}
				q.Refs = append(q.Refs, ref)
			}
			return with(cmd, func(m agent.Machine) error {
				var err error
				if all {
					if q.Refs, err = m.Stateful(cmd.Context()); err != nil {
						return err
					}
				}
				watched, end := c.watch(cmd.Context())
				generations, err := m.Care.TakeSnapshots(watched, q)
				end()
				if err != nil {
					return err
				}
				return c.printGenerations(generations)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "all active components that have state, but forks")
	cmd.Flags().StringVar(&q.Reason, "reason", "manual", "why, for who reads the list of generations")
	cmd.Flags().StringSliceVar(&q.Tags, "tag", nil, "tag of the generation")
	cmd.Flags().BoolVar(&q.Check, "check", false, "check the component's integrity first, where its module can")
	return cmd
}

func (c *cli) componentRestore(with onMachine) *cobra.Command {
	var pick selection
	var q state.RestoreRequest
	var group string
	one := c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
		if q.Container != "" && q.As == "" {
			return commandline.Usage(fmt.Errorf("--container is of a new component: name it with --as"))
		}
		id, err := pick.find(cmd.Context(), m, r)
		if err != nil {
			return err
		}
		q.Ref, q.ID = r, id
		watched, end := c.watch(cmd.Context())
		status, err := m.Care.RestoreAs(watched, q)
		end()
		if err != nil {
			return err
		}
		if c.output == "json" {
			return c.json(status)
		}
		if q.As != "" {
			return c.printComponent(status)
		}
		c.line("%s is restored", r)
		return nil
	})
	cmd := &cobra.Command{
		Use:   "restore REF | --group GROUP",
		Short: "Replace a component's state by a snapshot; the state before is kept as one too",
		Long: `Replace a component's state by a snapshot, or a part of it, or make a new component of it. The snapshot is verified first, and the
state before becomes a generation, with which orrery component undo brings it back. Where a module can count connected clients, they are waited for.

With --group all components of a group are restored, or none: to what they were when their snapshots were taken together.`,
		Example: `  orrery component restore postgresql-database/orders --before 2h --wait 30s
  orrery component restore postgresql-database/orders --tag release-7 --part public.customers
  orrery component restore fileset/photos --generation 12 --as photos-then
  orrery component restore --group release-7`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (group != "") == (len(args) == 1) {
				return commandline.Usage(fmt.Errorf("name a component, or a group with --group (see %s --help)", cmd.CommandPath()))
			}
			if group == "" {
				return one(cmd, args)
			}
			return with(cmd, func(m agent.Machine) error { return c.restoreGroup(cmd, m, group, q) })
		},
	}
	pick.flags(cmd)
	clientFlags(cmd, &q)
	cmd.Flags().StringVar(&q.Part, "part", "", "restore this only: a table, or a path")
	cmd.Flags().StringVar(&q.As, "as", "", "restore into a new component of this name")
	cmd.Flags().StringVar(&q.Container, "container", "", "the container of the new component (default: that of REF)")
	cmd.Flags().StringVar(&group, "group", "", groupNaming)
	for _, alone := range []string{"part", "as", "container", "snapshot", "generation", "tag", "before"} {
		cmd.MarkFlagsMutuallyExclusive("group", alone)
	}
	return cmd
}

// groupNaming is what the help texts say about a group.
const groupNaming = "a group: the beginning of its id, a tag of it, a time (the newest that is not younger), or latest"

// restoreGroup restores all components of a group to what they were then.
func (c *cli) restoreGroup(cmd *cobra.Command, m agent.Machine, name string, q state.RestoreRequest) error {
	members, err := m.Group(cmd.Context(), name)
	if err != nil {
		return err
	}
	if missing := members[0].GroupSize - len(members); missing > 0 {
		return fmt.Errorf("group %s: %d of its %d generations were dropped: %w (restore what is left of it one by one)",
			members[0].Group, missing, members[0].GroupSize, state.ErrNoSnapshot)
	}
	q.Ref, q.ID = refOf(members[0]), members[0].Snapshot
	for _, g := range members[1:] {
		q.With = append(q.With, state.Restoring{Ref: refOf(g), ID: g.Snapshot})
	}
	watched, end := c.watch(cmd.Context())
	_, err = m.Care.RestoreAs(watched, q)
	end()
	if err != nil {
		return err
	}
	if c.output == "json" {
		return c.json(members)
	}
	for _, g := range members {
		c.line("%s is restored", refOf(g))
	}
	return nil
}

func clientFlags(cmd *cobra.Command, q *state.RestoreRequest) {
	cmd.Flags().DurationVar(&q.Wait, "wait", 0, "how long to wait until no client is connected")
	cmd.Flags().BoolVar(&q.Force, "force", false, "do not mind connected clients: the module ends their connections, or refuses")
}

func (c *cli) componentUndo(with onMachine) *cobra.Command {
	var q state.RestoreRequest
	cmd := &cobra.Command{
		Use:   "undo REF",
		Short: "Bring back what the last restore replaced; again: what that was undone from",
		Args:  commandline.Exactly("REF"),
		RunE: c.onComponent(with, func(cmd *cobra.Command, m agent.Machine, r state.Ref) error {
			q.Ref = r
			watched, end := c.watch(cmd.Context())
			g, err := m.Care.Undo(watched, q)
			end()
			if err != nil {
				return err
			}
			if c.output == "json" {
				return c.json(g)
			}
			c.line("%s is as it was in generation %d, of %s", r, g.Number, g.Time.Format(time.DateTime))
			return nil
		}),
	}
	clientFlags(cmd, &q)
	return cmd
}
