package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
)

func (c *cli) snapshotRepair(with onMachine) *cobra.Command {
	var dropLost, dryRun bool
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Mend what is damaged in the store, as far as that is possible",
		Long: `Mend what is damaged in the store. Lists and generations are written anew from their copies; what is whole in a damaged
pack is copied into a new one, and the damaged file is moved into the store's folder damaged, where nobody looks any
more: remove it when you do not need it. Snapshots that are lost stay listed, and the exit status is 6 then, until
their files are brought back or --drop-lost drops their generations. Nothing else works on the store meanwhile.`,
		Example: `  orrery snapshot verify --read-data
  orrery snapshot repair --dry-run
  orrery snapshot repair --drop-lost
  orrery snapshot copy --from s3://backups/home`,
		Args: commandline.Exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return with(cmd, func(m agent.Machine) error {
				watched, end := c.watch(cmd.Context())
				done, err := m.Store.Repair(watched, dropLost, dryRun)
				end()
				if err != nil {
					return err
				}
				if err := c.printRepair(done, dryRun); err != nil {
					return err
				}
				return unmended(done, dropLost)
			})
		},
	}
	cmd.Flags().BoolVar(&dropLost, "drop-lost", false, "drop the generations whose snapshots are lost, and move aside lists of generations that are")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be done")
	return cmd
}

func (c *cli) printRepair(done state.Repair, dryRun bool) error {
	if c.output == "json" {
		return c.json(done)
	}
	var rows [][]string
	for _, f := range done.Mended {
		rows = append(rows, []string{f.File, f.Problem})
	}
	for _, f := range done.Aside {
		rows = append(rows, []string{f, "moved into the folder damaged"})
	}
	for _, f := range done.Left {
		rows = append(rows, []string{f.File, "beyond repair: " + f.Problem})
	}
	if len(rows) > 0 {
		if err := c.table(nil, []string{"file", "repair"}, rows); err != nil {
			return err
		}
	}
	rows = nil
	for _, l := range done.Lost {
		var names []string
		for _, g := range l.Generations {
			names = append(names, fmt.Sprintf("%s@%d", refOf(g), g.Number))
		}
		rows = append(rows, []string{short(l.Snapshot), orDash(some(names)), l.Problem})
	}
	if len(rows) > 0 {
		if err := c.table(nil, []string{"lost snapshot", "generations", "problem"}, rows); err != nil {
			return err
		}
	}
	mended, dropped := "mended", "dropped"
	if dryRun {
		mended, dropped = "would mend", "would drop"
	}
	c.line("%s %d files, %d snapshots are lost, %s %d generations", mended, len(done.Mended), len(done.Lost), dropped, len(done.Dropped))
	return nil
}

// unmended is the error that a repair ends with where damage is left.
func unmended(done state.Repair, dropLost bool) error {
	if dropLost || len(done.Lost) == 0 && len(done.Left) == 0 {
		return nil
	}
	return fmt.Errorf("%d snapshots are lost, %d files are beyond repair: %w (bring the files back from a copy of the store; "+
		"or drop what is lost with --drop-lost, and fetch it from another store that has it with orrery snapshot copy --from)",
		len(done.Lost), len(done.Left), state.ErrCorrupt)
}
