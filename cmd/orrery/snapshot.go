package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/state"
)

func (c *cli) snapshotCommand() *cobra.Command {
	var on string
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Work on a machine's snapshot store",
	}
	cmd.PersistentFlags().StringVar(&on, "on", "", "name of another node of the cluster")
	mustComplete(cmd, "on", c.completeNodes())
	refs := first(c.completeComponents(&on))
	with := c.onMachine(&on)
	cmd.AddCommand(proposing(refs, c.snapshotList(with)), c.snapshotShow(with), c.snapshotVerify(with), proposing(refs, c.snapshotPrune(with)))
	return cmd
}

// refOf is the component that the arguments name, or the zero Ref for all.
func refOf(args []string) (state.Ref, error) {
	if len(args) == 0 {
		return state.Ref{}, nil
	}
	return parseRef(args[0])
}

func (c *cli) printGenerations(all []state.Generation) error {
	var rows [][]string
	for _, g := range all {
		rows = append(rows, []string{
			g.Container + "/" + g.Component, fmt.Sprint(g.Number), short(g.Snapshot),
			g.Time.Format(time.DateTime), g.Reason, size(g.Size), size(g.Stored),
		})
	}
	return c.table(all, []string{"component", "generation", "snapshot", "time", "reason", "size", "stored"}, rows)
}

func (c *cli) snapshotList(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "list [REF]",
		Short: "List the generations of a component, or of all, oldest first",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := refOf(args)
			if err != nil {
				return err
			}
			return with(cmd, func(m agent.Machine) error {
				all, err := m.Store.Generations(cmd.Context(), ref)
				if err != nil {
					return err
				}
				return c.printGenerations(all)
			})
		},
	}
}

func (c *cli) snapshotShow(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Describe one snapshot",
		Args:  exactly("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, func(m agent.Machine) error {
				id, err := m.Find(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				s, err := m.Store.Get(cmd.Context(), id)
				if err != nil {
					return err
				}
				return c.table(s, []string{"what", "value"}, [][]string{
					{"id", string(s.ID)},
					{"module", s.Module},
					{"size", size(s.Size)},
					{"stored", size(s.Stored)},
					{"created", s.Created.Format(time.DateTime)},
					{"parent", orDash(string(s.Parent))},
					{"depth", fmt.Sprint(s.Depth)},
				})
			})
		},
	}
}

func (c *cli) snapshotVerify(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [ID...]",
		Short: "Read snapshots whole and compare them with their ids (default: all)",
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, func(m agent.Machine) error {
				ids, err := snapshotIDs(cmd, m, args)
				if err != nil {
					return err
				}
				var bad error
				results := map[state.SnapshotID]string{}
				var rows [][]string
				for _, id := range ids {
					results[id] = "ok"
					if err := m.Store.Verify(cmd.Context(), id); err != nil {
						results[id], bad = err.Error(), err
					}
					rows = append(rows, []string{short(id), results[id]})
				}
				if err := c.table(results, []string{"snapshot", "result"}, rows); err != nil {
					return err
				}
				return bad
			})
		},
	}
}

// snapshotIDs are the snapshots that the arguments name, or all that generations point at.
func snapshotIDs(cmd *cobra.Command, m agent.Machine, args []string) ([]state.SnapshotID, error) {
	var ids []state.SnapshotID
	for _, arg := range args {
		id, err := m.Find(cmd.Context(), arg)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	if len(args) > 0 {
		return ids, nil
	}
	all, err := m.Store.Generations(cmd.Context(), state.Ref{})
	seen := map[state.SnapshotID]bool{}
	for _, g := range all {
		if !seen[g.Snapshot] {
			seen[g.Snapshot] = true
			ids = append(ids, g.Snapshot)
		}
	}
	return ids, err
}

func (c *cli) snapshotPrune(with onMachine) *cobra.Command {
	var keep int
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "prune [REF]",
		Short: "Drop all but the newest generations, and what no snapshot needs any more",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := refOf(args)
			if err != nil {
				return err
			}
			if keep < 1 {
				return usageError{fmt.Errorf("cannot keep %d generations: at least the newest of each component is kept (see --keep)", keep)}
			}
			return with(cmd, func(m agent.Machine) error {
				pruned, err := m.Store.Prune(cmd.Context(), ref, keep, dryRun)
				if err != nil {
					return err
				}
				if c.output == "json" {
					return c.json(pruned)
				}
				if err := c.printGenerations(pruned.Generations); err != nil {
					return err
				}
				verb := "dropped"
				if dryRun {
					verb = "would drop"
				}
				c.line("%s %d generations and %d snapshots, %s", verb, len(pruned.Generations), pruned.Snapshots, size(pruned.Bytes))
				return nil
			})
		},
	}
	cmd.Flags().IntVar(&keep, "keep", 10, "how many generations of each component to keep, at least 1")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be dropped")
	return cmd
}
