package main

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/internal/progress"
	"orrery/state"
	"orrery/state/address"
	"orrery/state/store"
)

func (c *cli) snapshotCopy(stores func() agent.Stores, elsewhere *string) *cobra.Command {
	var to, from string
	cmd := &cobra.Command{
		Use:   "copy [NAME...]",
		Short: "Copy generations to another store, or from one; only what the other side lacks is moved",
		Long: `Copy generations with their times, reasons and labels between this machine's store and another one: those that NAME
names, all of a component, or all. A NAME without @ that is a component means all its generations. Only what the
other side lacks is moved, and each object is verified. A copy that was interrupted goes on where it was.

` + naming + "\n\n" + storeNaming,
		Example: `  orrery snapshot copy --to s3://backups/home
  orrery snapshot copy postgresql-database/shop@latest --to /mnt/disk/store
  orrery snapshot copy postgresql-database/shop --from s3://backups/home`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if (to == "") == (from == "") {
				return commandline.Usage(errors.New("a copy takes either --to STORE or --from STORE"))
			}
			s := stores()
			return onStore(cmd, s, *elsewhere, func(mine *store.Store) error {
				return onStore(cmd, s, to+from, func(other *store.Store) error {
					if to != "" {
						return c.copySnapshots(cmd, mine, other, args)
					}
					return c.copySnapshots(cmd, other, mine, args)
				})
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the store to copy to (orrery store init makes one)")
	cmd.Flags().StringVar(&from, "from", "", "the store to copy from")
	return cmd
}

func (c *cli) copySnapshots(cmd *cobra.Command, from, to *store.Store, names []string) error {
	all, err := from.Generations(cmd.Context(), state.Ref{})
	if err != nil {
		return err
	}
	if all, err = chosen(all, names); err != nil {
		return err
	}
	watched, end := c.watch(cmd.Context())
	defer end()
	shown := c.progressWriter()
	if f, ok := shown.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		shown = io.Discard
	}
	var task *progress.Task
	if c.output == "json" {
		task = progress.Start(watched, "copy to "+to.String(), 0)
	}
	var before int64
	moved, err := to.Copy(cmd.Context(), from, all, func(m store.Moved) {
		task.Add(m.Bytes - before)
		before = m.Bytes
		fmt.Fprintf(shown, "\r%d of %d generations, %s moved, %s left of this one  ", len(m.Generations), len(all), commandline.Size(m.Bytes), commandline.Size(m.Left))
	})
	task.End()
	if moved.Objects > 0 || len(moved.Generations) > 0 {
		_, _ = io.WriteString(shown, "\n") // a terminal that is gone cannot be told so
	}
	if err != nil {
		return err
	}
	if c.output == "json" {
		return c.json(moved)
	}
	if err := c.printGenerations(moved.Generations); err != nil {
		return err
	}
	c.line("copied %d of %d generations (the others were there) to %s: %d objects, %s", len(moved.Generations), len(all), to, moved.Objects, commandline.Size(moved.Bytes))
	return nil
}

// chosen are the generations that names mean; all if there are none.
func chosen(all []state.Generation, names []string) ([]state.Generation, error) {
	if len(names) == 0 {
		return all, nil
	}
	wanted := map[string]bool{}
	key := func(g state.Generation) string { return fmt.Sprint(refOf(g), "@", g.Number) }
	for _, name := range names {
		found := false
		for _, g := range all {
			if refOf(g).String() == name {
				found, wanted[key(g)] = true, true
			}
		}
		if found {
			continue
		}
		g, err := address.Find(all, name, agent.Clock().Now.AddDate(100, 0, 0), agent.Clock())
		if err != nil {
			return nil, err
		}
		wanted[key(g)] = true
	}
	var some []state.Generation
	for _, g := range all {
		if wanted[key(g)] {
			some = append(some, g)
		}
	}
	if len(some) == 0 {
		return nil, fmt.Errorf("%v: %w", names, state.ErrNoSnapshot)
	}
	return some, nil
}
