package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"orrery/cmd/orrery/agent"
	"orrery/internal/commandline"
	"orrery/state"
	"orrery/state/address"
	"orrery/state/retention"
)

// keeping are the flags that say what a prune keeps.
type keeping struct {
	state.Retention
	within string
}

func (k *keeping) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.IntVar(&k.Last, "keep-last", 0, "the newest so many generations of each component")
	f.IntVar(&k.Hourly, "keep-hourly", 0, "the newest of each of the last so many hours that have one (UTC)")
	f.IntVar(&k.Daily, "keep-daily", 0, "the same for days")
	f.IntVar(&k.Weekly, "keep-weekly", 0, "the same for weeks, from Monday")
	f.IntVar(&k.Monthly, "keep-monthly", 0, "the same for months")
	f.StringVar(&k.within, "keep-within", "", "those that are at most so much older than the newest: 36h, 7d, 8w")
	f.StringSliceVar(&k.Tags, "keep-tag", nil, "those with any of these tags")
}

func (k *keeping) retention() (state.Retention, error) {
	if k.within != "" {
		span, err := address.Span(k.within)
		if err != nil || span == 0 {
			return k.Retention, commandline.Usage(fmt.Errorf("cannot keep what is within %q (write 36h, 7d or 8w)", k.within))
		}
		k.Within = span
	}
	if err := retention.Check(k.Retention); err != nil {
		return k.Retention, commandline.Usage(err)
	}
	return k.Retention, nil
}

func (c *cli) snapshotPrune(with onMachine) *cobra.Command {
	var keep keeping
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "prune [REF]",
		Short: "Drop the generations that no rule keeps, and what no snapshot needs any more",
		Long: `Drop the generations that no rule keeps, of one component or of all, and then what no snapshot needs any more. A
generation stays if any rule keeps it; pinned ones and the newest of each component always stay. Without a rule no
generation is dropped.`,
		Example: `  orrery snapshot prune --keep-last 10 --keep-daily 14 --keep-monthly 12 --dry-run
  orrery snapshot prune postgresql-database/shop --keep-within 8w --keep-tag release`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := optionalRef(args)
			if err != nil {
				return err
			}
			r, err := keep.retention()
			if err != nil {
				return err
			}
			return with(cmd, func(m agent.Machine) error {
				watched, end := c.watch(cmd.Context())
				pruned, err := m.Store.Prune(watched, ref, r, dryRun)
				end()
				if err != nil {
					return err
				}
				return c.printPruned(pruned, dryRun)
			})
		},
	}
	keep.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be dropped and how much that frees")
	return cmd
}

func (c *cli) printPruned(pruned state.Pruned, dryRun bool) error {
	if c.output == "json" {
		return c.json(pruned)
	}
	if len(pruned.Generations) > 0 {
		if err := c.printGenerations(pruned.Generations); err != nil {
			return err
		}
	}
	verb, frees := "dropped", "freed"
	if dryRun {
		verb, frees = "would drop", "would free"
	}
	c.line("%s %d generations and %d snapshots, %s %s", verb, len(pruned.Generations), pruned.Snapshots, frees, commandline.Size(max(0, pruned.Bytes)))
	return nil
}

func (c *cli) snapshotForget(with onMachine) *cobra.Command {
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "forget NAME...",
		Short: "Drop generations by name, pinned ones too, and what no snapshot needs any more",
		Long: `Drop generations by name, pinned ones too, and what no snapshot needs any more. The newest generation of a component is
dropped only together with all others of it.

` + naming,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return with(cmd, func(m agent.Machine) error {
				all, err := located(cmd, m, args)
				if err != nil {
					return err
				}
				watched, end := c.watch(cmd.Context())
				total, err := forget(watched, m, all, dryRun)
				end()
				if err != nil {
					return err
				}
				return c.printPruned(total, dryRun)
			})
		},
	}
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only say what would be dropped and how much that frees")
	return cmd
}

// forget drops generations, component by component in the order that they were named in.
func forget(ctx context.Context, m agent.Machine, all []state.Generation, dryRun bool) (state.Pruned, error) {
	var refs []state.Ref
	numbers := map[state.Ref][]uint64{}
	for _, g := range all {
		if ref := refOf(g); !slices.Contains(numbers[ref], g.Number) {
			if numbers[ref] == nil {
				refs = append(refs, ref)
			}
			numbers[ref] = append(numbers[ref], g.Number)
		}
	}
	var total state.Pruned
	for _, ref := range refs {
		p, err := m.Store.Forget(ctx, ref, numbers[ref], dryRun)
		if err != nil {
			return total, err
		}
		total.Generations = append(total.Generations, p.Generations...)
		total.Snapshots += p.Snapshots
		total.Bytes += p.Bytes
	}
	return total, nil
}
