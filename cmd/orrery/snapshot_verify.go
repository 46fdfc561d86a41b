package main

import (
	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/state"
)

func (c *cli) snapshotVerify(with onMachine) *cobra.Command {
	return &cobra.Command{
		Use:   "verify [NAME...]",
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
